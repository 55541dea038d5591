//! A file as an array of values: each thread looks at what it wants, and pages come when they are touched.

use crate::cache::Page;
use crate::evict::{Clock, Eviction};
use crate::file::File;
use crate::index::{HashIndex, PageIndex};
use bytemuck::Pod;
use core::marker::PhantomData;
use gpu_abi::Errno;
use gpu_rt::Thread;

/// The smallest page there is. A value whose size divides it lies in one page.
const SMALLEST_PAGE: usize = 4096;

/// One thread's view of a file as values of `T`, one after the other from the beginning.
///
/// The thread keeps the page that it looked at last pinned: to look at another value there is a
/// comparison and a load (S. Shahar, S. Bergman, M. Silberstein, "ActivePointers", ISCA 2016). Lanes of a
/// warp that touch one missing page at once cost one request. Dropping the view gives the pin back.
pub struct TypedView<T: Pod, I: PageIndex = HashIndex, E: Eviction = Clock> {
    file: File<I, E>,
    // Both are given to functions and taken back by value: whoever took their address would keep them out of
    // registers, in which a loop over `get` has them.
    window: Window,
    held: Option<Page>,
    of: PhantomData<T>,
}

/// What can be looked at in the page that is pinned: the values that lie in it as a whole.
#[derive(Clone, Copy)]
struct Window {
    /// The number of the first.
    first: u64,
    count: u64,
    /// Where the first is.
    data: *const u8,
}

impl Window {
    const NONE: Window = Window { first: 0, count: 0, data: core::ptr::null() };
}

impl<I: PageIndex, E: Eviction> File<I, E> {
    /// The file as an array of `T`, for the calling thread.
    ///
    /// # Errors
    /// `EBADF` if the file was not opened for reading.
    pub fn view<T: Pod>(&self) -> Result<TypedView<T, I, E>, Errno> {
        const {
            assert!(size_of::<T>() > 0, "values without a size cannot be counted");
            assert!(align_of::<T>() <= SMALLEST_PAGE, "pages are not aligned to more than that");
        };
        self.may_read()?;
        Ok(TypedView { file: *self, window: Window::NONE, held: None, of: PhantomData })
    }

    /// Leaves the page that is `held` for that of value `index` of so many bytes, unless the file ends before
    /// it. What is held then, and how it went.
    #[inline(never)]
    fn turn_to(
        self,
        window: Window,
        held: Option<Page>,
        index: u64,
        size: u64,
    ) -> (Window, Option<Page>, Result<(), Errno>) {
        let end = index.checked_add(1).and_then(|n| n.checked_mul(size));
        let Some(end) = end.filter(|end| *end <= self.size()) else {
            return (window, held, Ok(()));
        };
        self.let_go(held);
        let number = self.page_number(end - size);
        match number.and_then(|number| Ok((number, self.pin(&Thread, number)?))) {
            Ok((number, page)) => {
                let page_at = u64::from(number) * self.page_size() as u64;
                let first = page_at.div_ceil(size);
                let start = first * size - page_at;
                // The file may have become shorter since it was opened, or since we looked.
                let valid = u64::from(page.len).min(self.size().saturating_sub(page_at));
                let count = valid.saturating_sub(start) / size;
                let data = self.fs.frame_data(page.frame).wrapping_add(start as usize);
                (Window { first, count, data }, Some(page), Ok(()))
            }
            Err(e) => (Window::NONE, None, Err(e)),
        }
    }

    fn let_go(self, held: Option<Page>) {
        if let Some(page) = held {
            self.fs.unpin(page, self.drops_pages());
        }
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
        if let Some(value) = self.look(index) {
            return Ok(Some(value));
        }
        if !Self::FITS && self.lies_across(index) {
            return self.gather(index * Self::SIZE);
        }
        self.turn_to(index)?;
        Ok(self.look(index))
    }

    /// The value, if it is in the page that is pinned.
    #[inline]
    fn look(&self, index: u64) -> Option<T> {
        let Window { first, count, data } = self.window;
        // What is before the first wraps, and is past the last.
        let at = index.wrapping_sub(first);
        if at >= count {
            return None;
        }
        let place = data.cast::<T>().wrapping_add(at as usize);
        // SAFETY: one of `count` whole values, in a page that is pinned and whose bytes stay as they are, or,
        // where the file is open for writing, are at worst somebody's who writes them now. Any bytes are a
        // value of `T`. Aligned: the place in the file is a multiple of the size, the frame of any alignment.
        Some(unsafe { place.read() })
    }

    /// The values from number `index` on that lie in its page as a whole, lent: what [`TypedView::get`] would
    /// say of each, without a look at which page it is. At least one, unless `index` is past the last. A
    /// value that lies across the end of a page is in no such run: that is `EINVAL`.
    ///
    /// # Errors
    /// As [`File::read_at`].
    pub fn run(&mut self, index: u64) -> Result<&[T], Errno> {
        if self.look(index).is_none() {
            if !Self::FITS && self.lies_across(index) {
                return Err(Errno::EINVAL);
            }
            self.turn_to(index)?;
        }
        let Window { first, count, data } = self.window;
        let at = index.wrapping_sub(first);
        if at >= count {
            return Ok(&[]);
        }
        let run = data.cast::<T>().wrapping_add(at as usize);
        // SAFETY: as in `look`, for the rest of the window; the pin stays as long as `self` is borrowed.
        Ok(unsafe { core::slice::from_raw_parts(run, (count - at) as usize) })
    }

    #[inline]
    fn turn_to(&mut self, index: u64) -> Result<(), Errno> {
        let (window, held, outcome) = self.file.turn_to(self.window, self.held, index, Self::SIZE);
        (self.window, self.held) = (window, held);
        outcome
    }

    /// Whether a value of the file lies across the end of a page.
    fn lies_across(&self, index: u64) -> bool {
        let page_size = self.file.page_size() as u64;
        index < self.len() && index * Self::SIZE % page_size + Self::SIZE > page_size
    }

    /// A value that lies across the end of a page.
    fn gather(&self, offset: u64) -> Result<Option<T>, Errno> {
        let mut value = T::zeroed();
        let bytes = bytemuck::bytes_of_mut(&mut value);
        let whole = self.file.read_at(&Thread, &mut *bytes, offset)? == size_of::<T>();
        Ok(whole.then_some(value))
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
    #[inline]
    fn drop(&mut self) {
        self.file.let_go(self.held);
    }
}
