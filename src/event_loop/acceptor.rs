//! The door: the listening socket, and what is known about who waits behind it.
//!
//! The listener is registered edge-triggered, so an event says only that somebody *has come*; whether somebody is *still
//! there* has to be remembered, or those who come while we are full would be forgotten. [`Backlog`] is that memory.
//!
//! What must always hold: while somebody waits, one of three things will make us look again. We are not full, and look in
//! the next turn; or we are full, and look when a connection closes; or there was no descriptor, and we look when
//! a connection closes, and now and then besides, since the descriptor may come from elsewhere. We never look in vain
//! twice in a turn, so a full server does not spin.

use std::io::ErrorKind;
use std::time::{Duration, Instant};

use mio::net::{TcpListener, TcpStream};

use crate::metrics::Metrics;

/// When descriptors have run out and none of ours is closed, how long until accepting is tried again.
const RETRY: Duration = Duration::from_millis(100);

/// The listening socket and what is known about it.
#[derive(Debug)]
pub(crate) struct Acceptor {
    /// `None` once the server is shutting down.
    listener: Option<TcpListener>,
    backlog: Backlog,
}

/// What is known about connections waiting to be accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Backlog {
    /// None; an event will announce the next one.
    Empty,
    /// There may be some; they are accepted in the next turn.
    Waiting,
    /// There are some, but no place for them until a connection closes.
    Full,
    /// There are some, but no descriptor for them until one closes; if it is none of ours, we find out by trying.
    OutOfDescriptors { retry: Instant },
}

impl Acceptor {
    /// A door with somebody behind it, perhaps: the listener has been open for a while.
    pub(crate) fn new(listener: TcpListener) -> Self {
        Self { listener: Some(listener), backlog: Backlog::Waiting }
    }

    /// Acts upon an event of the listener.
    pub(crate) fn ready(&mut self) {
        self.backlog = Backlog::Waiting;
    }

    /// Acts upon a connection having closed.
    pub(crate) fn somebody_left(&mut self) {
        if matches!(self.backlog, Backlog::Full | Backlog::OutOfDescriptors { .. }) {
            self.backlog = Backlog::Waiting;
        }
    }

    /// How long until accepting has to be tried again without anything having happened.
    pub(crate) fn sleep_time(&self, now: Instant) -> Option<Duration> {
        match self.backlog {
            Backlog::Waiting => Some(Duration::ZERO),
            Backlog::OutOfDescriptors { retry } => Some(retry.saturating_duration_since(now)),
            Backlog::Empty | Backlog::Full => None,
        }
    }

    /// Lets the next client in, if there is one, and there is `room`.
    pub(crate) fn accept(&mut self, room: bool, now: Instant, metrics: &Metrics) -> Option<TcpStream> {
        let listener = self.listener.as_ref()?;
        match self.backlog {
            Backlog::Waiting => {}
            Backlog::OutOfDescriptors { retry } if retry <= now => {}
            _ => return None,
        }
        if !room {
            metrics.accept_pauses.add(1);
            self.backlog = Backlog::Full;
            return None;
        }
        self.backlog = loop {
            match listener.accept() {
                Ok((socket, _)) => {
                    self.backlog = Backlog::Waiting;
                    return Some(socket);
                }
                Err(error) => match error.kind() {
                    ErrorKind::WouldBlock => break Backlog::Empty,
                    // The newcomer has left again, or a signal came; the next one is not to suffer for it.
                    ErrorKind::Interrupted | ErrorKind::ConnectionAborted | ErrorKind::ConnectionReset => {}
                    _ => {
                        log::debug!("cannot accept connections for the moment: {error}");
                        metrics.accept_pauses.add(1);
                        break Backlog::OutOfDescriptors { retry: now + RETRY };
                    }
                },
            }
        };
        None
    }

    /// Closes the door for good.
    pub(crate) fn close(&mut self) {
        self.listener = None;
        self.backlog = Backlog::Empty;
    }
}
