//! Image files: found, decoded, brought to one shape.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;

use gpu_kernels::matcher::Shape;
use image::imageops::FilterType;
use image::{DynamicImage, ImageFormat, ImageReader};

/// An image file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImageFile {
    /// Where it is.
    pub path: PathBuf,
    /// Its path below the directory that was named.
    pub name: PathBuf,
}

/// Whether its name says that it is an image that can be decoded.
fn is_image(path: &Path) -> bool {
    ImageFormat::from_path(path).is_ok_and(|format| format.reading_enabled())
}

/// The images below a directory, in the order of their names.
///
/// # Errors
/// Those of reading a directory.
pub fn below(dir: &Path) -> io::Result<Vec<ImageFile>> {
    let mut found = Vec::new();
    let mut dirs = vec![dir.to_owned()];
    while let Some(next) = dirs.pop() {
        for entry in std::fs::read_dir(&next)? {
            let path = entry?.path();
            if path.is_dir() && !path.is_symlink() {
                dirs.push(path);
            } else if is_image(&path) && path.is_file() {
                let name = path.strip_prefix(dir).unwrap_or(&path).to_owned();
                found.push(ImageFile { path, name });
            }
        }
    }
    found.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(found)
}

/// Names, sizes and times of the files, as a number other than 0.
pub fn stamp(images: &[ImageFile]) -> u64 {
    let mut hasher = DefaultHasher::new();
    for image in images {
        image.name.hash(&mut hasher);
        if let Ok(meta) = image.path.metadata() {
            (meta.len(), meta.modified().ok()).hash(&mut hasher);
        }
    }
    hasher.finish().max(1)
}

/// Decodes an image.
///
/// # Errors
/// A message that names the file.
pub fn decode(path: &Path) -> Result<DynamicImage, String> {
    let read = || ImageReader::open(path)?.with_guessed_format()?.decode();
    read().map_err(|e| format!("{}: {e}; repair or remove it", path.display()))
}

/// The pixels of an image brought to `shape`, whose proportions it takes on. One that has that shape
/// is left as it is.
pub fn shaped(image: &DynamicImage, shape: Shape) -> Vec<u8> {
    // Without an alpha channel, what is transparent has whatever colour stands there.
    let image = match shape.channels {
        1 => DynamicImage::ImageLuma8(image.to_luma8()),
        _ => DynamicImage::ImageRgb8(image.to_rgb8()),
    };
    if (image.width(), image.height()) == (shape.width, shape.height) {
        return image.into_bytes();
    }
    image.resize_exact(shape.width, shape.height, FilterType::Triangle).into_bytes()
}

/// What became of an image file.
pub type Loaded = Result<Vec<u8>, String>;

/// Decodes all images, on all cores, and hands them on in their order.
pub fn load_all<E>(
    images: &[ImageFile],
    shape: Shape,
    mut take: impl FnMut(&ImageFile, Loaded) -> Result<(), E>,
) -> Result<(), E> {
    let workers = std::thread::available_parallelism().map_or(1, usize::from);
    let next = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        // Each decodes one image ahead of the others at most, so that few are held.
        let (to_us, from_workers) = mpsc::sync_channel(2 * workers);
        for _ in 0..workers {
            let (to_us, next) = (to_us.clone(), &next);
            scope.spawn(move || {
                while let Some((number, image)) = Some(next.fetch_add(1, Ordering::Relaxed))
                    .and_then(|n| Some((n, images.get(n)?)))
                {
                    let loaded = decode(&image.path).map(|image| shaped(&image, shape));
                    if to_us.send((number, loaded)).is_err() {
                        return;
                    }
                }
            });
        }
        drop(to_us);
        let mut waiting = std::collections::BTreeMap::new();
        let mut wanted = 0;
        for (number, loaded) in from_workers {
            waiting.insert(number, loaded);
            while let Some(loaded) = waiting.remove(&wanted) {
                take(&images[wanted], loaded)?;
                wanted += 1;
            }
        }
        Ok(())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gradient(width: u32, height: u32) -> DynamicImage {
        image::RgbImage::from_fn(width, height, |x, y| image::Rgb([x as u8, y as u8, 9])).into()
    }

    #[test]
    fn images_are_found_in_order_and_loaded_so() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("b")).unwrap();
        for name in ["c.png", "a.PNG", "b/x.bmp"] {
            gradient(20, 10).save(dir.path().join(name)).unwrap();
        }
        std::fs::write(dir.path().join("note.txt"), "no image").unwrap();
        std::fs::write(dir.path().join("d.jpg"), "no image either").unwrap();
        let images = below(dir.path()).unwrap();
        let names: Vec<_> = images.iter().map(|i| i.name.to_str().unwrap()).collect();
        assert_eq!(names, ["a.PNG", "b/x.bmp", "c.png", "d.jpg"]);

        let shape = Shape { width: 20, height: 10, channels: 3 };
        let mut all = Vec::new();
        load_all(&images, shape, |image, loaded| {
            all.push((image.name.clone(), loaded));
            Ok::<_, ()>(())
        })
        .unwrap();
        assert!(all.iter().map(|(name, _)| name).eq(images.iter().map(|i| &i.name)));
        assert!(all[..3].iter().all(|(_, l)| l.as_ref() == Ok(&gradient(20, 10).into_bytes())));
        assert!(all[3].1.as_ref().unwrap_err().contains("d.jpg"));

        let before = stamp(&images);
        std::fs::write(&images[3].path, "something else").unwrap();
        assert_ne!(stamp(&images), before);
    }

    #[test]
    fn images_take_on_the_shape() {
        for (width, height, channels) in [(7, 5, 1), (40, 30, 3), (20, 10, 3)] {
            let shape = Shape { width, height, channels };
            let pixels = shaped(&gradient(20, 10), shape);
            assert_eq!(Some(pixels.len() as u32), shape.pixel_bytes());
        }
    }
}
