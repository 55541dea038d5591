//! System calls that fail on purpose: for tests of what happens then.

use gpu_abi::Errno;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// The system calls that can be made to fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FaultAt {
    /// Opening a file, also for `ReadFile`.
    Open,
    /// Each system call of `Write`, `WriteRuns` and `Append`: a request that is written in pieces makes
    /// several.
    Write,
    /// fsync and fdatasync.
    Sync,
    /// ftruncate.
    Truncate,
}

/// A rule of [`Faults`]: which calls fail, and how.
///
/// ```
/// use gpu_abi::Errno;
/// use host_daemon::{Fault, FaultAt};
///
/// // The third write of handle 16 comes 100 bytes short, and from then on the disk is full.
/// let full = Fault::new(FaultAt::Write, Errno::ENOSPC).of(16).after(2).short_by(100).times(u64::MAX);
/// // The next fsync fails, and no other.
/// let once = Fault::new(FaultAt::Sync, Errno::EIO);
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Fault {
    at: FaultAt,
    errno: Errno,
    handle: Option<u32>,
    after: u64,
    short_by: Option<usize>,
    times: u64,
}

impl Fault {
    /// The next such call, of whichever file, fails, and those after it do not.
    pub fn new(at: FaultAt, errno: Errno) -> Fault {
        Fault { at, errno, handle: None, after: 0, short_by: None, times: 1 }
    }

    /// Only calls for this handle of whichever client count. Opening has none.
    pub fn of(self, handle: u32) -> Fault {
        Fault { handle: Some(handle), ..self }
    }

    /// So many calls are let pass first.
    pub fn after(self, calls: u64) -> Fault {
        Fault { after: calls, ..self }
    }

    /// Before the failures, one write comes short by this many bytes of what is left of its request. If
    /// no more than that is left, it fails at once. The call for the rest is the next that the rule
    /// meets.
    pub fn short_by(self, bytes: usize) -> Fault {
        Fault { short_by: Some(bytes), ..self }
    }

    /// So many calls fail (the short one not counted): 1 unless this says otherwise, and 0 for a short
    /// one that nothing follows.
    pub fn times(self, calls: u64) -> Fault {
        Fault { times: calls, ..self }
    }
}

/// What [`crate::Options::faults`] holds: rules that may be changed while the daemon serves.
#[derive(Debug, Default)]
pub struct Faults {
    rules: Mutex<Vec<Fault>>,
    failed: AtomicU64,
}

/// What [`Faults::stall`] returns.
#[derive(Debug)]
pub struct Stall<'a> {
    _rules: MutexGuard<'a, Vec<Fault>>,
}

/// What a call shall come to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    /// What the kernel says, for at most so many bytes.
    Upto(usize),
    Fails(Errno),
}

impl Faults {
    /// No rules: all is as the kernel says.
    pub fn new() -> Faults {
        Faults::default()
    }

    /// One more rule. Of those that a call meets, the oldest counts.
    pub fn add(&self, fault: Fault) {
        self.rules.lock().unwrap_or_else(PoisonError::into_inner).push(fault);
    }

    /// No rules from now on.
    pub fn clear(&self) {
        self.rules.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    /// Storage that answers nobody: until what this returns is dropped, each call that could be made to fail waits
    /// before it is made.
    pub fn stall(&self) -> Stall<'_> {
        Stall { _rules: self.rules.lock().unwrap_or_else(PoisonError::into_inner) }
    }

    /// How many calls have been made to fail.
    pub fn failed(&self) -> u64 {
        self.failed.load(Ordering::Relaxed)
    }

    fn fate(&self, at: FaultAt, handle: u32, len: usize) -> Fate {
        let mut rules = self.rules.lock().unwrap_or_else(PoisonError::into_inner);
        let met = |rule: &Fault| rule.at == at && rule.handle.is_none_or(|h| h == handle);
        let Some(i) = rules.iter().position(met) else { return Fate::Upto(len) };
        let rule = &mut rules[i];
        if rule.after > 0 {
            rule.after -= 1;
            return Fate::Upto(len);
        }
        let errno = rule.errno;
        let fate = match rule.short_by.take() {
            Some(by) if by < len => Fate::Upto(len - by),
            _ if rule.times == 0 => Fate::Upto(len),
            _ => {
                rule.times -= 1;
                self.failed.fetch_add(1, Ordering::Relaxed);
                Fate::Fails(errno)
            }
        };
        if rule.times == 0 {
            rules.remove(i);
        }
        fate
    }
}

/// What a call on `handle` with `len` bytes shall come to. Without a plan this is one comparison.
#[inline]
pub(crate) fn fate(faults: Option<&Faults>, at: FaultAt, handle: u32, len: usize) -> Fate {
    match faults {
        None => Fate::Upto(len),
        Some(faults) => faults.fate(at, handle, len),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use Fate::{Fails, Upto};

    #[test]
    fn rules_count_what_they_meet() {
        let faults = Faults::new();
        let write = |handle, len| faults.fate(FaultAt::Write, handle, len);
        let full = Fault::new(FaultAt::Write, Errno::ENOSPC).of(7).after(1).short_by(10).times(2);
        faults.add(full);
        assert_eq!(write(8, 100), Upto(100));
        assert_eq!(write(7, 100), Upto(100));
        assert_eq!(faults.fate(FaultAt::Sync, 7, 0), Upto(0));
        assert_eq!(write(7, 100), Upto(90));
        assert_eq!(write(7, 10), Fails(Errno::ENOSPC));
        assert_eq!(write(8, 10), Upto(10));
        assert_eq!(write(7, 10), Fails(Errno::ENOSPC));
        assert_eq!(write(7, 10), Upto(10), "it is used up");
        faults.add(full.after(0));
        assert_eq!(write(7, 10), Fails(Errno::ENOSPC), "nothing would be left to write");
        faults.clear();
        assert_eq!(write(7, 10), Upto(10));
        faults.add(full.after(0).times(0));
        assert_eq!((write(7, 100), write(7, 10)), (Upto(90), Upto(10)), "short, and no more");
        assert_eq!(faults.failed(), 3);
    }
}
