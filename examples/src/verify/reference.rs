//! Patterns and distances by plain code, as their definition reads: what a server's answers are checked
//! against. Nothing here is shared with the kernel.

use gpu_kernels::verify::lbp::{Method, Shape};

/// A neighbour on the circle: rows and columns from the pixel, rounded to five digits.
fn neighbours() -> [(f64, f64); 8] {
    std::array::from_fn(|i| {
        let angle = 2.0 * std::f64::consts::PI * i as f64 / 8.0;
        let rounded = |value: f64| (value * 1e5).round() / 1e5;
        (rounded(-angle.sin()), rounded(angle.cos()))
    })
}

/// The pattern of each pixel: eight neighbours at radius 1, bilinearly interpolated, zero beyond the border.
#[must_use]
pub fn patterns(pixels: &[u8], width: usize, height: usize) -> Vec<u8> {
    let pixel = |row: i64, column: i64| {
        let is_within = (0..height as i64).contains(&row) && (0..width as i64).contains(&column);
        if is_within { f64::from(pixels[row as usize * width + column as usize]) } else { 0.0 }
    };
    let interpolated = |y: f64, x: f64| {
        let (top, left, bottom, right) = (y.floor(), x.floor(), y.ceil(), x.ceil());
        let (dy, dx) = (y - top, x - left);
        let line = |row: f64| {
            let (row, left, right) = (row as i64, left as i64, right as i64);
            (1.0 - dx) * pixel(row, left) + dx * pixel(row, right)
        };
        (1.0 - dy) * line(top) + dy * line(bottom)
    };
    let neighbours = neighbours();
    let mut all = Vec::with_capacity(width * height);
    for row in 0..height {
        for column in 0..width {
            let pixel = pixel(row as i64, column as i64);
            let bits = neighbours.iter().enumerate().map(|(i, (y, x))| {
                let neighbour = interpolated(row as f64 + y, column as f64 + x);
                u8::from(neighbour - pixel >= 0.0) << i
            });
            all.push(bits.sum());
        }
    }
    all
}

/// The bin of a pattern.
#[must_use]
pub fn label(method: Method, pattern: u8) -> u8 {
    let bit = |i: usize| pattern >> (i % 8) & 1;
    let ones: u8 = (0..8).map(bit).sum();
    let changes = (0..8).filter(|i| bit(*i) != bit(i + 1)).count();
    match method {
        Method::Default => pattern,
        Method::Uniform => {
            if changes <= 2 {
                ones
            } else {
                9
            }
        }
        Method::NriUniform if changes > 2 => 58,
        Method::NriUniform if ones == 0 => 0,
        Method::NriUniform if ones == 8 => 57,
        Method::NriUniform => {
            // The run of set bits begins where the bit before is not set.
            let begins = (0..8).find(|i| bit(*i) == 1 && bit(i + 7) == 0).unwrap_or(0);
            1 + (ones - 1) * 8 + ((8 - begins) % 8) as u8
        }
    }
}

/// The counts of each cell, cell after cell.
#[must_use]
pub fn counts(pixels: &[u8], shape: Shape, method: Method) -> Vec<u16> {
    let (width, height) = (shape.width as usize, shape.height as usize);
    let (cell_width, cell_height) = (width / shape.columns as usize, height / shape.rows as usize);
    let mut counts = vec![0; shape.cells() * method.bins()];
    for (at, pattern) in patterns(pixels, width, height).into_iter().enumerate() {
        let (row, column) = (at / width, at % width);
        let cell = row / cell_height * shape.columns as usize + column / cell_width;
        counts[cell * method.bins() + usize::from(label(method, pattern))] += 1;
    }
    counts
}

/// The distance of two images' counts, in 1/65,536, each summand rounded down.
#[must_use]
pub fn distance(a: &[u16], b: &[u16]) -> u64 {
    let mut sum = 0;
    for (a, b) in a.iter().zip(b) {
        let (a, b) = (i64::from(*a), i64::from(*b));
        if a + b > 0 {
            sum += ((a - b) * (a - b) * 65_536 / (a + b)) as u64;
        }
    }
    sum
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::matcher::scene::Random;
    use crate::verify::store;
    use gpu_kernels::verify::lbp::chi_square;
    use proptest::prelude::*;

    /// Compares the kernel's counts with these, in cells of one pixel: the patterns themselves.
    fn compare(pixels: &[u8], width: usize, height: usize) {
        let (columns, rows) = (width as u32, height as u32);
        let shape = Shape { width: columns, height: rows, columns, rows };
        let ours = store::counts(pixels, shape, Method::Default);
        for (at, pattern) in patterns(pixels, width, height).into_iter().enumerate() {
            let cell = &ours[at * 256..][..256];
            let is_there = cell[usize::from(pattern)] == 1;
            assert!(is_there, "row {}, column {}: {pattern:#010b}", at / width, at % width);
        }
    }

    #[test]
    fn labels_are_those_of_the_kernel() {
        for method in Method::ALL {
            for pattern in 0..=255 {
                let kernel = method.labels()[usize::from(pattern)];
                assert_eq!(kernel, label(method, pattern), "{method:?} {pattern:#b}");
            }
        }
    }

    /// In even areas interpolated neighbours are as bright as the pixel, but for how sums are rounded. That
    /// depends on value, row and column: every value at every place whose coordinates are rounded differently.
    #[test]
    fn patterns_of_even_areas_are_those_of_the_kernel() {
        for value in 0..=255 {
            compare(&vec![value; 67 * 70], 67, 70);
        }
        for (width, height) in [(4099, 3), (3, 4099), (1, 1), (1, 9), (9, 1), (2, 2)] {
            compare(&vec![201; width * height], width, height);
        }
    }

    /// Few values, so that many neighbours are equal.
    #[test]
    fn patterns_of_random_areas_are_those_of_the_kernel() {
        for values in [2u64, 3, 5, 256] {
            let mut random = Random::new(values, 1);
            for (width, height) in [(130, 70), (600, 40), (33, 65), (7, 5)] {
                let pixels: Vec<u8> = (0..width * height)
                    .map(|_| (random.below(values) * (255 / (values - 1))) as u8)
                    .collect();
                compare(&pixels, width, height);
            }
        }
    }

    proptest! {
        #[test]
        fn counts_and_distances_are_those_of_the_kernel(
            (columns, rows) in (1u32..5, 1u32..5),
            (cell_width, cell_height) in (1u32..40, 1u32..20),
            method in 0u32..3,
            seed in any::<u64>(),
        ) {
            let shape =
                Shape { width: columns * cell_width, height: rows * cell_height, columns, rows };
            let method = Method::from_raw(method).unwrap();
            let image = |stream| {
                let mut random = Random::new(seed, stream);
                (0..shape.pixels()).map(|_| random.below(7) as u8 * 40).collect::<Vec<_>>()
            };
            let [a, b] = [1, 2].map(|stream| {
                let ours = store::counts(&image(stream), shape, method);
                assert_eq!(ours, counts(&image(stream), shape, method));
                ours
            });
            prop_assert_eq!(chi_square(&a, &b), distance(&a, &b));
            prop_assert!(distance(&a, &b) <= 2 * shape.pixels() as u64 * 65_536);
        }
    }
}
