//! Views: pinned pages lent to a group.

use crate::cache::Page;
use crate::evict::{Clock, Eviction};
use crate::file::File;
use crate::index::{HashIndex, PageIndex};
use crate::mount::Fs;
use gpu_abi::Errno;
use gpu_rt::Group;

/// A range of a file, pinned in the page cache: as many slices as it touches pages.
///
/// Dropping it gives the pins back. For a warp or a block that is a point where all its threads
/// meet, so that none still reads what the leader unpins.
pub struct View<G: Group, I: PageIndex = HashIndex, E: Eviction = Clock> {
    group: G,
    fs: Fs<I, E>,
    len: usize,
    /// What holds the bytes: full pages, but the last may end with the file.
    frames: [u32; 8],
    count: u32,
    /// Offset of the first byte in the first page.
    start: u32,
    /// Not 0: the pages leave the cache with their last pin. Not a `bool`: a result would keep its
    /// own tag in it, and for a GPU what lies around a tag is moved byte by byte.
    once: u32,
}

impl<G: Group, I: PageIndex, E: Eviction> View<G, I, E> {
    /// Pages that one view can span.
    pub const MAX_PAGES: usize = 8;

    /// Not inlined, for the caller's registers.
    #[inline(never)]
    pub(crate) fn new(
        group: &G,
        file: &File<I, E>,
        offset: u64,
        len: usize,
    ) -> Result<Self, Errno> {
        let fs = &file.fs;
        let page_size = fs.page_size();
        let want = file.clamp(offset, len);
        let (first, spans, start) = file.span(offset, want)?;
        if spans > Self::MAX_PAGES {
            return Err(Errno::EINVAL);
        }
        let mut view = View {
            group: *group,
            fs: *fs,
            len: 0,
            frames: [0; 8],
            count: 0,
            start: start as u32,
            once: file.drops_pages().into(),
        };
        for i in 0..spans {
            // On an error the pages so far are unpinned as the view is dropped.
            let page = file.pin(group, first + i as u32)?;
            view.frames[i] = page.frame;
            view.count += 1;
            let skip = if i == 0 { start } else { 0 };
            let got = (page.len as usize).saturating_sub(skip).min(want - view.len);
            view.len += got;
            // The file has become shorter than it was: the view ends where it does.
            if (page.len as usize) < page_size {
                break;
            }
        }
        Ok(view)
    }

    /// Bytes in the view: fewer than asked for only at the end of the file.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether the view has no bytes.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The view's bytes, page by page.
    #[inline]
    pub fn slices(&self) -> impl Iterator<Item = &[u8]> {
        let (page_size, mut skip, mut left) = (self.fs.page_size(), self.start as usize, self.len);
        self.frames[..self.count as usize].iter().map(move |&frame| {
            let n = (page_size - skip).min(left);
            // SAFETY: the page is pinned while the view lives, so its bytes are there and do not
            // change; `skip + n` is within its valid length: the view ends where that does.
            let slice =
                unsafe { core::slice::from_raw_parts(self.fs.frame_data(frame).add(skip), n) };
            (skip, left) = (0, left - n);
            slice
        })
    }

    /// All bytes as one slice, if the view lies within one page.
    #[inline]
    pub fn as_slice(&self) -> Option<&[u8]> {
        if self.count > 1 {
            return None;
        }
        Some(self.slices().next().unwrap_or(&[]))
    }
}

impl<G: Group, I: PageIndex, E: Eviction> Drop for View<G, I, E> {
    fn drop(&mut self) {
        self.group.sync();
        if self.group.is_leader() {
            for &frame in &self.frames[..self.count as usize] {
                self.fs.unpin(Page { frame, len: 0 }, self.once != 0);
            }
        }
    }
}
