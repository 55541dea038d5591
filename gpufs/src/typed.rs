//! A file as an array of values: each thread looks at what it wants, and pages come when they are touched.

use crate::cache::Page;
use crate::evict::{Clock, Eviction};
use crate::file::File;
use crate::index::{HashIndex, PageIndex};
use bytemuck::Pod;
use core::marker::PhantomData;
use gpu_abi::Errno;
use gpu_rt::Thread;

/// The smallest page there is. A value whose size divides it lies in one page, aligned.
const SMALLEST_PAGE: usize = 4096;

/// One thread's view of a file as values of `T`, one after the other from the beginning.
///
/// The thread keeps the page that it looked at last pinned: to look at another value there is a
/// comparison and a load (S. Shahar, S. Bergman, M. Silberstein, "ActivePointers", ISCA 2016). Lanes of a
/// warp that touch one missing page at once cost one request. Dropping the view gives the pin back.
pub struct TypedView<T: Pod, I: PageIndex = HashIndex, E: Eviction = Clock> {
    file: File<I, E>,
    /// Offset in the file of the page that is pinned.
    page_at: u64,
    /// Offsets in the page at which a whole value begins: those below this.
    reach: u64,
    data: *const u8,
    page: Page,
    is_pinned: bool,
    of: PhantomData<T>,
}

impl<I: PageIndex, E: Eviction> File<I, E> {
    /// The file as an array of `T`, for the calling thread.
    ///
    /// # Errors
    /// `EBADF` if the file was not opened for reading.
    pub fn view<T: Pod>(&self) -> Result<TypedView<T, I, E>, Errno> {
        const { assert!(size_of::<T>() > 0, "values without a size cannot be counted") };
        self.may_read()?;
        Ok(TypedView {
            file: *self,
            page_at: 0,
            reach: 0,
            data: core::ptr::null(),
            page: Page { frame: 0, len: 0 },
            is_pinned: false,
            of: PhantomData,
        })
    }
}

impl<T: Pod, I: PageIndex, E: Eviction> TypedView<T, I, E> {
    const SIZE: u64 = size_of::<T>() as u64;
    /// Whether no value lies across the end of a page.
    const FITS: bool = SMALLEST_PAGE.is_multiple_of(size_of::<T>());

    /// Whole values in the file.
    pub fn len(&self) -> u64 {
        self.file.size() / Self::SIZE
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Value number `index`; `None` past the last.
    ///
    /// # Errors
    /// As [`File::read_at`].
    #[inline]
    pub fn get(&mut self, index: u64) -> Result<Option<T>, Errno> {
        // An index so large that this wraps is past the page, or is caught when it is looked for.
        let at = index.wrapping_mul(Self::SIZE).wrapping_sub(self.page_at);
        if at < self.reach {
            return Ok(Some(self.load(at)));
        }
        self.fault(index)
    }

    /// The value at this offset in the pinned page.
    #[inline]
    fn load(&self, at: u64) -> T {
        let place = self.data.wrapping_add(at as usize).cast::<T>();
        // SAFETY: `reach` says that a whole value is there, in a page that is pinned and whose bytes stay as
        // they are, or, where the file is open for writing, are at worst somebody's who writes them now. Any
        // bytes are a value of `T`. Aligned, if `FITS`: offset and page are multiples of the size.
        unsafe { if Self::FITS { place.read() } else { place.read_unaligned() } }
    }

    /// Goes to the page of a value.
    #[inline(never)]
    fn fault(&mut self, index: u64) -> Result<Option<T>, Errno> {
        let Some(end) = index.checked_add(1).and_then(|n| n.checked_mul(Self::SIZE)) else {
            return Ok(None);
        };
        if end > self.file.size() {
            return Ok(None);
        }
        let page_size = self.file.page_size() as u64;
        let offset = end - Self::SIZE;
        let start = offset % page_size;
        if !Self::FITS && start + Self::SIZE > page_size {
            return self.gather(offset);
        }
        self.release();
        let page = self.file.fs.pin(&Thread, &self.file, self.file.page_number(offset)?)?;
        self.page = page;
        self.is_pinned = true;
        self.page_at = offset - start;
        self.data = self.file.fs.frame_data(page.frame);
        let valid = u64::from(page.len).min(self.file.size() - self.page_at);
        self.reach = (valid + 1).saturating_sub(Self::SIZE);
        // The file may have become shorter since it was opened.
        Ok((start < self.reach).then(|| self.load(start)))
    }

    /// A value that lies across the end of a page.
    fn gather(&self, offset: u64) -> Result<Option<T>, Errno> {
        let mut value = T::zeroed();
        let bytes = bytemuck::bytes_of_mut(&mut value);
        let whole = self.file.read_at(&Thread, &mut *bytes, offset)? == size_of::<T>();
        Ok(whole.then_some(value))
    }

    fn release(&mut self) {
        if core::mem::take(&mut self.is_pinned) {
            self.reach = 0;
            self.file.fs.unpin(self.page, self.file.drops_pages());
        }
    }

    /// The values from number `first` on, every `step`th of them: with the number of threads as `step` a
    /// launch goes through the file side by side. Pages that follow are fetched ahead, as the file's options say.
    pub fn iter_from(
        &mut self,
        first: u64,
        step: u64,
    ) -> impl Iterator<Item = Result<T, Errno>> + '_ {
        let mut next = Some(first);
        core::iter::from_fn(move || {
            let index = next?;
            next = index.checked_add(step.max(1));
            match self.get(index) {
                Ok(Some(value)) => Some(Ok(value)),
                Ok(None) => {
                    next = None;
                    None
                }
                Err(e) => {
                    next = None;
                    Some(Err(e))
                }
            }
        })
    }

    /// All values.
    pub fn iter(&mut self) -> impl Iterator<Item = Result<T, Errno>> + '_ {
        self.iter_from(0, 1)
    }
}

impl<T: Pod, I: PageIndex, E: Eviction> Drop for TypedView<T, I, E> {
    fn drop(&mut self) {
        self.release();
    }
}
