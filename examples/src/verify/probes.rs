//! Requests whose replies are known before they are sent.

use std::path::Path;

use bytemuck::Zeroable;
use gpu_kernels::verify::lbp::Shape;
use gpu_kernels::verify::wire::{MAGIC, Reply, Request, Status, THRESHOLD_OF_SERVER, VERSION};

use super::enrol::{self, found, gray};
use super::faces::Face;
use super::reference;
use super::store::{Store, StoreError};
use crate::matcher::images;
use crate::matcher::scene::Random;

/// What a probe claims.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Claim {
    /// To be the person that it shows.
    Genuine,
    /// To be another person.
    Impostor,
    /// To be nobody who is known.
    Unknown,
}

/// A request, and its reply.
#[derive(Clone, Debug)]
pub struct Probe {
    /// What it claims.
    pub claim: Claim,
    /// Its bytes. The tag is zero.
    pub request: Vec<u8>,
    /// The threshold that it asks for.
    threshold: u64,
    /// The distance; none for an identity that is unknown.
    distance: Option<u64>,
}

/// The bytes of a request.
#[must_use]
pub fn request(id: &[u8], shape: Shape, threshold: u64, pixels: &[u8]) -> Vec<u8> {
    let head = Request {
        magic: MAGIC,
        version: VERSION,
        id_len: id.len() as u16,
        width: shape.width as u16,
        height: shape.height as u16,
        threshold,
        ..Request::zeroed()
    };
    [bytemuck::bytes_of(&head), id, pixels].concat()
}

impl Probe {
    /// The reply to expect, where the threshold that counted is that of `found` if the probe asks for the
    /// server's.
    #[must_use]
    pub fn reply(&self, tag: u32, found: &Reply) -> Reply {
        match (self.distance, self.threshold) {
            (None, _) => Reply::without(Status::UnknownIdentity, tag),
            (Some(distance), THRESHOLD_OF_SERVER) => {
                Reply::verified(tag, distance, found.threshold)
            }
            (Some(distance), threshold) => Reply::verified(tag, distance, threshold),
        }
    }
}

/// Makes `count` probes for a store: half of them genuine, one of 16 unknown, the others impostors, each of a
/// random identity. They show the images below a directory, or synthetic faces: of the store's persons, if it
/// was generated.
///
/// # Errors
/// A message.
pub fn make(
    store: &Store,
    images: Option<&Path>,
    count: usize,
    threshold: Option<u64>,
    seed: u64,
) -> Result<Vec<Probe>, String> {
    let ids = store.ids().map_err(|e| e.to_string())?;
    if ids.is_empty() {
        return Err(format!("{}: nobody is in there", store.path.display()));
    }
    let shown = match images {
        Some(dir) => Some(decoded(store, &ids, dir)?),
        None => None,
    };
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let make = |number: usize| {
        let mut random = Random::new(seed, number as u64);
        probe(store, &ids, shown.as_deref(), number, threshold, &mut random)
    };
    let share = |thread| (thread..count).step_by(threads).map(make).collect::<Result<Vec<_>, _>>();
    let shares: Result<Vec<_>, StoreError> = std::thread::scope(|scope| {
        let shares: Vec<_> = (0..threads).map(|n| scope.spawn(move || share(n))).collect();
        let join = |share: std::thread::ScopedJoinHandle<'_, _>| {
            share.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        };
        shares.into_iter().map(join).collect()
    });
    Ok(shares.map_err(|e| e.to_string())?.concat())
}

/// The images below a directory, each with the number of the person that it shows.
fn decoded(store: &Store, ids: &[String], dir: &Path) -> Result<Vec<(u32, Vec<u8>)>, String> {
    let numbers: std::collections::HashMap<&str, u32> =
        ids.iter().map(String::as_str).zip(0..).collect();
    let mut shown = Vec::new();
    images::load_all(
        &found(dir).map_err(|e| e.to_string())?,
        gray(store.header.shape),
        |image, loaded| {
            if let Some(number) = numbers.get(enrol::id(image).as_str()) {
                shown.push((*number, loaded?));
            }
            Ok::<_, String>(())
        },
    )?;
    match shown.len() {
        0 => Err(format!("{}: no image there is called as somebody in the store", dir.display())),
        _ => Ok(shown),
    }
}

fn probe(
    store: &Store,
    ids: &[String],
    shown: Option<&[(u32, Vec<u8>)]>,
    number: usize,
    threshold: Option<u64>,
    random: &mut Random,
) -> Result<Probe, StoreError> {
    let shape = store.header.shape;
    let (person, pixels) = match shown {
        Some(shown) => {
            let (person, pixels) = &shown[random.below(shown.len() as u64) as usize];
            (*person, pixels.clone())
        }
        None => {
            let person = random.below(ids.len() as u64);
            let picture = 1 + random.below(1 << 32);
            let face = Face::new(store.header.seed, person);
            (person as u32, face.picture(picture, shape.width, shape.height))
        }
    };
    // Unless the store was generated its persons look otherwise.
    let looks_so = shown.is_some() || store.header.seed != 0;
    let claim = match number % 16 {
        15 => Claim::Unknown,
        n if n % 2 == 0 && looks_so => Claim::Genuine,
        _ if ids.len() > 1 || !looks_so => Claim::Impostor,
        _ => Claim::Genuine,
    };
    let claimed = match claim {
        Claim::Impostor if ids.len() > 1 => {
            let steps = 1 + random.below(ids.len() as u64 - 1);
            ((u64::from(person) + steps) % ids.len() as u64) as u32
        }
        _ => person,
    };
    let threshold = threshold.unwrap_or(THRESHOLD_OF_SERVER);
    if claim == Claim::Unknown {
        // No image is called so: its name would end before the slash.
        let request = request(format!("nobody/{number}").as_bytes(), shape, threshold, &pixels);
        return Ok(Probe { claim, request, threshold, distance: None });
    }
    let counts = reference::counts(&pixels, shape, store.method);
    let distance = reference::distance(&counts, &store.reference(claimed)?);
    let request = request(ids[claimed as usize].as_bytes(), shape, threshold, &pixels);
    Ok(Probe { claim, request, threshold, distance: Some(distance) })
}
