//! Synthetic images that look like something: a gradient, shapes on it, some grain. A number says
//! which; the same number gives the same image at any size, but for its grain.

/// Numbers, each as good as random: splitmix64.
#[derive(Clone, Debug)]
pub struct Random(u64);

impl Random {
    /// Those that follow from `seed` and `stream`.
    pub fn new(seed: u64, stream: u64) -> Random {
        Random(mix(seed ^ mix(stream)))
    }

    /// The next one.
    pub fn word(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        mix(self.0)
    }

    /// The next one, below `end`.
    pub fn below(&mut self, end: u64) -> u64 {
        ((u128::from(self.word()) * u128::from(end)) >> 64) as u64
    }

    /// The next one, from 0 to 1.
    pub fn unit(&mut self) -> f32 {
        (self.word() >> 40) as f32 / (1 << 24) as f32
    }

    /// The next one, between two numbers.
    pub fn range(&mut self, from: f32, to: f32) -> f32 {
        from + self.unit() * (to - from)
    }
}

fn mix(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

type Color = [u8; 3];

/// Something on the picture, in parts of its sides.
#[derive(Clone, Copy, Debug)]
enum Outline {
    Disc {
        x: f32,
        y: f32,
        radius: f32,
    },
    Box {
        x: f32,
        y: f32,
        half_width: f32,
        half_height: f32,
    },
    /// Upright, its tip above.
    Triangle {
        x: f32,
        y: f32,
        half_width: f32,
        height: f32,
    },
}

impl Outline {
    /// Where it begins and ends in the row at height `y`.
    fn span(&self, at: f32) -> (f32, f32) {
        let (x, half) = match *self {
            Outline::Disc { x, y, radius } => {
                (x, (radius * radius - (at - y) * (at - y)).max(0.0).sqrt())
            }
            Outline::Box { x, y, half_width, half_height } => {
                (x, if (at - y).abs() <= half_height { half_width } else { 0.0 })
            }
            Outline::Triangle { x, y, half_width, height } => {
                let down = (at - y) / height;
                (x, if (0.0..=1.0).contains(&down) { half_width * down } else { 0.0 })
            }
        };
        (x - half, x + half)
    }
}

/// A picture.
#[derive(Clone, Debug)]
pub struct Scene {
    corners: [Color; 4],
    outlines: Vec<(Outline, Color)>,
    grain: Random,
}

/// The greatest deviation of a pixel that grain causes, of its own.
const GRAIN: u8 = 7;

impl Scene {
    /// The picture with this number.
    pub fn new(seed: u64, number: u64) -> Scene {
        let mut random = Random::new(seed, number);
        let base =
            [random.range(30.0, 220.0), random.range(30.0, 220.0), random.range(30.0, 220.0)];
        let color = |random: &mut Random, spread: f32| {
            base.map(|c| (c + random.range(-spread, spread)).clamp(0.0, 248.0) as u8)
        };
        let corners = std::array::from_fn(|_| color(&mut random, 70.0));
        let outlines = (0..3 + random.below(4)).map(|_| {
            let (x, y) = (random.unit(), random.unit());
            let (a, b) = (random.range(0.06, 0.3), random.range(0.06, 0.3));
            let outline = match random.below(3) {
                0 => Outline::Disc { x, y, radius: a },
                1 => Outline::Box { x, y, half_width: a, half_height: b },
                _ => Outline::Triangle { x, y: y - b, half_width: a, height: 2.0 * b },
            };
            (outline, color(&mut random, 160.0))
        });
        Scene { corners, outlines: outlines.collect(), grain: random }
    }

    /// Paints it with `channels` bytes a pixel, 1 (gray) or 3, and `noise` added: from 0 up to that, to
    /// each byte.
    pub fn paint(
        &self,
        width: usize,
        height: usize,
        channels: usize,
        noise: u8,
        out: &mut Vec<u8>,
    ) {
        let color = |color: Color| match channels {
            1 => [luma(color); 3],
            _ => color,
        };
        let corners = self.corners.map(color);
        out.clear();
        for row in 0..height {
            let y = (row as f32 + 0.5) / height as f32;
            let mix = |a: u8, b: u8, at: f32| f32::from(a) + (f32::from(b) - f32::from(a)) * at;
            let start = out.len();
            for channel in 0..channels {
                // In 1/65536, from pixel to pixel.
                let side = |top: usize| mix(corners[top][channel], corners[top + 2][channel], y);
                let (left, right) = (side(0), side(1));
                let step = ((right - left) / width as f32 * 65536.0) as i32;
                let mut value = (left * 65536.0) as i32;
                if channel == 0 {
                    out.resize(start + width * channels, 0);
                }
                for pixel in out[start + channel..].iter_mut().step_by(channels) {
                    *pixel = (value >> 16) as u8;
                    value += step;
                }
            }
            for (outline, paint) in &self.outlines {
                let (from, to) = outline.span(y);
                let pixel = |at: f32| (at.clamp(0.0, 1.0) * width as f32) as usize;
                let span = &mut out[start..][pixel(from) * channels..pixel(to) * channels];
                let paint = color(*paint);
                if channels == 1 {
                    span.fill(paint[0]);
                } else {
                    span.chunks_exact_mut(3).for_each(|pixel| pixel.copy_from_slice(&paint));
                }
            }
        }
        add_noise(out, GRAIN, self.grain.clone());
        if noise > 0 {
            add_noise(out, noise, Random::new(self.grain.0, u64::from(noise)));
        }
    }
}

fn luma([r, g, b]: Color) -> u8 {
    ((2126 * u32::from(r) + 7152 * u32::from(g) + 722 * u32::from(b)) / 10000) as u8
}

/// Adds to each byte a number up to `most`.
fn add_noise(bytes: &mut [u8], most: u8, mut random: Random) {
    let scale = u16::from(most) + 1;
    for chunk in bytes.chunks_mut(8) {
        for (byte, noise) in chunk.iter_mut().zip(random.word().to_le_bytes()) {
            *byte = byte.saturating_add(((u16::from(noise) * scale) >> 8) as u8);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn painted(number: u64, side: usize, channels: usize, noise: u8) -> Vec<u8> {
        let mut out = Vec::new();
        Scene::new(1, number).paint(side, side, channels, noise, &mut out);
        assert_eq!(out.len(), side * side * channels);
        out
    }

    #[test]
    fn the_same_number_gives_the_same_image() {
        assert_eq!(painted(3, 64, 1, 5), painted(3, 64, 1, 5));
        assert_ne!(painted(3, 64, 3, 0), painted(4, 64, 3, 0));
        assert_ne!(painted(3, 64, 1, 0), painted(3, 64, 1, 5));
    }

    #[test]
    fn noise_is_bounded() {
        let (clean, noisy) = (painted(9, 64, 1, 0), painted(9, 64, 1, 20));
        let most = clean.iter().zip(&noisy).map(|(a, b)| b - a).max();
        assert!(most.is_some_and(|most| (15..=20).contains(&most)), "{most:?}");
    }
}
