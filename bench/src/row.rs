//! One line of the table: a figure, its peer's, its aim.

use crate::stats::Rounds;
use std::fmt::Write;

/// What a figure should reach.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Aim {
    /// The figure itself is at most this.
    AtMost(f64),
    /// The figure itself is at least this.
    AtLeast(f64),
    /// It is at least so many times as good as the peer's.
    Ratio(f64),
}

/// Which figures are good.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Better {
    /// Rates.
    More,
    /// Times and sizes.
    Less,
}

/// One figure.
#[derive(Clone, Debug)]
pub(crate) struct Row {
    name: String,
    unit: &'static str,
    better: Better,
    rounds: Rounds,
    peer: Option<(String, Rounds)>,
    aim: Option<Aim>,
    note: String,
}

impl Row {
    /// A figure of these rounds, in `unit`.
    pub(crate) fn new(
        name: impl Into<String>,
        unit: &'static str,
        better: Better,
        rounds: Rounds,
    ) -> Row {
        Row { name: name.into(), unit, better, rounds, peer: None, aim: None, note: String::new() }
    }

    /// What it is compared with.
    #[must_use]
    pub(crate) fn peer(mut self, peer: impl Into<String>, rounds: Rounds) -> Row {
        self.peer = Some((peer.into(), rounds));
        self
    }

    /// What it should reach.
    #[must_use]
    pub(crate) fn aim(mut self, aim: Aim) -> Row {
        self.aim = Some(aim);
        self
    }

    /// Under which conditions.
    #[must_use]
    pub(crate) fn note(mut self, note: impl Into<String>) -> Row {
        self.note = note.into();
        self
    }

    /// How many times as good as the peer.
    fn ratio(&self) -> Option<f64> {
        let peer = self.peer.as_ref()?.1.median();
        let own = self.rounds.median();
        Some(match self.better {
            Better::More => own / peer,
            Better::Less => peer / own,
        })
    }

    fn met(&self) -> Option<bool> {
        let own = self.rounds.median();
        Some(match self.aim? {
            Aim::AtMost(most) => own <= most,
            Aim::AtLeast(least) => own >= least,
            Aim::Ratio(least) => self.ratio()? >= least,
        })
    }
}

/// Three digits that matter.
fn digits(value: f64) -> String {
    let size = value.abs();
    let places = match size {
        _ if size >= 100.0 => 0,
        _ if size >= 10.0 => 1,
        _ if size >= 1.0 => 2,
        _ => 3,
    };
    let text = format!("{value:.places$}");
    // 58000 → 58,000
    let (whole, rest) = text.split_at(text.find('.').unwrap_or(text.len()));
    let mut out = String::new();
    for (i, digit) in whole.chars().enumerate() {
        if i > 0 && digit != '-' && (whole.len() - i).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out + rest
}

fn figure(rounds: &Rounds, unit: &str) -> String {
    let (least, most) = rounds.range();
    if least == most {
        format!("{} {unit}", digits(least))
    } else {
        format!("{} {unit} ({}–{})", digits(rounds.median()), digits(least), digits(most))
    }
}

/// The rows as a table.
pub(crate) fn markdown(rows: &[Row]) -> String {
    let mut out = String::from("| measure | figure | peer | peer's | ratio | aim | met | how |\n");
    out.push_str("|---|---:|---|---:|---:|---:|:-:|---|\n");
    for row in rows {
        let (peer, theirs) = match &row.peer {
            Some((peer, rounds)) => (peer.as_str(), figure(rounds, row.unit)),
            None => ("–", "–".into()),
        };
        let aim = match row.aim {
            Some(Aim::AtMost(value)) => format!("≤ {} {}", digits(value), row.unit),
            Some(Aim::AtLeast(value)) => format!("≥ {} {}", digits(value), row.unit),
            Some(Aim::Ratio(value)) => format!("≥ {value}×"),
            None => "–".into(),
        };
        let ratio = row.ratio().map_or("–".into(), |ratio| format!("{ratio:.2}×"));
        let met = row.met().map_or("", |met| if met { "yes" } else { "**no**" });
        let own = figure(&row.rounds, row.unit);
        let (name, note) = (&row.name, &row.note);
        writeln!(out, "| {name} | {own} | {peer} | {theirs} | {ratio} | {aim} | {met} | {note} |")
            .expect("a string takes everything");
    }
    out
}

/// The rows as a JSON array of `{name, value, unit, peer, peer_value, ratio, aim, met}`, with `note`.
///
/// `aim` is compared with `ratio` where there is a peer, with `value` where there is none.
pub(crate) fn json(rows: &[Row]) -> String {
    let all: Vec<_> = rows
        .iter()
        .map(|row| {
            let aim = row.aim.map(|(Aim::AtMost(v) | Aim::AtLeast(v) | Aim::Ratio(v))| v);
            serde_json::json!({
                "name": row.name,
                "value": row.rounds.median(),
                "unit": row.unit,
                "peer": row.peer.as_ref().map(|(peer, _)| peer),
                "peer_value": row.peer.as_ref().map(|(_, rounds)| rounds.median()),
                "ratio": row.ratio(),
                "aim": aim,
                "met": row.met(),
                "note": row.note,
            })
        })
        .collect();
    format!("{:#}\n", serde_json::Value::Array(all))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rounds(values: &[f64]) -> Rounds {
        values.iter().copied().collect()
    }

    #[test]
    fn digits_that_matter() {
        for (value, text) in [
            (0.12345, "0.123"),
            (1.5, "1.50"),
            (12.34, "12.3"),
            (999.6, "1,000"),
            (58_000.0, "58,000"),
            (1_234_567.0, "1,234,567"),
            (-1234.0, "-1,234"),
            (0.0, "0.000"),
        ] {
            assert_eq!(digits(value), text);
        }
    }

    #[test]
    fn a_time_is_good_when_it_is_short() {
        let row = Row::new("t", "s", Better::Less, rounds(&[2.0])).peer("p", rounds(&[3.0]));
        assert_eq!(row.ratio(), Some(1.5));
        assert_eq!(row.clone().aim(Aim::Ratio(1.5)).met(), Some(true));
        assert_eq!(row.clone().aim(Aim::Ratio(1.6)).met(), Some(false));
        assert_eq!(row.clone().aim(Aim::AtMost(2.0)).met(), Some(true));
        assert_eq!(row.met(), None);
    }

    #[test]
    fn a_rate_is_good_when_it_is_high() {
        let row = Row::new("r", "M/s", Better::More, rounds(&[1.0, 3.0, 2.0]));
        assert_eq!(row.ratio(), None);
        assert_eq!(row.clone().aim(Aim::AtLeast(2.0)).met(), Some(true));
        assert_eq!(row.clone().aim(Aim::Ratio(2.0)).met(), None, "no peer, no ratio");
        assert_eq!(row.peer("p", rounds(&[4.0])).ratio(), Some(0.5));
    }

    #[test]
    fn tables_say_what_is_missing() {
        let row = Row::new("r", "µs", Better::Less, rounds(&[1.0])).aim(Aim::AtMost(2.0)).note("n");
        let table = markdown(std::slice::from_ref(&row));
        assert_eq!(table.lines().last(), Some("| r | 1.00 µs | – | – | – | ≤ 2.00 µs | yes | n |"));
        let value: serde_json::Value = serde_json::from_str(&json(&[row])).unwrap();
        let first = &value[0];
        assert_eq!((&first["name"], &first["met"]), (&"r".into(), &true.into()));
        for absent in ["peer", "peer_value", "ratio"] {
            assert!(first.as_object().unwrap().contains_key(absent) && first[absent].is_null());
        }
    }
}
