//! A pool of threads for what has to wait, where io_uring is not to be had.

use super::Flight;
use std::collections::VecDeque;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use std::sync::{Condvar, Mutex, PoisonError};

/// The queue between polling threads and those that wait.
pub(crate) struct Pool {
    queue: Mutex<Queue>,
    filled: Condvar,
    capacity: usize,
    flights: AtomicUsize,
    /// Counts ended requests: a futex for whoever waits for one.
    finished: AtomicU32,
}

struct Queue {
    waiting: VecDeque<Flight>,
    closed: bool,
}

impl Pool {
    pub(crate) fn new(capacity: usize) -> Pool {
        Pool {
            queue: Mutex::new(Queue { waiting: VecDeque::with_capacity(capacity), closed: false }),
            filled: Condvar::new(),
            capacity,
            flights: AtomicUsize::new(0),
            finished: AtomicU32::new(0),
        }
    }

    pub(crate) fn flights(&self) -> usize {
        self.flights.load(Ordering::Relaxed)
    }

    /// Requests that may still be pushed. Several workers may overshoot it by a batch each.
    pub(crate) fn room(&self) -> usize {
        self.capacity.saturating_sub(self.flights())
    }

    pub(crate) fn finished(&self) -> &AtomicU32 {
        &self.finished
    }

    /// How many requests have ended, modulo 2^32.
    pub(crate) fn ended_so_far(&self) -> u32 {
        // Pairs with the release in `ended`.
        self.finished.load(Ordering::Acquire)
    }

    pub(crate) fn push(&self, flight: Flight) {
        self.flights.fetch_add(1, Ordering::Relaxed);
        let mut queue = self.queue.lock().unwrap_or_else(PoisonError::into_inner);
        queue.waiting.push_back(flight);
        drop(queue);
        self.filled.notify_one();
    }

    /// What is next to do; `None` once the pool is closed and empty.
    pub(crate) fn next(&self) -> Option<Flight> {
        let mut queue = self.queue.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            if let Some(flight) = queue.waiting.pop_front() {
                return Some(flight);
            }
            if queue.closed {
                return None;
            }
            queue = self.filled.wait(queue).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// One request has ended and been answered.
    pub(crate) fn ended(&self) {
        self.flights.fetch_sub(1, Ordering::Relaxed);
        // Release: pairs with the acquire in `ended_so_far`, so that who sees the count sees the flight gone.
        self.finished.fetch_add(1, Ordering::Release);
        crate::wake::futex_wake(&self.finished, i32::MAX);
    }

    /// No more requests come; threads end when the queue is empty.
    pub(crate) fn close(&self) {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner).closed = true;
        self.filled.notify_all();
    }
}
