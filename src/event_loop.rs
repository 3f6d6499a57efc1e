//! The first engine: one poll thread that does all the waiting, and workers that do all the answering.
//!
//! ```text
//!             poll thread (one)                               worker threads
//!   socket --> Connection::ready ----Next::Dispatch(job)----> Workers::submit
//!                 |  bytes -> http::parse -> requests             |
//!                 |                                               v  Service::respond -> bytes
//!   socket <-- Connection::complete <---- take ---- Completions::push   (rings if the poll thread may sleep)
//! ```
//!
//! A request goes round this ring once, and nobody calls back: a `Connection` *returns* what should happen as a
//! `Next`, and `EventLoop::apply` is the one place where it does happen.
//!
//! # A turn
//!
//! 1. **Poll** until a socket is ready, the bell rings, or a deadline is due.
//! 2. **Sockets**: each event goes to its connection.
//! 3. **Accept** newcomers, a bounded number of them.
//! 4. **Completions**: each finished job goes back to its connection, which writes at once.
//! 5. **Sweep** the connections whose time is up, if a deadline is due.
//! 6. **Hand over**: everything that this turn has produced goes to the workers in one go. This comes last, so that no
//!    job can be left lying while the loop sleeps.
//!
//! # The parts
//!
//! `job` is what goes round; `deadlines` says whose time is up; `connection` is the state machine of one client;
//! `acceptor` lets clients in; `completions` is the way back from the workers, with the bell; `workers` are the lanes;
//! `sync` is what the last two lock with. This file is the loop itself.
//!
//! The hand-over, [`job`], [`completions`] and [`workers`], can be used without the loop, by one's own; the rest is private.
//!
//! # What must always hold
//!
//! - The poll thread never blocks anywhere but in `poll`: it reads no file, sleeps for nobody, and holds a lock only to
//!   move a few pointers.
//! - A connection is in the slab from accept to close, and its key is its token. While a job is out, the connection is
//!   kept, so a key is never given away under an answer that is still to come.
//! - A socket is registered once, edge-triggered, for reading and writing. Nothing is ever registered again.
//! - Events may be spurious; every one is only a reason to try.
//! - An error on one connection ends that connection. Only the poller itself can end the loop.
//! - An idle loop sleeps: there is no periodic wake-up.

mod sync;

pub mod job;

mod deadlines;

mod connection;

mod acceptor;

pub mod completions;

pub mod workers;

use std::io::{self, ErrorKind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use mio::event::Event;
use mio::net::TcpListener;
use mio::{Events, Interest, Poll, Token, Waker};
use slab::Slab;

use self::acceptor::Acceptor;
use self::completions::Completions;
use self::connection::{Connection, Next, Readiness, Workbench};
use self::deadlines::{Clock, Deadlines, Tick};
use self::job::{Job, Jobs};
use self::workers::{Common, LaneConfig, Workers};
use crate::limits::{Limits, later};
use crate::metrics::Metrics;
use crate::service::{Lane, Service};
use crate::shutdown::Drain;

/// Tokens that are not connections. Slab keys count up from zero and never get here.
const LISTENER: Token = Token(usize::MAX);
const BELL: Token = Token(usize::MAX - 1);

/// Events taken from the poller at once.
const EVENTS_PER_TURN: usize = 1024;

/// Bytes read at once. A request is a few hundred; this is for pipelines and bodies.
const SCRATCH_BYTES: usize = 64 * 1024;

/// How long the oldest quick job may wait before another thread is put to work. While jobs wait, the poll thread wakes
/// after this time to see to it, which needs a timer. A timer of a few milliseconds is nearly always the next one to fire,
/// so that the kernel has to set the processor's timer anew each time the poll thread goes to sleep; with one beyond the
/// next scheduler tick (4 ms at 250 Hz) it does not, and a request costs 4 % less.
const QUICK_PATIENCE: Duration = Duration::from_millis(10);

/// How long a quick worker may put off the ring for its finished jobs: about the time for a batch of pages.
const QUICK_RING_PUT_OFF: Duration = Duration::from_micros(100);

/// How long idle worker threads may take to leave, even when the time for a shutdown is over.
const LEAVING: Duration = Duration::from_secs(1);

/// The quick lane may grow to this many times its size when its threads are blocked.
const QUICK_GROWTH: usize = 4;

/// How the event loop is to be set up.
#[derive(Clone, Debug)]
pub(crate) struct Setup {
    pub(crate) limits: Limits,
    /// Threads of the quick lane.
    pub(crate) workers: usize,
    /// Maximum number of threads of the slow lane.
    pub(crate) slow_workers: usize,
    /// Stop after this many responses.
    pub(crate) requests: Option<u64>,
}

/// Tells a running event loop to stop.
#[derive(Clone)]
pub(crate) struct Stopper {
    requested: Arc<AtomicBool>,
    completions: Arc<Completions>,
}

impl Stopper {
    /// Begins the shutdown. Saying it again changes nothing.
    pub(crate) fn stop(&self) {
        self.requested.store(true, Ordering::Release);
        self.completions.ring();
    }
}

/// The poll thread's possessions.
pub(crate) struct EventLoop {
    poll: Poll,
    clock: Clock,
    connections: Slab<Connection>,
    acceptor: Acceptor,
    deadlines: Deadlines,
    bench: Workbench,
    quick: Workers,
    slow: Workers,
    /// This turn's jobs for each lane.
    quick_jobs: Jobs,
    slow_jobs: Jobs,
    /// Whether jobs of the quick lane may be waiting for a thread.
    quick_waits: bool,
    common: Arc<Common>,
    stopper: Stopper,
    /// When a shutdown under way is cut short.
    drain_until: Option<Instant>,
}

impl EventLoop {
    /// Sets up the loop and starts its workers.
    ///
    /// # Errors
    ///
    /// If the system refuses a poller, a waker or a thread.
    pub(crate) fn new(
        listener: std::net::TcpListener,
        setup: Setup,
        service: Arc<dyn Service>,
        metrics: Arc<Metrics>,
    ) -> io::Result<Self> {
        let poll = Poll::new()?;
        let completions = Arc::new(Completions::new(Waker::new(poll.registry(), BELL)?));
        let mut listener = TcpListener::from_std(listener);
        poll.registry().register(&mut listener, LISTENER, Interest::READABLE)?;

        let common = Arc::new(Common {
            service: Arc::clone(&service),
            completions: Arc::clone(&completions),
            metrics: Arc::clone(&metrics),
            limits: setup.limits.clone(),
            draining: AtomicBool::new(false),
        });
        let quick = LaneConfig {
            name: "quick",
            threads_min: setup.workers,
            threads_max: setup.workers.saturating_mul(QUICK_GROWTH),
            // As long as there are connections: each has one job out at most.
            queue_max: usize::MAX,
            patience: QUICK_PATIENCE,
            ring_put_off: QUICK_RING_PUT_OFF,
        };
        let slow = LaneConfig {
            name: "slow",
            // One thread that is always there means that no job is stranded when the system refuses to start another.
            threads_min: 1,
            threads_max: setup.slow_workers,
            queue_max: setup.limits.slow_queue_max,
            patience: Duration::ZERO,
            ring_put_off: Duration::ZERO,
        };
        let now = Instant::now();
        let clock = Clock::new(now);
        Ok(Self {
            poll,
            connections: Slab::new(),
            acceptor: Acceptor::new(listener),
            deadlines: Deadlines::new(),
            bench: Workbench {
                now: clock.tick(now),
                limits: setup.limits,
                service,
                metrics,
                scratch: vec![0; SCRATCH_BYTES].into_boxed_slice(),
                spare_jobs: Vec::new(),
                requests_left: setup.requests,
                draining: false,
            },
            clock,
            quick: Workers::start(quick, Arc::clone(&common))?,
            slow: Workers::start(slow, Arc::clone(&common))?,
            quick_jobs: Vec::new(),
            slow_jobs: Vec::new(),
            quick_waits: false,
            common,
            stopper: Stopper { requested: Arc::default(), completions },
            drain_until: None,
        })
    }

    /// What stops this loop from another thread.
    pub(crate) fn stopper(&self) -> Stopper {
        self.stopper.clone()
    }

    /// Runs until stopped, and then until everybody has been answered.
    ///
    /// # Errors
    ///
    /// If the poller fails, which it does not do for anything a client can cause.
    pub(crate) fn run(mut self) -> io::Result<Drain> {
        let mut events = Events::with_capacity(EVENTS_PER_TURN);
        let mut finished = Vec::new();
        loop {
            let timeout = self.sleep_time(Instant::now());
            match self.poll.poll(&mut events, timeout) {
                Err(error) if error.kind() == ErrorKind::Interrupted => events.clear(),
                outcome => outcome?,
            }
            let now = Instant::now();
            self.bench.now = self.clock.tick(now);

            for event in &events {
                match event.token() {
                    LISTENER => self.acceptor.ready(),
                    BELL => {}
                    Token(key) => self.socket_ready(key, event),
                }
            }
            self.accept(now);
            self.stopper.completions.take(&mut finished);
            for job in finished.drain(..) {
                self.job_finished(job);
            }
            if self.stopper.requested.load(Ordering::Acquire) || self.bench.requests_left == Some(0) {
                self.begin_drain(now);
            }
            self.sweep();
            self.hand_over(now);

            if let Some(until) = self.drain_until {
                let open = self.connections.len();
                if open == 0 {
                    break Ok(self.stop_workers(until));
                }
                if now >= until {
                    break Ok(Drain::Cut(open as u64));
                }
            }
        }
    }

    /// How long the next poll may sleep.
    fn sleep_time(&self, now: Instant) -> Option<Duration> {
        let sweep = self.clock.until(self.deadlines.due(), now);
        let watch = self.quick_waits.then_some(QUICK_PATIENCE);
        let drain = self.drain_until.map(|until| until.saturating_duration_since(now));
        let timeout = [sweep, watch, self.acceptor.sleep_time(now), drain].into_iter().flatten().min();
        if timeout == Some(Duration::ZERO) || self.stopper.completions.may_sleep() {
            timeout
        } else {
            Some(Duration::ZERO)
        }
    }

    fn socket_ready(&mut self, key: usize, event: &Event) {
        let readiness = Readiness {
            readable: event.is_readable(),
            writable: event.is_writable(),
            closed: event.is_read_closed() || event.is_error(),
        };
        // An event may be left over from a connection that was closed earlier in this very turn.
        let Some(connection) = self.connections.get_mut(key) else { return };
        let next = connection.ready(readiness, &mut self.bench);
        self.apply(key, next);
    }

    fn job_finished(&mut self, job: Box<Job>) {
        let key = job.token;
        let Some(connection) = self.connections.get_mut(key) else {
            debug_assert!(false, "a connection is kept while its job is out");
            return;
        };
        log::debug!("Connection {key} gets {} bytes.", job.output.len());
        let next = connection.complete(job, &mut self.bench);
        self.apply(key, next);
    }

    /// Makes what a connection asks for happen.
    fn apply(&mut self, key: usize, next: Next) {
        match next {
            Next::Wait => {
                let deadline = self.connections.get(key).map_or(Tick::NEVER, Connection::deadline);
                self.deadlines.note(deadline);
            }
            Next::Dispatch(mut job) => {
                log::debug!("Connection {key} asks: {job}");
                job.token = key;
                match job.lane() {
                    Lane::Quick => self.quick_jobs.push(job),
                    Lane::Slow => self.slow_jobs.push(job),
                }
            }
            Next::Close => {
                log::debug!("Connection {key} closed.");
                // Closing the descriptor takes it out of the poller as well.
                drop(self.connections.remove(key));
                self.bench.metrics.connections_closed.add(1);
                self.acceptor.somebody_left();
            }
        }
    }

    /// Accepts connections while there are some and there is room, a bounded number of them.
    fn accept(&mut self, now: Instant) {
        for _ in 0..self.bench.limits.accepts_per_turn.max(1) {
            let room = self.connections.len() < self.bench.limits.connections_max;
            let Some(mut socket) = self.acceptor.accept(room, now, &self.bench.metrics) else { return };
            let entry = self.connections.vacant_entry();
            let interest = Interest::READABLE | Interest::WRITABLE;
            if let Err(error) = self.poll.registry().register(&mut socket, Token(entry.key()), interest) {
                log::warn!("cannot watch a new connection: {error}");
                continue;
            }
            log::debug!("Connection {} accepted.", entry.key());
            let connection = entry.insert(Connection::new(socket, &self.bench));
            self.deadlines.note(connection.deadline());
            self.bench.metrics.connections_accepted.add(1);
        }
    }

    /// Gives this turn's jobs to the workers.
    fn hand_over(&mut self, now: Instant) {
        if !self.slow_jobs.is_empty() {
            self.slow.submit(&mut self.slow_jobs, now);
            for mut job in self.slow_jobs.drain(..) {
                job.turn_away();
                self.bench.metrics.overloads.add(job.responses());
                self.quick_jobs.push(job);
            }
        }
        if !self.quick_jobs.is_empty() {
            self.quick.submit(&mut self.quick_jobs, now);
            self.quick_waits = true;
        } else if self.quick_waits {
            self.quick_waits = self.quick.nudge(now);
        }
    }

    /// Expires connections whose time is up.
    fn sweep(&mut self) {
        let Some(keys) = self.deadlines.slice(self.bench.now, self.connections.capacity()) else { return };
        for key in keys {
            let Some(connection) = self.connections.get_mut(key) else { continue };
            if connection.deadline() <= self.bench.now {
                let next = connection.expire(&mut self.bench);
                self.apply(key, next);
            } else {
                self.deadlines.note(connection.deadline());
            }
        }
    }

    /// Stops accepting, tells the workers to say goodbye in their answers, and loses patience with idle clients.
    fn begin_drain(&mut self, now: Instant) {
        if self.drain_until.is_some() {
            return;
        }
        self.common.draining.store(true, Ordering::Relaxed);
        // A client in the kernel's queue thinks that it is connected, and may have sent a request.
        self.acceptor.ready();
        let turns = self.bench.limits.backlog.unsigned_abs() as usize / self.bench.limits.accepts_per_turn.max(1);
        for _ in 0..=turns {
            self.accept(now);
        }
        self.bench.draining = true;
        self.acceptor.close();
        for (_, connection) in &mut self.connections {
            connection.drain(&self.bench);
            self.deadlines.note(connection.deadline());
        }
        self.drain_until = Some(later(now, self.bench.limits.drain_timeout));
    }

    /// Waits for the worker threads, which have nothing left to do.
    fn stop_workers(&self, until: Instant) -> Drain {
        let until = until.max(Instant::now() + LEAVING);
        let quick = self.quick.stop(until);
        let slow = self.slow.stop(until);
        if quick && slow { Drain::Complete } else { Drain::Cut(0) }
    }
}

#[cfg(all(test, loom))]
mod model;
