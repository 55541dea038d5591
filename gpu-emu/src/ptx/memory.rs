//! Which of the host's addresses kernels may access.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use super::fault::Illegal;
use crate::sync::lock;

/// Memory that kernels may access.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Range {
    start: u64,
    end: u64,
}

#[derive(Debug, Default)]
struct Shared {
    /// Sorted; no two overlap.
    ranges: Mutex<Arc<Vec<Range>>>,
    /// Changes with `ranges`.
    version: AtomicU64,
}

/// The memory that an interpreter's kernels may access: what has been added and not removed.
#[derive(Clone, Debug, Default)]
pub struct Allocations(Arc<Shared>);

impl Allocations {
    /// Lets kernels access `bytes` bytes at `address`.
    ///
    /// # Safety
    /// They are mapped, readable and writable until they are removed and every launch that was under
    /// way then has ended. Whoever else accesses them does so by volatile or atomic accesses, or
    /// while no kernel does.
    pub unsafe fn add(&self, address: u64, bytes: u64) {
        if bytes == 0 {
            return;
        }
        self.change(|ranges| {
            let new = Range { start: address, end: address.saturating_add(bytes) };
            // An allocation in place of one that was never removed.
            ranges.retain(|range| range.end <= new.start || range.start >= new.end);
            let at = ranges.partition_point(|range| range.start < new.start);
            ranges.insert(at, new);
        });
    }

    /// Forbids the memory that was added at `address`.
    pub fn remove(&self, address: u64) {
        self.change(|ranges| ranges.retain(|range| range.start != address));
    }

    fn change(&self, change: impl FnOnce(&mut Vec<Range>)) {
        let mut ranges = lock(&self.0.ranges);
        let mut copy = Vec::clone(&ranges);
        change(&mut copy);
        *ranges = Arc::new(copy);
        // Release: pairs with the Acquire load in `View::refresh`.
        self.0.version.fetch_add(1, Ordering::Release);
    }

    pub(super) fn view(&self) -> View {
        let none = Range { start: 0, end: 0 };
        let mut view =
            View { of: self.clone(), ranges: Arc::default(), version: u64::MAX, last: none };
        view.refresh();
        view
    }
}

/// The ranges as a worker sees them, which looks for changes now and then.
pub(super) struct View {
    of: Allocations,
    ranges: Arc<Vec<Range>>,
    version: u64,
    /// The range found last.
    last: Range,
}

impl View {
    /// Takes what has changed.
    pub(super) fn refresh(&mut self) {
        // Acquire: pairs with the Release in `Allocations::change`.
        let version = self.of.0.version.load(Ordering::Acquire);
        if version != self.version {
            self.version = version;
            self.ranges = Arc::clone(&lock(&self.of.0.ranges));
            self.last = Range { start: 0, end: 0 };
        }
    }

    /// Fails unless one allocation holds all the bytes.
    #[inline(always)]
    pub(super) fn check(&mut self, address: u64, bytes: u32) -> Result<(), Illegal> {
        let Range { start, end } = self.last;
        // An address below `start` wraps to a large number; `end - start` is 0 or at least 1.
        if address.wrapping_sub(start) < end - start && end - address >= u64::from(bytes) {
            return Ok(());
        }
        self.search(address, bytes)
    }

    #[cold]
    fn search(&mut self, address: u64, bytes: u32) -> Result<(), Illegal> {
        let after = self.ranges.partition_point(|range| range.start <= address);
        let before = after.checked_sub(1).map(|n| self.ranges[n]);
        match before {
            Some(range) if address < range.end && range.end - address >= bytes.into() => {
                self.last = range;
                Ok(())
            }
            Some(Range { start, end }) => Err(Illegal::Unallocated {
                near: match end.checked_sub(address) {
                    Some(left @ 1..) => {
                        format!("; the one at {start:#x} has only {left} bytes from there on")
                    }
                    _ => format!(
                        "; the last one before it, at {start:#x}, ends {} bytes earlier",
                        address - end
                    ),
                },
            }),
            None => Err(Illegal::Unallocated { near: String::new() }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_whole_accesses_inside_one_allocation_pass() {
        let allocations = Allocations::default();
        let mut view = allocations.view();
        assert!(view.check(100, 1).is_err());
        // SAFETY: nothing accesses them.
        unsafe {
            allocations.add(100, 10);
            allocations.add(110, 6);
        }
        view.refresh();
        assert!(view.check(100, 10).is_ok() && view.check(109, 1).is_ok());
        assert!(view.check(112, 4).is_ok() && view.check(100, 4).is_ok());
        for (address, bytes) in [(99, 1), (108, 4), (116, 1), (u64::MAX, 8)] {
            assert!(view.check(address, bytes).is_err(), "{address}");
        }
        allocations.remove(100);
        view.refresh();
        assert!(view.check(100, 4).is_err() && view.check(110, 4).is_ok());
    }
}
