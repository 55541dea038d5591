//! Databases of any size, with images in them that are known to be there.

use std::collections::HashMap;
use std::path::Path;

use gpu_kernels::matcher::Shape;
use image::ColorType;

use super::library::EXTENSION;
use super::records::RecordWriter;
use super::scene::{Random, Scene};

/// What to make.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// Images of a database.
    pub images: u64,
    /// How many databases.
    pub databases: u64,
    /// Images to look for.
    pub queries: u64,
    /// All follows from it.
    pub seed: u64,
    /// The shape of the records; pictures have the same, unless they are `pictures`.
    pub shape: Shape,
    /// Databases are directories of pictures in colour, four times as wide and high as the records that
    /// will be made of them, instead of record files.
    pub pictures: bool,
}

/// The greatest noise in a query, and what is added to that in each further copy.
const NOISE: u8 = 12;

/// A copy of a query's image in a database: the number of its scene, and its noise.
#[derive(Clone, Copy)]
struct Planted {
    scene: u64,
    noise: u8,
}

impl Plan {
    /// The number of the scene of a query: no record has it by itself.
    fn query_scene(&self, query: u64) -> u64 {
        self.images * self.databases + query
    }

    /// The noise of the query itself: every other one is as it is in the database.
    fn query_noise(query: u64) -> u8 {
        if query % 2 == 1 { NOISE } else { 0 }
    }

    /// Where copies of the queries' images are. One of four queries is in no database; the others are in
    /// all of them, without noise in the first of these, with more in each further one.
    fn planted(&self) -> HashMap<(u64, u64), Planted> {
        let mut planted = HashMap::new();
        if self.images == 0 {
            return planted;
        }
        for query in (0..self.queries).filter(|query| query % 4 != 3) {
            let mut random = Random::new(self.seed, u64::MAX - query);
            for copy in 0..self.databases {
                let database = (query + copy) % self.databases;
                let first = random.below(self.images);
                let mut places = (0..self.images).map(|n| (database, (first + n) % self.images));
                let Some(place) = places.find(|place| !planted.contains_key(place)) else {
                    continue;
                };
                let noise = (copy as u8).saturating_mul(2 * NOISE).min(96);
                planted.insert(place, Planted { scene: self.query_scene(query), noise });
            }
        }
        planted
    }

    fn paint(&self, planted: &HashMap<(u64, u64), Planted>, at: (u64, u64), out: &mut Vec<u8>) {
        let own = Planted { scene: at.0 * self.images + at.1, noise: 0 };
        let Planted { scene, noise } = planted.get(&at).copied().unwrap_or(own);
        let (width, height, channels) = self.size();
        Scene::new(self.seed, scene).paint(width, height, channels, noise, out);
    }

    /// Width, height and bytes a pixel of the pictures.
    fn size(&self) -> (usize, usize, usize) {
        let Shape { width, height, channels } = self.shape;
        let (width, height) = (width as usize, height as usize);
        if self.pictures { (4 * width, 4 * height, 3) } else { (width, height, channels as usize) }
    }

    fn save(&self, path: &Path, pixels: &[u8]) -> Result<(), String> {
        let (width, height, channels) = self.size();
        let color = if channels == 1 { ColorType::L8 } else { ColorType::Rgb8 };
        image::save_buffer(path, pixels, width as u32, height as u32, color)
            .map_err(|e| format!("{}: {e}", path.display()))
    }

    /// Makes `dir/queries` with pictures, and `dir/databases`.
    ///
    /// # Errors
    /// A message that names the file.
    pub fn make(&self, dir: &Path) -> Result<(), String> {
        let make_dir = |dir: &Path| {
            std::fs::create_dir_all(dir).map_err(|e| format!("{}: {e}", dir.display()))
        };
        let (queries, databases) = (dir.join("queries"), dir.join("databases"));
        make_dir(&queries)?;
        make_dir(&databases)?;
        let (width, height, channels) = self.size();
        let mut pixels = Vec::new();
        for query in 0..self.queries {
            let scene = Scene::new(self.seed, self.query_scene(query));
            scene.paint(width, height, channels, Plan::query_noise(query), &mut pixels);
            self.save(&queries.join(format!("query-{query:02}.png")), &pixels)?;
        }
        let planted = self.planted();
        for database in 0..self.databases {
            if self.pictures {
                let dir = databases.join(format!("database-{database}"));
                make_dir(&dir)?;
                self.in_order(database, &planted, |image, pixels| {
                    self.save(&dir.join(format!("image-{image:07}.png")), pixels)
                })?;
            } else {
                let path = databases.join(format!("database-{database}.{EXTENSION}"));
                let mut out =
                    RecordWriter::new(&path, self.shape, None, 0).map_err(|e| e.to_string())?;
                self.in_order(database, &planted, |image, pixels| {
                    out.push(format!("image-{image:07}").as_bytes(), pixels)
                        .map_err(|e| e.to_string())
                })?;
                out.finish().map_err(|e| e.to_string())?;
            }
        }
        Ok(())
    }

    /// Paints the images of a database, on all cores, and hands them on in order.
    fn in_order(
        &self,
        database: u64,
        planted: &HashMap<(u64, u64), Planted>,
        mut take: impl FnMut(u64, &[u8]) -> Result<(), String>,
    ) -> Result<(), String> {
        /// Images that a thread paints at a time.
        const BATCH: u64 = 256;
        let batches = self.images.div_ceil(BATCH);
        let workers = std::thread::available_parallelism().map_or(1, usize::from);
        std::thread::scope(|scope| {
            let mut from_workers = Vec::new();
            for worker in 0..workers as u64 {
                let (to_us, from_worker) = std::sync::mpsc::sync_channel(2);
                from_workers.push(from_worker);
                scope.spawn(move || {
                    for batch in (worker..batches).step_by(workers) {
                        let images = batch * BATCH..((batch + 1) * BATCH).min(self.images);
                        let mut all = Vec::new();
                        for image in images {
                            let mut pixels = Vec::new();
                            self.paint(planted, (database, image), &mut pixels);
                            all.push((image, pixels));
                        }
                        if to_us.send(all).is_err() {
                            return;
                        }
                    }
                });
            }
            for batch in 0..batches {
                let all = from_workers[batch as usize % workers].recv().unwrap_or_default();
                for (image, pixels) in all {
                    take(image, &pixels)?;
                }
            }
            Ok(())
        })
    }
}
