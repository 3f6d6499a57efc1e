//! What goes round the ring: the requests of one connection, and the answers to them.
//!
//! A job is born when bytes arrive on a connection that has none. It collects them until they make a request, travels
//! to a worker, comes back with the answers, and is emptied and kept for the next connection once these have been sent.
//! Its buffers keep their capacity, so in the steady state a request costs no allocation; and since a job is the only
//! thing that holds bytes, a connection without one owns no memory at all.
//!
//! What must always hold:
//! - `input[..parsed]` belongs to `requests`, in order; `input[parsed..]` has not been parsed yet;
//! - requests before `answered` have their answers in the output, those after it do not yet;
//! - while `body` is there, the last request is waiting for the rest of its body, which is thrown away as it comes.
//!
//! Nothing here touches a socket, a thread or a lock: bytes go in, requests come out.

use std::fmt;
use std::panic::{self, AssertUnwindSafe};

use crate::http::body::{BodyError, Decoded, Decoder};
use crate::http::parse::{Parsed, parse};
use crate::http::request::Head;
use crate::http::{Method, Persistence, Request, Status};
use crate::limits::Limits;
use crate::service::{Lane, Service};

/// Capacity beyond which a buffer is not kept when its job is emptied, in bytes.
const KEPT_CAPACITY: usize = 16 * 1024;

/// One trip to a worker and back, and the buffers for it.
#[derive(Debug, Default)]
pub struct Job {
    /// The connection's key in the event loop.
    pub token: usize,
    /// Which workers answer its requests.
    lane: Lane,
    /// What a worker shall do with it.
    pub task: Task,
    /// Whether the server answers nobody any more after this job, so that its last answer says so.
    pub farewell: bool,
    /// What becomes of the connection once the output is sent; decided by the worker.
    pub after: After,
    /// Bytes as they arrived.
    input: Vec<u8>,
    /// How many bytes of the input have been parsed.
    parsed: usize,
    /// The requests found in the parsed bytes: where each begins, and its head.
    requests: Vec<(usize, Head)>,
    /// How many of the requests have been answered.
    answered: usize,
    /// The decoder of the body that the last request is still waiting for.
    body: Option<Decoder>,
    /// Answers as they go over the wire.
    pub output: Vec<u8>,
    /// How many bytes of the output have been sent.
    sent: usize,
    /// How many responses are in the output.
    responses: u64,
}

/// Jobs on their way. Each travels in its box, from the loop through a worker and back, so that a move is a pointer's.
#[allow(clippy::vec_box)]
pub type Jobs = Vec<Box<Job>>;

/// What a worker shall do with a job.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Task {
    /// Let the service answer the requests.
    #[default]
    Answer,
    /// Let the service answer the requests, if there are any, and then refuse what came behind them.
    Refuse(Refusal),
    /// Ask the client to send the body it has announced.
    Continue,
    /// Turn the requests away, since there is nobody to answer them.
    Overloaded,
}

/// An answer made by the server itself, to something that is not a request we accept. The connection closes after it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// The status that says why.
    pub status: Status,
    /// The method of the refused request as far as it matters here: HEAD, whose answers have no content, or another.
    pub method: Method,
}

/// What becomes of a connection when a job's output has been sent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum After {
    /// It listens for the next request.
    #[default]
    KeepAlive,
    /// It closes, as the client asked.
    Close,
    /// It closes although the client expects it to stay open. The client may have sent more, and must still be able to
    /// read the answer.
    Linger,
}

/// What a job's input amounts to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Intake {
    /// Nothing has arrived.
    Empty,
    /// Part of a request head.
    Head,
    /// A request head and part of its body.
    Body,
    /// Something for a worker to do.
    Ready,
}

impl fmt::Display for Job {
    /// Tells the first request, and how many there are.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let lane = if self.lane() == Lane::Slow { "slow" } else { "quick" };
        match (self.next_request(), self.task) {
            (Some(request), _) => write!(formatter, "{} {}", request.method_token(), request.path())?,
            (None, Task::Refuse(refusal)) => write!(formatter, "{}", refusal.status.as_str())?,
            (None, _) => {}
        }
        match self.requests.len() - self.answered {
            0 | 1 => write!(formatter, ", for a {lane} worker."),
            count => write!(formatter, " and {} more, for a {lane} worker.", count - 1),
        }
    }
}

/// The rules a job reads by.
pub struct Rules<'a> {
    /// What a request may be.
    pub limits: &'a Limits,
    /// Who says which lane a request belongs to.
    pub service: &'a dyn Service,
    /// Maximum number of requests that may be read now.
    pub requests_max: usize,
}

impl fmt::Debug for Rules<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Rules").field("limits", self.limits).finish_non_exhaustive()
    }
}

impl Job {
    /// Takes bytes that have arrived and says what the input amounts to now.
    pub fn receive(&mut self, bytes: &[u8], rules: &Rules<'_>) -> Intake {
        let Some(decoder) = &mut self.body else {
            self.input.extend_from_slice(bytes);
            return self.parse(rules);
        };
        match decoder.decode(bytes, |_| {}) {
            Ok(Decoded::Partial) => Intake::Body,
            Ok(Decoded::Complete(length)) => {
                self.body = None;
                self.input.extend_from_slice(&bytes[length..]);
                self.parse(rules)
            }
            Err(error) => {
                self.body = None;
                self.refuse_last(error);
                Intake::Ready
            }
        }
    }

    /// Reads as many requests from the unparsed input as may travel together: complete, of one lane, up to the first
    /// that closes the connection.
    pub fn parse(&mut self, rules: &Rules<'_>) -> Intake {
        while self.has_room(rules) {
            let start = self.parsed;
            let (head, length, framing, expects_continue) = match parse(&self.input[start..], rules.limits) {
                Ok(Parsed::Complete { head, length, framing, expects_continue }) => {
                    (head, start + length, framing, expects_continue)
                }
                Ok(Parsed::Partial) => break,
                Err(error) => {
                    self.refuse(error.status());
                    break;
                }
            };
            let request = Request::new(&head, &self.input[start..]);
            let Ok(lane) = panic::catch_unwind(AssertUnwindSafe(|| rules.service.lane(&request))) else {
                self.refuse(Status::INTERNAL_SERVER_ERROR);
                break;
            };
            if !self.requests.is_empty() && lane != self.lane {
                break;
            }
            let Some(mut decoder) = Decoder::new(framing, rules.limits) else {
                self.push(start, head, length, lane);
                continue;
            };
            match decoder.decode(&self.input[length..], |_| {}) {
                Ok(Decoded::Complete(body)) => self.push(start, head, length + body, lane),
                Err(error) => {
                    self.push(start, head, length, lane);
                    self.refuse_last(error);
                    break;
                }
                // The requests before it are answered first; its bytes are looked at again after that.
                Ok(Decoded::Partial) if !self.requests.is_empty() => break,
                Ok(Decoded::Partial) => {
                    self.push(start, head, length, lane);
                    self.body = Some(decoder);
                    // Whoever has begun to send the body is not waiting for permission.
                    let waits = expects_continue && self.input.len() == length;
                    self.input.truncate(length);
                    self.task = if waits { Task::Continue } else { Task::Answer };
                    return if waits { Intake::Ready } else { Intake::Body };
                }
            }
        }
        if !self.requests.is_empty() || self.task != Task::Answer {
            Intake::Ready
        } else if self.has_leftover() {
            Intake::Head
        } else {
            Intake::Empty
        }
    }

    /// Whether one more request may join those found. A slow request travels alone, so that its answer is not held
    /// back by the next one's sleep.
    fn has_room(&self, rules: &Rules<'_>) -> bool {
        let Some((_, last)) = self.requests.last() else { return rules.requests_max > 0 };
        let most = match self.lane {
            Lane::Quick => rules.limits.pipeline_max.min(rules.requests_max),
            Lane::Slow => 1,
        };
        self.requests.len() < most && last.persistence != Persistence::Close && self.has_leftover()
    }

    fn push(&mut self, start: usize, head: Head, end: usize, lane: Lane) {
        self.requests.push((start, head));
        self.parsed = end;
        self.lane = lane;
    }

    /// Refuses whatever has not been parsed. Requests before it are answered first.
    pub fn refuse(&mut self, status: Status) {
        let line = self.input[self.parsed..].trim_ascii_start();
        let method = if line.starts_with(b"HEAD ") { Method::Head } else { Method::Other };
        self.task = Task::Refuse(Refusal { status, method });
    }

    /// Refuses the last request because its body is wrong.
    fn refuse_last(&mut self, error: BodyError) {
        self.withdraw(error.status());
    }

    /// Refuses a request that did not arrive in time.
    pub fn time_out(&mut self) {
        if self.body.take().is_some() {
            self.withdraw(Status::REQUEST_TIMEOUT);
        } else {
            self.refuse(Status::REQUEST_TIMEOUT);
        }
    }

    /// Takes the last request back and refuses it.
    fn withdraw(&mut self, status: Status) {
        if let Some((start, _)) = self.requests.pop() {
            self.parsed = start;
        }
        if self.requests.is_empty() {
            self.lane = Lane::Quick;
        }
        self.refuse(status);
    }

    /// Which workers it goes to now. To ask for a body, or to turn away, is quick whatever the request.
    #[must_use]
    pub fn lane(&self) -> Lane {
        match self.task {
            Task::Answer | Task::Refuse(_) => self.lane,
            Task::Continue | Task::Overloaded => Lane::Quick,
        }
    }

    /// Sends the job to the quick lane, where its requests are turned away.
    pub fn turn_away(&mut self) {
        self.task = Task::Overloaded;
    }

    /// The number of responses that the job asks for.
    #[must_use]
    pub fn responses(&self) -> u64 {
        let refusal = u64::from(matches!(self.task, Task::Refuse(_)));
        match self.task {
            Task::Continue => 0,
            _ => (self.requests.len() - self.answered) as u64 + refusal,
        }
    }

    /// The next request without an answer.
    #[must_use]
    pub fn next_request(&self) -> Option<Request<'_>> {
        let (start, head) = self.requests.get(self.answered)?;
        Some(Request::new(head, &self.input[*start..]))
    }

    /// Whether the next answer is the last that this job will get.
    #[must_use]
    pub fn is_at_last(&self) -> bool {
        self.answered + 1 >= self.requests.len() && !matches!(self.task, Task::Refuse(_))
    }

    /// Notes that the next request has its answer in the output.
    pub fn request_answered(&mut self) {
        self.answered += 1;
        self.responses += 1;
    }

    /// Notes that the refusal behind the requests is in the output.
    pub fn refused(&mut self) {
        self.task = Task::Answer;
        self.responses += 1;
    }

    /// Gives up whatever has not been answered; the connection is about to close.
    pub fn give_up(&mut self) {
        self.answered = self.requests.len();
        self.task = Task::Answer;
    }

    /// Whether there is still something for a worker to do once the output is sent.
    #[must_use]
    pub fn is_unfinished(&self) -> bool {
        self.answered < self.requests.len() || matches!(self.task, Task::Refuse(_))
    }

    /// Whether nothing but empty lines has arrived, which mean nothing before a request (RFC 9112 section 2.2).
    #[must_use]
    pub fn is_blank(&self) -> bool {
        self.requests.is_empty() && self.input[self.parsed..].iter().all(|byte| matches!(byte, b'\r' | b'\n'))
    }

    /// Whether bytes have arrived that no request in this job accounts for.
    #[must_use]
    pub fn has_leftover(&self) -> bool {
        self.parsed < self.input.len()
    }

    /// The part of the output that the socket has not taken yet.
    #[must_use]
    pub fn unsent(&self) -> &[u8] {
        &self.output[self.sent..]
    }

    /// Notes that the socket has taken this many bytes.
    pub fn advance(&mut self, length: usize) {
        self.sent += length;
    }

    /// Empties the output, all of which has been sent, and says how many responses it was.
    pub fn clear_output(&mut self) -> u64 {
        self.output.clear();
        self.sent = 0;
        std::mem::take(&mut self.responses)
    }

    /// Whether the last request is still waiting for its body.
    #[must_use]
    pub fn awaits_body(&self) -> bool {
        self.body.is_some()
    }

    /// Goes on to wait for the body that the client has been asked to send.
    pub fn await_body(&mut self) {
        self.task = Task::Answer;
    }

    /// Forgets the requests, all of which have been answered, and keeps the input behind them.
    pub fn clear_answered(&mut self) {
        self.requests.clear();
        self.answered = 0;
        self.task = Task::Answer;
        self.lane = Lane::Quick;
        self.after = After::KeepAlive;
        self.farewell = false;
        // Moving the rest to the front only when it is the smaller half makes the moves of a long pipeline cost no
        // more, all together, than its length.
        if self.parsed >= self.input.len() - self.parsed {
            self.input.drain(..self.parsed);
            self.parsed = 0;
        }
    }

    /// Gives back memory that a request which is slow to arrive does not need.
    pub fn settle(&mut self) {
        if self.input.capacity() > KEPT_CAPACITY {
            self.input.shrink_to(self.input.len());
        }
    }

    /// Empties the job for another connection.
    pub fn reset(&mut self) {
        self.input.clear();
        self.parsed = 0;
        self.body = None;
        self.clear_output();
        self.clear_answered();
        self.input.shrink_to(KEPT_CAPACITY);
        self.output.shrink_to(KEPT_CAPACITY);
    }
}
