//! How a server ends, as far as both engines agree about it.
//!
//! A shutdown is polite: the server stops accepting, answers everybody whose request it has read, says `Connection:
//! close` while it does so, and waits for its threads. How long it may take for that is in
//! [`Limits`](crate::limits::Limits).

/// How a shutdown ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Drain {
    /// Everybody was answered, every connection was closed and every thread has finished.
    Complete,
    /// Time ran out with this many connections open. They were cut.
    Cut(u64),
}
