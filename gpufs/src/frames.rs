//! Frames: free ones, and how room is made for pages.
//!
//! Clean pages go first. Where only dirty ones are found, whoever needs the frame writes one back, and
//! then looks again: see `Room::Dirty`.

use crate::cache::Page;
use crate::evict::Eviction;
use crate::index::{Entry, PageIndex};
use crate::mount::Fs;
use crate::stats::Count;
use gpu_abi::Errno;
use gpu_rt::atomic::Ordering;

/// How long to look for a frame, while nobody else gets one either, before saying `EBUSY`.
const BUSY_AFTER_NS: u64 = 200_000_000;
/// How long threads that wait for a frame trust others to tell them of one.
pub(crate) const LOOK_AGAIN_NS: u64 = 2_000_000;
/// How many more pages are looked at for a clean one, once a dirty one was found.
const LOOK_FOR_CLEAN: u32 = 64;

/// Where room was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Room {
    /// A BUSY frame, the caller's.
    Frame(u32),
    /// None is free, and no page that can go is clean: this frame's is to be written back first.
    Dirty(u32),
}

impl<I: PageIndex, E: Eviction> Fs<I, E> {
    /// Room for a page: a free frame, an evicted page's, or one to write back. Waits for it.
    pub(crate) fn take_frame(&self) -> Result<Room, Errno> {
        let globals = self.globals();
        // Where others wait already there is nothing to be found by looking.
        let queue = globals.frame_waiters.load(Ordering::Relaxed) != 0;
        let room = match if queue { None } else { self.look_for_frame() } {
            Some(room) => room,
            None => self.wait_for_frame()?,
        };
        if matches!(room, Room::Frame(_)) {
            globals.taken.fetch_add(1, Ordering::Relaxed);
        }
        Ok(room)
    }

    /// A BUSY frame, if there is one now that needs no write; `EAGAIN` if not.
    pub(crate) fn take_clean_frame(&self) -> Result<u32, Errno> {
        let globals = self.globals();
        if globals.frame_waiters.load(Ordering::Relaxed) != 0 {
            return Err(Errno::EAGAIN);
        }
        let frame = self.try_take_frame().ok_or(Errno::EAGAIN)?;
        globals.taken.fetch_add(1, Ordering::Relaxed);
        Ok(frame)
    }

    /// As [`Fs::take_frame`], in a queue. To look through all frames is dear, so only as many threads
    /// look as frames came free.
    #[inline(never)]
    fn wait_for_frame(&self) -> Result<Room, Errno> {
        let globals = self.globals();
        // Who comes first looks once more: frames that came free before were granted to nobody.
        let mut look = globals.frame_waiters.fetch_add(1, Ordering::Relaxed) == 0;
        let mut progress = (globals.taken.load(Ordering::Relaxed), gpu_rt::clock());
        let outcome = loop {
            let ticket = globals.frame_tickets.fetch_add(1, Ordering::Relaxed);
            if !look {
                let waited = self.wait_for_grant(ticket, &mut progress);
                let hint = globals.granted[ticket as usize % globals.granted.len()]
                    .load(Ordering::Relaxed);
                if let Some(frame) = self.try_evict(hint) {
                    break Ok(Room::Frame(frame));
                }
                if let Err(e) = waited {
                    break Err(e);
                }
            }
            look = false;
            if let Some(room) = self.look_for_frame() {
                break Ok(room);
            }
            self.reap_frames();
        };
        globals.frame_waiters.fetch_sub(1, Ordering::Relaxed);
        outcome
    }

    /// Waits until a frame was granted to `ticket`, or until no thread has got one for a while.
    /// `progress` is the count of frames taken, and when it last changed.
    ///
    /// # Errors
    /// `EBUSY` if that has been so for long: pins of other threads pass, but those that everybody
    /// holds while waiting for more do not.
    #[inline(never)]
    fn wait_for_grant(&self, ticket: u32, progress: &mut (u32, u64)) -> Result<(), Errno> {
        let globals = self.globals();
        let began = gpu_rt::clock();
        let mut grants = globals.frame_grants.load(Ordering::Relaxed);
        // Modulo 2^32: they are never half of that apart.
        while (grants.wrapping_sub(ticket) as i32) <= 0 {
            grants = gpu_rt::wait_while_eq(&globals.frame_grants, grants, LOOK_AGAIN_NS);
            let (now, taken) = (gpu_rt::clock(), globals.taken.load(Ordering::Relaxed));
            if taken != progress.0 {
                *progress = (taken, now);
            } else if now - progress.1 > BUSY_AFTER_NS {
                return Err(Errno::EBUSY);
            } else if now - progress.1.max(began) > LOOK_AGAIN_NS {
                break;
            }
        }
        Ok(())
    }

    /// A frame has come free, or can be evicted now: the next of those who wait may look.
    fn frame_came_free(&self, frame: u32) {
        let globals = self.globals();
        // Relaxed, all of it: a waiter that is missed here looks by itself before long.
        if globals.frame_waiters.load(Ordering::Relaxed) == 0 {
            return;
        }
        let grants = globals.frame_grants.load(Ordering::Relaxed);
        if (grants.wrapping_sub(globals.frame_tickets.load(Ordering::Relaxed)) as i32) < 0 {
            globals.granted[grants as usize % globals.granted.len()]
                .store(frame, Ordering::Relaxed);
            globals.frame_grants.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Takes this frame, if it holds a clean page that nobody has pinned.
    fn try_evict(&self, frame: u32) -> Option<u32> {
        let record = self.frames().get(frame as usize)?;
        // A look first, so that a dirty page stays to be found.
        if record.dirty.is_dirty() {
            return None;
        }
        let key = record.take_for_eviction()?;
        if !self.settle_marks(frame) {
            return None;
        }
        self.count(Count::Evictions, 1);
        self.pages().remove(key, Entry::frame(frame));
        record.forget();
        Some(frame)
    }

    /// A frame taken for eviction: gives its map back if it is clean, else makes it READY again.
    pub(crate) fn settle_marks(&self, frame: u32) -> bool {
        let record = &self.frames()[frame as usize];
        // Whoever marks does so before the pin goes: what is seen now is the truth (rule 5).
        if record.dirty.is_dirty() {
            record.restore();
            return false;
        }
        self.detach_map(frame);
        true
    }

    /// Room, without waiting.
    fn look_for_frame(&self) -> Option<Room> {
        let mut dirty = None;
        let frame = self.look(|frame| {
            // Only what could go now is worth a write.
            if dirty.is_none() && self.frames()[frame as usize].is_evictable() {
                dirty = Some(frame);
            }
            dirty.is_some()
        });
        frame.map(Room::Frame).or(dirty.map(Room::Dirty))
    }

    /// A free frame or a clean page's, without waiting.
    pub(crate) fn try_take_frame(&self) -> Option<u32> {
        self.look(|_| false)
    }

    /// Looks for a free frame, then for a clean page. Dirty pages are shown to `is_dirty`, which says
    /// whether the search may be cut short.
    fn look(&self, mut is_dirty: impl FnMut(u32) -> bool) -> Option<u32> {
        if let Some(frame) = self.pop_free() {
            self.frames()[frame as usize].take_free();
            return Some(frame);
        }
        let frames = self.frames();
        let globals = self.globals();
        if globals.fresh.load(Ordering::Relaxed) < frames.len() as u32 {
            let fresh = globals.fresh.fetch_add(1, Ordering::Relaxed);
            if let Some(frame) = frames.get(fresh as usize) {
                frame.take_free();
                return Some(fresh);
            }
            // Do not let the counter run on and wrap.
            globals.fresh.store(frames.len() as u32, Ordering::Relaxed);
        }
        // Twice around: once to take second chances away, once to take a page.
        let mut left = 2 * frames.len() as u64;
        while left > 0 {
            left -= 1;
            let Some(at) = E::propose(self.policy(), frames) else { continue };
            if let Some(frame) = self.try_evict(at) {
                return Some(frame);
            }
            if frames[at as usize].dirty.is_dirty() && is_dirty(at) {
                left = left.min(u64::from(LOOK_FOR_CLEAN));
            }
        }
        None
    }

    /// BUSY frame → free.
    pub(crate) fn put_frame(&self, frame: u32) {
        self.frames()[frame as usize].put_free();
        self.push_free(frame);
        self.frame_came_free(frame);
    }

    fn pop_free(&self) -> Option<u32> {
        let free = &self.globals().free;
        // Acquire: pairs with `push_free`'s release, for `next_free` and all its last owner did.
        let mut head = free.load(Ordering::Acquire);
        loop {
            let frame = (head as u32).checked_sub(1)?;
            let next = self.frames()[frame as usize].next_free.load(Ordering::Relaxed);
            // The tag makes a head that came back after a pop and a push a different one.
            let new = (head >> 32).wrapping_add(1) << 32 | u64::from(next);
            match free.compare_exchange(head, new, Ordering::Acquire, Ordering::Acquire) {
                Ok(_) => return Some(frame),
                Err(now) => head = now,
            }
        }
    }

    fn push_free(&self, frame: u32) {
        let free = &self.globals().free;
        let mut head = free.load(Ordering::Relaxed);
        loop {
            self.frames()[frame as usize].next_free.store(head as u32, Ordering::Relaxed);
            let new = (head >> 32).wrapping_add(1) << 32 | u64::from(frame + 1);
            // Release: pairs with `pop_free`'s acquire.
            match free.compare_exchange(head, new, Ordering::Release, Ordering::Relaxed) {
                Ok(_) => return,
                Err(now) => head = now,
            }
        }
    }

    /// Gives a pin back. If `drop_page`, a page that nobody else uses leaves the cache at once, and
    /// its frame, still warm in the processor's caches, is the next to be filled.
    pub(crate) fn unpin(&self, page: Page, drop_page: bool) {
        let frame = &self.frames()[page.frame as usize];
        if !frame.unpin() {
            return;
        }
        if drop_page
            && let Some(key) = frame.take_for_eviction()
            && self.settle_marks(page.frame)
        {
            self.pages().remove(key, Entry::frame(page.frame));
            self.put_frame(page.frame);
        } else {
            self.frame_came_free(page.frame);
        }
    }
}
