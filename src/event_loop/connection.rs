//! One connection, as a state machine: readiness and answers go in, [`Next`] comes out.
//!
//! ```text
//!             request(s) complete, or refused            answered
//!  Reading ----------------------------------> InFlight ----------> Writing
//!     ^  |                                        ^                  |   |
//!     |  +-- peer gone, or idle too long --> x    +-- more answers --+   |
//!     |                                                                  |
//!     +------------------- all sent, kept open --------------------------+
//!                                                                        |
//!                     x <-- Lingering <-- all sent, peer may still send --+--> x (closed)
//! ```
//!
//! It is half-duplex on purpose. At most one job of a connection is out, and only that job's return ends `InFlight`. From
//! this follow, without any bookkeeping: answers in the order of the requests, queues never longer than the number of
//! connections, no slot reused while an answer for it is still on the way, and back-pressure, because a client that does
//! not read its answers is not read from either.
//!
//! What must always hold:
//! - `InFlight` and `Writing` never read. Readiness seen meanwhile is kept in `inbox` and acted upon in `Reading`.
//! - The connection waits for readiness only after the kernel said `WouldBlock`, or after a short read, which says the
//!   same (epoll(7), question 9) unless the peer has shut down. (Or sent urgent data, which HTTP does not know; who does
//!   that may have to wait for a deadline.)
//! - A connection that waits for a request and has no byte of one owns no memory beyond itself.
//! - No error leaves this module: a connection that fails is [`Next::Close`].
//!
//! There is no variant for "closed": a closed connection is one that is no longer in the event loop's slab.

use std::io::{self, ErrorKind, Read, Write};
use std::net::Shutdown;
use std::sync::Arc;
use std::time::Duration;

use mio::net::TcpStream;

use super::deadlines::Tick;
use super::job::{After, Intake, Job, Jobs, Rules, Task};
use crate::limits::Limits;
use crate::metrics::Metrics;
use crate::service::Service;

/// What the event loop shall do for a connection.
#[derive(Debug)]
pub(crate) enum Next {
    /// Nothing until the next event, or until its deadline.
    Wait,
    /// Hand this job to the workers.
    Dispatch(Box<Job>),
    /// Forget the connection.
    Close,
}

/// What an event says about a connection. Any of it may be wrong; only reading and writing tells.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Readiness {
    pub(crate) readable: bool,
    pub(crate) writable: bool,
    /// The peer will send no more, or is gone.
    pub(crate) closed: bool,
}

/// A nonblocking byte stream. Tests play it from a script.
pub(crate) trait Socket: Read + Write {
    /// Sends the peer our end of stream.
    fn shutdown_write(&mut self) -> io::Result<()>;
}

impl Socket for TcpStream {
    fn shutdown_write(&mut self) -> io::Result<()> {
        self.shutdown(Shutdown::Write)
    }
}

/// The poll thread's workbench: what every connection uses while it is being visited, and no connection owns.
pub(crate) struct Workbench {
    pub(crate) limits: Limits,
    pub(crate) service: Arc<dyn Service>,
    pub(crate) metrics: Arc<Metrics>,
    /// This turn's time.
    pub(crate) now: Tick,
    /// Where bytes are read to; what is in it is worthless after the visit.
    pub(crate) scratch: Box<[u8]>,
    /// Emptied jobs, to be used again.
    pub(crate) spare_jobs: Jobs,
    /// How many more requests the server will answer, if that is limited.
    pub(crate) requests_left: Option<u64>,
    /// Whether the server is shutting down.
    pub(crate) draining: bool,
}

/// Maximum number of emptied jobs that are kept; more come and go with the allocator.
const SPARE_JOBS_MAX: usize = 1024;

impl Workbench {
    fn recycle(&mut self, mut job: Box<Job>) {
        if self.spare_jobs.len() < SPARE_JOBS_MAX {
            job.reset();
            self.spare_jobs.push(job);
        }
    }

    /// Counts the responses of a job against what may still be answered.
    fn count(&mut self, job: &mut Job) {
        let responses = job.responses();
        let refusals = u64::from(matches!(job.task, Task::Refuse(_)));
        self.metrics.requests.add(responses - refusals);
        self.metrics.refusals.add(refusals);
        if let Some(left) = &mut self.requests_left {
            *left = left.saturating_sub(responses);
            job.farewell = *left == 0;
        }
    }

    fn rules(&self) -> Rules<'_> {
        let requests_max = self.requests_left.map_or(usize::MAX, |left| usize::try_from(left).unwrap_or(usize::MAX));
        Rules { limits: &self.limits, service: &*self.service, requests_max }
    }
}

/// A client's connection.
#[derive(Debug)]
pub(crate) struct Connection<S = TcpStream> {
    socket: S,
    /// When the present state has lasted too long.
    deadline: Tick,
    state: State,
    inbox: Inbox,
}

/// What a connection is doing.
#[derive(Debug)]
enum State {
    /// Waiting for a request; the job holds what has arrived of one.
    Reading(Option<Box<Job>>),
    /// Its job is with the workers.
    InFlight,
    /// The socket has not taken all of the job's output.
    Writing(Box<Job>),
    /// Everything is said; reading and discarding until the peer has heard it. Counts the bytes left to discard.
    Lingering(usize),
}

/// What is known about bytes waiting in the socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Inbox {
    /// None; an event will announce the next ones.
    Empty,
    /// An event announced some, and no read has said otherwise.
    Ready,
    /// The peer sends no more, so no event will come; only reading to the end tells what is left.
    Closing,
}

impl<S: Socket> Connection<S> {
    /// A connection just accepted.
    pub(crate) fn new(socket: S, bench: &Workbench) -> Self {
        let mut connection = Self { socket, deadline: Tick::NEVER, state: State::Reading(None), inbox: Inbox::Empty };
        connection.arm(bench.limits.idle_timeout, bench);
        connection
    }

    /// When [`Connection::expire`] is to be called.
    pub(crate) fn deadline(&self) -> Tick {
        self.deadline
    }

    /// Acts upon an event.
    pub(crate) fn ready(&mut self, readiness: Readiness, bench: &mut Workbench) -> Next {
        if readiness.closed {
            self.inbox = Inbox::Closing;
        } else if readiness.readable && self.inbox == Inbox::Empty {
            self.inbox = Inbox::Ready;
        }
        match self.state {
            State::Reading(_) => self.read(bench),
            State::Lingering(_) => self.discard(bench),
            State::Writing(_) if readiness.writable || readiness.closed => {
                let State::Writing(job) = self.take_state() else { unreachable!("it was matched a line above") };
                self.write(job, bench)
            }
            State::InFlight | State::Writing(_) => Next::Wait,
        }
    }

    /// Takes back the job that was handed to the workers, with its answers.
    pub(crate) fn complete(&mut self, job: Box<Job>, bench: &mut Workbench) -> Next {
        debug_assert!(matches!(self.state, State::InFlight), "a job came back to a connection that had none out");
        self.write(job, bench)
    }

    /// Acts upon the deadline having passed.
    pub(crate) fn expire(&mut self, bench: &mut Workbench) -> Next {
        self.deadline = Tick::NEVER;
        bench.metrics.timeouts.add(1);
        match self.take_state() {
            // Half a request deserves an answer, but not from a server that is shutting down.
            State::Reading(Some(mut job)) if !bench.draining && !job.is_blank() => {
                job.time_out();
                self.dispatch(job, bench)
            }
            // Nobody can refuse to wait for a worker; there is no deadline here.
            State::InFlight => Next::Wait,
            State::Reading(_) | State::Writing(_) | State::Lingering(_) => Next::Close,
        }
    }

    /// Shortens the patience with a client that has no complete request here, because the server is shutting down.
    pub(crate) fn drain(&mut self, bench: &Workbench) {
        let grace = match &self.state {
            State::Reading(None) => bench.limits.drain_idle_grace,
            State::Reading(Some(_)) => bench.limits.drain_request_grace,
            State::InFlight | State::Writing(_) | State::Lingering(_) => return,
        };
        self.deadline = self.deadline.min(bench.now.after(grace));
    }

    /// Leaves `InFlight` behind, the one state that owns nothing.
    fn take_state(&mut self) -> State {
        std::mem::replace(&mut self.state, State::InFlight)
    }

    /// Reads until there is something to do or nothing to read.
    fn read(&mut self, bench: &mut Workbench) -> Next {
        while self.inbox != Inbox::Empty {
            match self.socket.read(&mut bench.scratch) {
                Ok(0) => return self.lose(bench),
                Ok(length) => {
                    if length < bench.scratch.len() && self.inbox == Inbox::Ready {
                        self.inbox = Inbox::Empty;
                    }
                    match self.receive(length, bench) {
                        Next::Wait => {}
                        next => return next,
                    }
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => self.inbox = Inbox::Empty,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(_) => return self.lose(bench),
            }
        }
        Next::Wait
    }

    /// Notes that the peer is gone.
    fn lose(&mut self, bench: &Workbench) -> Next {
        if !matches!(self.state, State::Reading(None)) {
            bench.metrics.disconnects.add(1);
        }
        Next::Close
    }

    /// Adds bytes that were read to what has arrived so far.
    fn receive(&mut self, length: usize, bench: &mut Workbench) -> Next {
        let State::Reading(job) = self.take_state() else { unreachable!("only Reading reads requests") };
        let (before, mut job) = match job {
            Some(job) if job.awaits_body() => (Intake::Body, job),
            Some(job) => (Intake::Head, job),
            None => (Intake::Empty, bench.spare_jobs.pop().unwrap_or_default()),
        };
        let intake = job.receive(&bench.scratch[..length], &bench.rules());
        self.proceed(before, intake, job, bench)
    }

    /// Goes on according to what a job's input amounts to, now and before.
    fn proceed(&mut self, before: Intake, intake: Intake, mut job: Box<Job>, bench: &mut Workbench) -> Next {
        match intake {
            Intake::Ready => self.dispatch(job, bench),
            _ if bench.requests_left == Some(0) => Next::Close,
            Intake::Empty => {
                bench.recycle(job);
                self.state = State::Reading(None);
                self.arm(bench.limits.idle_timeout, bench);
                Next::Wait
            }
            Intake::Head | Intake::Body => {
                job.settle();
                self.state = State::Reading(Some(job));
                // Counted from the first byte: whoever sends a byte a second does not gain time by it.
                if before != intake {
                    let timeout = match intake {
                        Intake::Body => bench.limits.body_timeout,
                        _ => bench.limits.head_timeout,
                    };
                    self.arm(timeout, bench);
                }
                Next::Wait
            }
        }
    }

    /// Sets the deadline of the present state.
    fn arm(&mut self, timeout: Duration, bench: &Workbench) {
        self.deadline = bench.now.after(timeout);
        if bench.draining {
            self.drain(bench);
        }
    }

    /// Sends a job on its way, unless everything that was to be answered has been.
    fn dispatch(&mut self, mut job: Box<Job>, bench: &mut Workbench) -> Next {
        if bench.requests_left == Some(0) {
            return Next::Close;
        }
        bench.count(&mut job);
        self.send_off(job)
    }

    fn send_off(&mut self, job: Box<Job>) -> Next {
        self.state = State::InFlight;
        self.deadline = Tick::NEVER;
        Next::Dispatch(job)
    }

    /// Writes until everything is sent or the socket takes no more.
    fn write(&mut self, mut job: Box<Job>, bench: &mut Workbench) -> Next {
        let mut progress = self.deadline == Tick::NEVER;
        while !job.unsent().is_empty() {
            match self.socket.write(job.unsent()) {
                Ok(0) => return self.lose(bench),
                Ok(length) => {
                    job.advance(length);
                    progress = true;
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    self.state = State::Writing(job);
                    if progress {
                        self.arm(bench.limits.write_timeout, bench);
                    }
                    return Next::Wait;
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(_) => return self.lose(bench),
            }
        }
        self.sent(job, bench)
    }

    /// Goes on after the whole output has been sent.
    fn sent(&mut self, mut job: Box<Job>, bench: &mut Workbench) -> Next {
        bench.metrics.responses.add(job.clear_output());
        match job.after {
            _ if job.task == Task::Continue => {
                job.await_body();
                self.state = State::Reading(Some(job));
                self.arm(bench.limits.body_timeout, bench);
                self.read(bench)
            }
            After::KeepAlive if job.is_unfinished() => self.send_off(job),
            After::KeepAlive => {
                job.clear_answered();
                let intake = job.parse(&bench.rules());
                match self.proceed(Intake::Empty, intake, job, bench) {
                    Next::Wait => self.read(bench),
                    next => next,
                }
            }
            after => {
                let all_read = !job.has_leftover() && self.inbox == Inbox::Empty;
                bench.recycle(job);
                if after == After::Close && all_read { Next::Close } else { self.linger(bench) }
            }
        }
    }

    /// Closes in two steps, so that a reset caused by bytes we have not read does not destroy the answer on its way
    /// (RFC 9112 section 9.6).
    fn linger(&mut self, bench: &mut Workbench) -> Next {
        if self.socket.shutdown_write().is_err() {
            return Next::Close;
        }
        self.state = State::Lingering(bench.limits.linger_bytes_max);
        self.arm(bench.limits.linger_timeout, bench);
        self.discard(bench)
    }

    /// Reads and throws away, until the peer closes or has sent too much.
    fn discard(&mut self, bench: &mut Workbench) -> Next {
        let State::Lingering(mut left) = self.state else { return Next::Wait };
        while self.inbox != Inbox::Empty {
            match self.socket.read(&mut bench.scratch) {
                Ok(length) if length > 0 && length < left => {
                    left -= length;
                    if length < bench.scratch.len() && self.inbox == Inbox::Ready {
                        self.inbox = Inbox::Empty;
                    }
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => self.inbox = Inbox::Empty,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Ok(_) | Err(_) => return Next::Close,
            }
        }
        self.state = State::Lingering(left);
        Next::Wait
    }
}

#[cfg(test)]
mod tests;
