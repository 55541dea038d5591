//! Rounds, medians, percentiles.

use crate::Result;

/// The figures of all rounds of one side.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Rounds(Vec<f64>);

impl FromIterator<f64> for Rounds {
    fn from_iter<T: IntoIterator<Item = f64>>(values: T) -> Self {
        let mut values: Vec<f64> = values.into_iter().collect();
        values.sort_by(f64::total_cmp);
        Rounds(values)
    }
}

impl Rounds {
    /// The one in the middle; of two in the middle, what lies between.
    pub(crate) fn median(&self) -> f64 {
        let values = &self.0;
        assert!(!values.is_empty(), "a figure without a round");
        f64::midpoint(values[(values.len() - 1) / 2], values[values.len() / 2])
    }

    /// The least and the most.
    pub(crate) fn range(&self) -> (f64, f64) {
        (self.0[0], self.0[self.0.len() - 1])
    }

    /// The figures, each passed through `f`.
    pub(crate) fn map(&self, f: impl Fn(f64) -> f64) -> Rounds {
        self.0.iter().map(|value| f(*value)).collect()
    }
}

/// The value that `share` of the sorted `samples` do not exceed (nearest rank).
pub(crate) fn percentile(samples: &[u64], share: f64) -> u64 {
    assert!(!samples.is_empty() && samples.is_sorted());
    let rank = (share * samples.len() as f64).ceil() as usize;
    samples[rank.clamp(1, samples.len()) - 1]
}

/// Something that is measured once a round.
pub(crate) type Side<'a> = Box<dyn FnMut() -> Result<f64> + 'a>;

/// All sides in turns, `rounds` times, after one time each that is not counted.
pub(crate) fn in_turns<const N: usize>(
    rounds: usize,
    mut sides: [Side<'_>; N],
) -> Result<[Rounds; N]> {
    let mut values = [const { Vec::new() }; N];
    for round in 0..=rounds {
        for (side, values) in sides.iter_mut().zip(&mut values) {
            let value = side()?;
            if round > 0 {
                values.push(value);
            }
        }
    }
    Ok(values.map(|values| values.into_iter().collect()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::RefCell;

    #[test]
    fn the_median_is_the_one_in_the_middle() {
        let median = |values: &[f64]| values.iter().copied().collect::<Rounds>().median();
        assert_eq!(median(&[3.0, 1.0, 2.0]), 2.0);
        assert_eq!(median(&[4.0, 1.0, 2.0, 3.0]), 2.5);
        assert_eq!(median(&[7.0]), 7.0);
    }

    #[test]
    fn percentiles_are_nearest_ranks() {
        let samples: Vec<u64> = (1..=100).collect();
        assert_eq!(percentile(&samples, 0.5), 50);
        assert_eq!(percentile(&samples, 0.99), 99);
        assert_eq!(percentile(&samples, 1.0), 100);
        assert_eq!(percentile(&samples, 0.0), 1);
        assert_eq!(percentile(&[5], 0.5), 5);
    }

    #[test]
    fn sides_take_turns_and_the_first_round_does_not_count() {
        let order = RefCell::new(String::new());
        let side = |name: char| -> Side<'_> {
            let order = &order;
            Box::new(move || {
                order.borrow_mut().push(name);
                Ok(order.borrow().len() as f64)
            })
        };
        let [a, b] = in_turns(2, [side('a'), side('b')]).unwrap();
        assert_eq!(order.borrow().as_str(), "ababab");
        assert_eq!((a.range(), b.range()), ((3.0, 5.0), (4.0, 6.0)));
        let failed = in_turns(1, [side('a'), Box::new(|| Err("no".into()))]);
        assert_eq!(failed.unwrap_err().to_string(), "no");
    }
}
