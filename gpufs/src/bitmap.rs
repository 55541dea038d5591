//! A pool of numbered things.

pub(crate) use gpu_port::Bitmap;
