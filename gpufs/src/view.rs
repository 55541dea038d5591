//! Views: pinned pages lent to a group.

use crate::cache::Page;
use crate::evict::{Clock, Eviction};
use crate::file::File;
use crate::index::{HashIndex, PageIndex};
use gpu_abi::Errno;
use gpu_rt::Group;

/// A range of a file, pinned in the page cache: as many slices as it touches pages.
///
/// Dropping it gives the pins back. For a warp or a block that is a point where all its threads
/// meet, so that none still reads what the leader unpins.
pub struct View<G: Group, I: PageIndex = HashIndex, E: Eviction = Clock> {
    group: G,
    file: File<I, E>,
    pages: [Page; 8],
    count: u32,
    /// Offset of the first byte in the first page.
    start: u32,
    len: usize,
}

impl<G: Group, I: PageIndex, E: Eviction> View<G, I, E> {
    /// Pages that one view can span.
    pub const MAX_PAGES: usize = 8;

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
        let none = Page { frame: 0, len: 0 };
        let mut view = View {
            group: *group,
            file: *file,
            pages: [none; 8],
            count: 0,
            start: start as u32,
            len: 0,
        };
        for i in 0..spans {
            // On an error the pages so far are unpinned as the view is dropped.
            let page = fs.pin(group, file, first + i as u32)?;
            view.pages[i] = page;
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
    pub fn slices(&self) -> impl Iterator<Item = &[u8]> {
        let mut left = self.len;
        self.pages[..self.count as usize].iter().enumerate().map(move |(i, page)| {
            let skip = if i == 0 { self.start as usize } else { 0 };
            let n = (page.len as usize).saturating_sub(skip).min(left);
            left -= n;
            // SAFETY: the page is pinned while the view lives, so its bytes are there and do not
            // change; `skip + n` is within its valid length.
            unsafe { core::slice::from_raw_parts(self.file.fs.frame_data(page.frame).add(skip), n) }
        })
    }

    /// All bytes as one slice, if the view lies within one page.
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
            for page in &self.pages[..self.count as usize] {
                self.file.fs.unpin(*page, self.file.drops_pages());
            }
        }
    }
}
