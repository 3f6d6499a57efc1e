//! Every limit of the server, in one place.
//!
//! A server that talks to strangers is a collection of promises about how much of anything a stranger may use. They
//! stand together here so that one look shows what is bounded, and by what. Nothing in this module acts: the parser,
//! the connections and the engines read the numbers and keep the promises.

use std::time::{Duration, Instant};

/// What one client, and all clients together, may cost.
///
/// Every field may be set freely; a nonsensical value makes the server strict or generous, never unsound.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Maximum number of open connections. Further clients wait in the kernel's backlog until one closes.
    pub connections_max: usize,
    /// Length of the kernel's queue of connections not yet accepted; the kernel caps it at `net.core.somaxconn`.
    pub backlog: i32,
    /// Maximum number of connections accepted in one turn of the loop, so that a storm of newcomers cannot starve those inside.
    pub accepts_per_turn: usize,

    /// Longest request head, in bytes, from the request line to the empty line; a longer one is answered 431
    /// (RFC 6585 section 5).
    pub head_bytes_max: usize,
    /// Longest request target, in bytes; a longer one is answered 414 (RFC 9110 section 15.5.15).
    pub target_bytes_max: usize,
    /// Maximum number of header fields in a request, up to [`Limits::FIELDS_CEILING`]; more are answered 431.
    pub fields_max: usize,
    /// Longest request body, in bytes, after decoding; a longer one is answered 413 (RFC 9110 section 15.5.14).
    pub body_bytes_max: u64,
    /// Maximum number of pipelined requests that travel to a worker in one job.
    pub pipeline_max: usize,
    /// A worker stops adding answers to a job's output at this many bytes; the rest of the job goes round again when
    /// the client has read them.
    pub output_bytes_max: usize,

    /// How long a connection may stay open without a byte of a request.
    pub idle_timeout: Duration,
    /// How long a request's head may take from its first byte to its last; counted once, not per read (408).
    pub head_timeout: Duration,
    /// How long a request's body may take after its head; counted once, not per read (408).
    pub body_timeout: Duration,
    /// How long a client may leave our answer unread without taking a single byte of it.
    pub write_timeout: Duration,
    /// How long we keep reading from a client after refusing it, so that it can read the refusal (RFC 9112
    /// section 9.6).
    pub linger_timeout: Duration,
    /// Maximum number of bytes read and thrown away while lingering.
    pub linger_bytes_max: usize,

    /// Maximum number of jobs that may wait for a thread of the slow lane; further ones are answered 503.
    pub slow_queue_max: usize,

    /// How long a shutdown may take before the connections still open are cut.
    pub drain_timeout: Duration,
    /// How long a shutdown leaves an idle connection open, in case its next request is already on the way.
    pub drain_idle_grace: Duration,
    /// How long a shutdown waits for the rest of a request that has begun to arrive.
    pub drain_request_grace: Duration,
}

impl Limits {
    /// No request can have more header fields than this, whatever [`Limits::fields_max`] says: the parser's table of
    /// them lives on the stack.
    pub const FIELDS_CEILING: usize = 256;
}

/// The moment at which `duration` has passed. One that no clock can show is a hundred years away, which will do.
pub(crate) fn later(now: Instant, duration: Duration) -> Instant {
    const CENTURY: Duration = Duration::from_secs(100 * 365 * 24 * 60 * 60);
    now.checked_add(duration).unwrap_or(now + CENTURY)
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections_max: usize::MAX,
            backlog: 4096,
            accepts_per_turn: 128,
            head_bytes_max: 16 * 1024,
            target_bytes_max: 8 * 1024,
            fields_max: 100,
            body_bytes_max: 1024 * 1024,
            pipeline_max: 64,
            output_bytes_max: 64 * 1024,
            idle_timeout: Duration::from_secs(75),
            head_timeout: Duration::from_secs(10),
            body_timeout: Duration::from_secs(30),
            write_timeout: Duration::from_secs(30),
            linger_timeout: Duration::from_secs(1),
            linger_bytes_max: 256 * 1024,
            slow_queue_max: 512,
            drain_timeout: Duration::from_secs(30),
            drain_idle_grace: Duration::from_millis(250),
            drain_request_grace: Duration::from_secs(1),
        }
    }
}
