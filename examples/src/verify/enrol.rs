//! Stores of synthetic faces, and of image files.

use std::path::Path;

use gpu_kernels::verify::lbp::{Method, Shape};
use gpu_kernels::verify::store::Header;

use super::faces::Face;
use super::store::{StoreError, StoreWriter, counts};
use crate::matcher::images::{self, ImageFile};

/// What a store is made of.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// Sides of the images, and cells.
    pub shape: Shape,
    /// How patterns are sorted.
    pub method: Method,
}

/// The identity of a synthetic face.
#[must_use]
pub fn name(person: u64) -> String {
    format!("face-{person:07}")
}

/// How many references are made at a time.
const BATCH: u64 = 1024;

impl Plan {
    /// Makes a store of synthetic faces: picture 0 of each person.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn generate(&self, dir: &Path, persons: u64, seed: u64) -> Result<Header, StoreError> {
        let Plan { shape, method } = *self;
        let mut writer = StoreWriter::new(dir, shape, method, seed, persons as usize)?;
        let threads = std::thread::available_parallelism().map_or(1, usize::from) as u64;
        for start in (0..persons).step_by(BATCH as usize) {
            let end = (start + BATCH).min(persons);
            let share = |thread| {
                let persons = (start + thread..end).step_by(threads as usize);
                let reference = |person| {
                    let face = Face::new(seed, person).picture(0, shape.width, shape.height);
                    (person, counts(&face, shape, method))
                };
                persons.map(reference).collect::<Vec<_>>()
            };
            let mut made: Vec<_> = std::thread::scope(|scope| {
                let shares: Vec<_> = (0..threads).map(|n| scope.spawn(move || share(n))).collect();
                let joined = shares.into_iter().map(|share| {
                    share.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
                });
                joined.flatten().collect()
            });
            made.sort_by_key(|(person, _)| *person);
            for (person, counts) in made {
                writer.push(&name(person), &counts)?;
            }
        }
        writer.finish()
    }

    /// Makes a store of the images below a directory, in gray and brought to one size; messages about those
    /// that are left out. An identity is called as its file, without the ending.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn enrol(&self, dir: &Path, from: &Path) -> Result<(Header, Vec<String>), StoreError> {
        let Plan { shape, method } = *self;
        let found = found(from)?;
        let mut writer = StoreWriter::new(dir, shape, method, 0, found.len())?;
        let mut messages = Vec::new();
        images::load_all(&found, gray(shape), |image, loaded| {
            match loaded {
                Ok(pixels) => writer.push(&id(image), &counts(&pixels, shape, method))?,
                Err(message) => messages.push(message),
            }
            Ok(())
        })?;
        Ok((writer.finish()?, messages))
    }
}

/// The images below a directory.
///
/// # Errors
/// [`StoreError::Io`].
pub fn found(dir: &Path) -> Result<Vec<ImageFile>, StoreError> {
    images::below(dir).map_err(|source| StoreError::Io { path: dir.display().to_string(), source })
}

/// The identity that an image shows.
#[must_use]
pub fn id(image: &ImageFile) -> String {
    image.path.file_stem().unwrap_or_default().to_string_lossy().into_owned()
}

/// How images are decoded for a store.
#[must_use]
pub fn gray(shape: Shape) -> gpu_kernels::matcher::Shape {
    gpu_kernels::matcher::Shape { width: shape.width, height: shape.height, channels: 1 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::verify::reference;
    use crate::verify::store::Store;

    const PLAN: Plan = Plan {
        shape: Shape { width: 32, height: 32, columns: 4, rows: 4 },
        method: Method::NriUniform,
    };

    #[test]
    fn generated_references_are_those_of_the_faces() {
        let dir = tempfile::tempdir().unwrap();
        PLAN.generate(dir.path(), 20, 3).unwrap();
        let store = Store::open(dir.path()).unwrap();
        assert_eq!(store.ids().unwrap(), (0..20).map(name).collect::<Vec<_>>());
        for person in 0..20 {
            let face = Face::new(3, u64::from(person)).picture(0, 32, 32);
            let expected = reference::counts(&face, PLAN.shape, PLAN.method);
            assert_eq!(store.reference(person).unwrap(), expected);
        }
    }

    #[test]
    fn images_are_enrolled_by_name() {
        let dir = tempfile::tempdir().unwrap();
        let pictures = dir.path().join("pictures");
        std::fs::create_dir_all(pictures.join("more")).unwrap();
        let gray =
            |value| image::GrayImage::from_fn(32, 32, |x, y| image::Luma([(x * y) as u8 ^ value]));
        gray(1).save(pictures.join("anna.png")).unwrap();
        gray(2).save(pictures.join("more/bert.pgm")).unwrap();
        std::fs::write(pictures.join("broken.jpg"), "no image").unwrap();
        let store = dir.path().join("store");
        let (header, messages) = PLAN.enrol(&store, &pictures).unwrap();
        assert_eq!((header.count, messages.len()), (2, 1));
        assert!(messages[0].contains("broken.jpg"));
        let made = Store::open(&store).unwrap();
        assert_eq!(made.ids().unwrap(), ["anna", "bert"]);
        let expected = reference::counts(gray(2).as_raw(), PLAN.shape, PLAN.method);
        assert_eq!(made.reference(1).unwrap(), expected);

        gray(3).save(pictures.join("more/anna.png")).unwrap();
        let refused = PLAN.enrol(&store, &pictures).unwrap_err().to_string();
        assert!(refused.contains("'anna'") && refused.contains("rename"), "{refused}");
    }
}
