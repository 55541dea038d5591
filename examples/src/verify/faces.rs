//! Synthetic faces: a head on a background, with hair, eyes, brows, nose and mouth, all of it the person's;
//! light, place and grain differ from picture to picture.

use crate::matcher::scene::Random;

/// A person.
#[derive(Clone, Debug)]
pub struct Face {
    skin: f32,
    hair: f32,
    background: f32,
    /// Half the width and height of the head, in parts of the picture's sides.
    head: (f32, f32),
    hairline: f32,
    eyes: Eyes,
    brow: f32,
    nose: (f32, f32),
    mouth: (f32, f32, f32),
    /// What skin and hair look like from near.
    texture: Texture,
    /// What pictures differ by.
    pictures: Random,
}

#[derive(Clone, Copy, Debug)]
struct Eyes {
    height: f32,
    apart: f32,
    size: f32,
    colour: f32,
}

/// Waves on the skin: three directions, each with a length and a phase.
#[derive(Clone, Copy, Debug)]
struct Texture([(f32, f32, f32); 3]);

impl Texture {
    fn at(&self, x: f32, y: f32) -> f32 {
        self.0.iter().map(|(fx, fy, phase)| wave(fx * x + fy * y + phase)).sum()
    }
}

/// A wave of length 1 from −1 to 1, of parabolas: the same on every machine, as a sine need not be.
fn wave(at: f32) -> f32 {
    let at = at - at.floor();
    let half = if at < 0.5 { at } else { at - 0.5 };
    let arch = 16.0 * half * (0.5 - half);
    if at < 0.5 { arch } else { -arch }
}

impl Face {
    /// The person with this number.
    #[must_use]
    pub fn new(seed: u64, person: u64) -> Face {
        let mut random = Random::new(seed, person);
        let mut between = |from: f32, to: f32| random.range(from, to);
        let wave = |between: &mut dyn FnMut(f32, f32) -> f32| {
            (between(-9.0, 9.0), between(-9.0, 9.0), between(0.0, 1.0))
        };
        Face {
            skin: between(110.0, 210.0),
            hair: between(15.0, 120.0),
            background: between(40.0, 220.0),
            head: (between(0.27, 0.36), between(0.36, 0.45)),
            hairline: between(0.45, 0.85),
            eyes: Eyes {
                height: between(0.40, 0.47),
                apart: between(0.12, 0.18),
                size: between(0.028, 0.05),
                colour: between(10.0, 90.0),
            },
            brow: between(0.05, 0.09),
            nose: (between(0.03, 0.06), between(0.12, 0.2)),
            mouth: (between(0.08, 0.15), between(0.70, 0.76), between(0.012, 0.035)),
            texture: Texture(std::array::from_fn(|_| wave(&mut between))),
            pictures: random,
        }
    }

    /// A picture of the person, a byte a pixel; the same number gives the same picture.
    #[must_use]
    pub fn picture(&self, number: u64, width: u32, height: u32) -> Vec<u8> {
        let mut random = Random::new(self.pictures.clone().word(), number);
        let (dx, dy) = (random.range(-0.012, 0.012), random.range(-0.012, 0.012));
        let (light, slope) = (random.range(0.85, 1.15), random.range(-0.25, 0.25));
        let mut pixels = Vec::with_capacity(width as usize * height as usize);
        for row in 0..height {
            for column in 0..width {
                let x = (column as f32 + 0.5) / width as f32 + dx;
                let y = (row as f32 + 0.5) / height as f32 + dy;
                let lit = self.at(x, y) * (light + slope * (x - 0.5));
                // Grain of two bits, as a camera in good light has.
                let grain = (random.word() >> 62) as f32;
                pixels.push((lit + grain).clamp(0.0, 255.0) as u8);
            }
        }
        pixels
    }

    /// How bright the person is at a place, without light and grain.
    fn at(&self, x: f32, y: f32) -> f32 {
        let within = |cx: f32, cy: f32, rx: f32, ry: f32| {
            let (u, v) = ((x - cx) / rx, (y - cy) / ry);
            u * u + v * v
        };
        let texture = self.texture.at(x, y);
        let head = within(0.5, 0.52, self.head.0, self.head.1);
        if head > 1.0 {
            let hair = within(0.5, 0.46, self.head.0 * 1.12, self.head.1 * 1.1) <= 1.0 && y < 0.5;
            return if hair {
                self.hair + 6.0 * texture
            } else {
                self.background + 20.0 * (y - 0.5)
            };
        }
        if y < 0.52 - self.head.1 * self.hairline {
            return self.hair + 6.0 * texture;
        }
        // To the side of the nose the eyes mirror each other.
        let (aside, eyes) = ((x - 0.5).abs(), self.eyes);
        let eye = {
            let (u, v) = ((aside - eyes.apart) / (1.8 * eyes.size), (y - eyes.height) / eyes.size);
            u * u + v * v
        };
        if eye <= 1.0 {
            let pupil = within_half(aside - eyes.apart, y - eyes.height, 0.55 * eyes.size);
            return if pupil { eyes.colour } else { 225.0 };
        }
        let above = eyes.height - self.brow;
        if (aside - eyes.apart).abs() < 2.2 * eyes.size && (y - above).abs() < 0.012 {
            return self.hair;
        }
        let (nose_width, nose_length) = self.nose;
        let down = (y - eyes.height) / nose_length;
        if (0.0..=1.0).contains(&down) && aside < nose_width * down {
            return self.skin - 28.0 * (1.0 - aside / nose_width);
        }
        let (mouth_width, mouth_height, lips) = self.mouth;
        if aside < mouth_width
            && (y - mouth_height).abs() < lips * (1.0 - aside / mouth_width) + 0.004
        {
            return 0.55 * self.skin;
        }
        // Round, and darker to the rim.
        self.skin - 35.0 * head + 5.0 * texture
    }
}

fn within_half(dx: f32, dy: f32, radius: f32) -> bool {
    dx * dx + dy * dy <= radius * radius
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_numbers_give_the_same_picture() {
        let picture = |seed, person, number| Face::new(seed, person).picture(number, 40, 30);
        let one = picture(1, 2, 3);
        assert_eq!(one.len(), 1200);
        assert_eq!(one, picture(1, 2, 3));
        for other in [picture(2, 2, 3), picture(1, 3, 3), picture(1, 2, 4)] {
            assert_ne!(one, other);
        }
    }
}
