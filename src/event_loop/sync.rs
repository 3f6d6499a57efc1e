//! The locks and threads of the hand-over.
//!
//! They are the standard library's, except when the hand-over is checked by [loom](https://docs.rs/loom), which puts its
//! own in their place and runs them in every order there is: see `event_loop/model.rs`.

#[cfg(not(all(test, loom)))]
pub(crate) use std::sync::{Condvar, Mutex, MutexGuard};
#[cfg(not(all(test, loom)))]
pub(crate) use std::thread;

#[cfg(all(test, loom))]
pub(crate) use loom::sync::{Condvar, Mutex, MutexGuard};
#[cfg(all(test, loom))]
pub(crate) use loom::thread;
