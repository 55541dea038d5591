//! Requests that take their time: a task answers them, unless the device gives them up before (`Cancel`).

use super::{Net, lock};
use gpu_abi::{Completion, Errno};
use std::collections::HashMap;
use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::{Arc, Mutex};
use std::task::Poll;
use tokio::sync::Notify;

/// A request's cell and tag.
pub(crate) type Asked = (u32, u32);

/// The requests of a client that tasks will answer. A device that breaks C1 gives the wrong one up.
#[derive(Default)]
pub(crate) struct UnderWay {
    by_cell: Mutex<HashMap<u32, (u32, Arc<Notify>)>>,
}

impl UnderWay {
    /// Whether there is any.
    pub(crate) fn is_any(&self) -> bool {
        !lock(&self.by_cell).is_empty()
    }

    /// The device does not want this answer any more. None that is under way: it has been given already.
    pub(crate) fn give_up(&self, (cell, tag): Asked) {
        if let Some((_, given_up)) = lock(&self.by_cell).get(&cell).filter(|(t, _)| *t == tag) {
            given_up.notify_one();
        }
    }
}

/// One of them, as the task sees it that answers it.
pub(crate) struct Asking {
    pub(crate) net: Arc<Net>,
    asked: Asked,
    given_up: Arc<Notify>,
}

impl Net {
    /// Notes that a task will answer a request.
    pub(crate) fn begin(self: &Arc<Net>, asked: Asked) -> Asking {
        let given_up = Arc::new(Notify::new());
        lock(&self.under_way.by_cell).insert(asked.0, (asked.1, given_up.clone()));
        Asking { net: self.clone(), asked, given_up }
    }
}

impl Asking {
    /// What `work` comes to; `ECANCELED`, and `work` ends where it waits, if the device gives it up before.
    pub(crate) async fn unless_given_up<T>(
        &self,
        work: impl Future<Output = Result<T, Errno>>,
    ) -> Result<T, Errno> {
        let (mut work, mut given_up) = (pin!(work), pin!(self.given_up.notified()));
        poll_fn(|cx| match work.as_mut().poll(cx) {
            Poll::Pending => given_up.as_mut().poll(cx).map(|()| Err(Errno::ECANCELED)),
            outcome => outcome,
        })
        .await
    }

    /// Fills the slot of the request.
    pub(crate) fn fill_slot(&self, bytes: &[u8]) {
        self.net.write_slot(self.asked.0, bytes);
    }

    /// C2.
    pub(crate) fn answer(self, outcome: Result<u64, Errno>) {
        let (cell, tag) = self.asked;
        self.net.answer(cell, tag, &Completion::of(outcome));
        // Afterwards, so that whoever asks whether anything is under way finds it or its answer. The cell may be
        // another request's by now, which has another tag.
        let mut by_cell = lock(&self.net.under_way.by_cell);
        if by_cell.get(&cell).is_some_and(|(theirs, _)| *theirs == tag) {
            by_cell.remove(&cell);
        }
    }
}
