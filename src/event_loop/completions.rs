//! The way back: finished jobs, and the bell that wakes the poll thread for them.
//!
//! Workers push; the poll thread takes everything at once. Between the two stands one mutex, held for a push or a take
//! and never across a system call. Ringing the bell is a system call (a write to the poller's eventfd) and makes the
//! kernel switch threads, so it is done only when the poll thread may be asleep, once for however many jobs come back
//! meanwhile, and not before the worker has emptied its queue.
//!
//! # Why no completion is slept through
//!
//! `asleep` lives under the same mutex as the jobs. The poll thread sets it in [`Completions::may_sleep`], and only
//! while there are no jobs. A worker that pushes finds it either
//!
//! - unset: then the poll thread is awake and has yet to call `may_sleep`, which will find our job and refuse; or
//! - set: then a ring is owed. Whoever pays it clears the flag and rings. mio keeps a ring that comes before the poll
//!   call, so it does not matter whether the poll thread has fallen asleep already or is just about to.
//!
//! A ring that is owed is paid by [`Completions::ring_if_owed`], which every worker calls when its queue is empty, before
//! it sleeps, and between two jobs when it has put the ring off for long enough. Until then it may be busy with other jobs
//! of that queue; but as long as a queue is not empty, the poll thread does not sleep longer than the lane's patience (see
//! `workers.rs`), and takes everything when it wakes. So a completion waits for the rest of its batch, if these are quick;
//! and if one of them blocks, no longer than the patience.
//!
//! Every access is inside the mutex, so there is no memory ordering to argue about; and that the argument leaves no
//! case out is checked by running every order there is (`model.rs`).

use std::fmt;
use std::io;
use std::sync::PoisonError;

use mio::Waker;

use super::job::{Job, Jobs};
use super::sync::{Mutex, MutexGuard};

/// What wakes the poll thread.
pub trait Bell: Send + Sync + 'static {
    /// Makes the poll thread's present sleep end, or else its next.
    ///
    /// # Errors
    ///
    /// If the system refuses.
    fn ring(&self) -> io::Result<()>;
}

impl Bell for Waker {
    fn ring(&self) -> io::Result<()> {
        self.wake()
    }
}

/// Finished jobs on their way back to the poll thread.
pub struct Completions {
    inner: Mutex<Inner>,
    bell: Box<dyn Bell>,
}

#[derive(Debug, Default)]
struct Inner {
    jobs: Jobs,
    /// Whether the poll thread has said that it will sleep, and nobody has rung since.
    asleep: bool,
}

impl fmt::Debug for Completions {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Completions").finish_non_exhaustive()
    }
}

impl Completions {
    /// A queue that is empty, for a poll thread that is awake.
    pub fn new(bell: impl Bell) -> Self {
        Self { inner: Mutex::new(Inner::default()), bell: Box::new(bell) }
    }

    /// Gives a finished job back. If the poll thread may be asleep, a ring is owed from now on.
    pub fn push(&self, job: Box<Job>) {
        self.lock().jobs.push(job);
    }

    /// Wakes the poll thread if it may be asleep and there is something for it.
    pub fn ring_if_owed(&self) {
        let owed = {
            let mut inner = self.lock();
            !inner.jobs.is_empty() && std::mem::take(&mut inner.asleep)
        };
        if owed {
            self.ring();
        }
    }

    /// Wakes the poll thread whatever it is doing.
    pub fn ring(&self) {
        if let Err(error) = self.bell.ring() {
            // An eventfd takes a write as long as it exists, and it lives as long as we do.
            log::error!("cannot wake the poll thread: {error}");
        }
    }

    /// Exchanges the finished jobs for the empty list `taken`.
    pub fn take(&self, taken: &mut Jobs) {
        debug_assert!(taken.is_empty(), "jobs taken before have been dealt with");
        let mut inner = self.lock();
        inner.asleep = false;
        std::mem::swap(&mut inner.jobs, taken);
    }

    /// Announces that the poll thread is going to sleep; it must not if this says no.
    pub fn may_sleep(&self) -> bool {
        let mut inner = self.lock();
        inner.asleep = inner.jobs.is_empty();
        inner.asleep
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        // No code that can panic runs under this lock, so what it guards is whole even if it were poisoned.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
