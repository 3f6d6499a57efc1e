//! The second engine: the Book's plain web server, one connection per job, with or without its thread pool.
//!
//! ```text
//!  accept -> ThreadPool::execute -> read, parse, respond, write, close      (on one of the pool's threads)
//! ```
//!
//! Everything about it is a straight line, which is its charm: a thread reads a request, answers it, closes the
//! connection, and takes the next one. It shares the parser, the limits and the service with the event loop, so the two
//! give the same answers; what differs is who waits. Here a thread waits for each client, so four clients that say
//! nothing, or four `GET /sleep`, hold up a pool of four. That is the lesson, and it is not repaired.
//!
//! What the Book leaves as an exercise is done: an empty connection, a reset or a panic costs that connection and nothing
//! else; a client that is slower than the limits allow is refused; bodies are read; and the server can be stopped.

mod thread_pool;

use std::io::{self, ErrorKind, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::panic::{self, AssertUnwindSafe};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::sync::{Arc, OnceLock};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use socket2::{Domain, Socket, Type};

use crate::http::body::{Decoded, Decoder};
use crate::http::date::DateCache;
use crate::http::parse::{Parsed, parse};
use crate::http::request::Head;
use crate::http::response::CONTINUE;
use crate::http::{Method, Persistence, Request, Response, Status};
use crate::limits::{Limits, later};
use crate::metrics::Metrics;
use crate::service::Service;
use crate::shutdown::Drain;

pub use thread_pool::{PoolCreationError, ThreadPool};

/// How often a thread that waits for a client looks up to see whether the server is stopping.
const LOOK_UP: Duration = Duration::from_millis(250);

/// How long to wait when descriptors have run out; one of the pool's threads will free some.
const ACCEPT_RETRY: Duration = Duration::from_millis(50);

/// The Book's `main`: a listener, and whoever handles its connections.
pub(crate) struct Book {
    listener: TcpListener,
    pool: Option<ThreadPool>,
    /// Stop after this many connections.
    requests: Option<u64>,
    house: Arc<House>,
}

/// What all connections share.
struct House {
    service: Arc<dyn Service>,
    limits: Limits,
    metrics: Arc<Metrics>,
    stopping: AtomicBool,
    /// Where the connection comes from that only wakes us up to stop.
    knock: OnceLock<SocketAddr>,
}

/// Tells a running engine to stop.
#[derive(Clone)]
pub(crate) struct Stopper {
    house: Arc<House>,
    address: SocketAddr,
}

impl Stopper {
    /// Begins the shutdown. Saying it again changes nothing.
    pub(crate) fn stop(&self) {
        if !self.house.stopping.swap(true, Ordering::SeqCst)
            && let Err(error) = self.knock()
        {
            // It may have stopped accepting by itself.
            log::debug!("cannot wake the thread that accepts connections: {error}");
        }
    }

    /// Connects, which is the only way to wake a thread that is blocked in accept.
    fn knock(&self) -> io::Result<()> {
        let here: IpAddr = match self.address.ip() {
            IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
            IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
            ip => ip,
        };
        let socket = Socket::new(Domain::for_address(self.address), Type::STREAM, None)?;
        socket.bind(&SocketAddr::new(here, 0).into())?;
        if let Some(caller) = socket.local_addr()?.as_socket() {
            // Told before the call, so that nobody takes it for a client's.
            let _ = self.house.knock.set(caller);
        }
        socket.connect_timeout(&SocketAddr::new(here, self.address.port()).into(), LOOK_UP)
    }
}

impl Book {
    /// The engine with a thread pool, or without one if `pool` is `None`.
    pub(crate) fn new(
        listener: TcpListener,
        pool: Option<ThreadPool>,
        requests: Option<u64>,
        limits: Limits,
        service: Arc<dyn Service>,
        metrics: Arc<Metrics>,
    ) -> Self {
        let house =
            Arc::new(House { service, limits, metrics, stopping: AtomicBool::new(false), knock: OnceLock::new() });
        Self { listener, pool, requests, house }
    }

    /// What stops this engine from another thread.
    ///
    /// # Errors
    ///
    /// If the listener does not know its address.
    pub(crate) fn stopper(&self) -> io::Result<Stopper> {
        Ok(Stopper { house: Arc::clone(&self.house), address: self.listener.local_addr()? })
    }

    /// Accepts and handles connections until stopped, and then waits for those under way.
    pub(crate) fn run(self) -> Drain {
        let mut left = self.requests.unwrap_or(u64::MAX);
        let mut last_call = None;
        while left > 0 && last_call.is_none_or(|until| Instant::now() < until) {
            match self.listener.accept() {
                Ok((_, caller)) if self.house.knock.get() == Some(&caller) => {}
                Ok((stream, _)) => {
                    left -= 1;
                    self.handle(stream);
                }
                // Once the server is stopping, the listener does not block any more: whoever the kernel has let in
                // is served, and then nobody is left.
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) if is_about_one_connection(&error) => {}
                Err(error) => {
                    log::debug!("cannot accept connections for the moment: {error}");
                    self.house.metrics.accept_pauses.add(1);
                    thread::sleep(ACCEPT_RETRY);
                }
            }
            if last_call.is_none() && self.house.stopping.load(Ordering::SeqCst) {
                last_call = Some(later(Instant::now(), self.house.limits.drain_timeout));
                if self.listener.set_nonblocking(true).is_err() {
                    break;
                }
            }
        }
        drop(self.listener);
        log::info!("Shutting down.");
        self.pool.map_or(Drain::Complete, |pool| drain(pool, &self.house))
    }

    fn handle(&self, stream: TcpStream) {
        self.house.metrics.connections_accepted.add(1);
        let house = Arc::clone(&self.house);
        match &self.pool {
            Some(pool) => pool.execute(move || handle_connection(stream, &house)),
            None => handle_connection(stream, &house),
        }
    }
}

/// Drops the pool, which waits for its jobs, but waits no longer than the limit.
fn drain(pool: ThreadPool, house: &House) -> Drain {
    let (done, finished) = mpsc::channel();
    thread::spawn(move || {
        drop(pool);
        let _ = done.send(());
    });
    match finished.recv_timeout(house.limits.drain_timeout) {
        Ok(()) => Drain::Complete,
        Err(_) => {
            let metrics = house.metrics.snapshot();
            Drain::Cut(metrics.connections_accepted - metrics.connections_closed)
        }
    }
}

fn is_about_one_connection(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::Interrupted | ErrorKind::ConnectionAborted | ErrorKind::ConnectionReset)
}

/// Reads one request from a connection, answers it, and closes.
fn handle_connection(mut stream: TcpStream, house: &House) {
    let mut bytes = Vec::new();
    let (response, method, unread) = match read_request(&mut stream, &mut bytes, house) {
        Ok((head, unread)) => {
            house.metrics.requests.add(1);
            let request = Request::new(&head, &bytes);
            log::info!("Answering {} {}.", request.method_token(), request.path());
            (Some(respond(&request, house)), request.method(), unread)
        }
        Err(NoRequest::Refused(status)) => {
            house.metrics.refusals.add(1);
            let is_head = bytes.trim_ascii_start().starts_with(b"HEAD ");
            let method = if is_head { Method::Head } else { Method::Other };
            (Some(Response::error(status)), method, Unread::Perhaps)
        }
        Err(NoRequest::Gone) => (None, Method::Other, Unread::No),
    };
    if let Some(response) = response {
        let mut answer = Vec::new();
        let date = DateCache::default().at(Instant::now(), SystemTime::now).to_owned();
        response.write(method, Persistence::Close, &date, &mut answer);
        match stream.write_all(&answer) {
            Ok(()) => {
                house.metrics.responses.add(1);
                if unread == Unread::Perhaps {
                    linger(&mut stream, house);
                }
            }
            Err(_) => house.metrics.disconnects.add(1),
        }
    }
    drop(stream);
    house.metrics.connections_closed.add(1);
}

/// Lets the service respond; a panic of its becomes a response, too.
fn respond(request: &Request<'_>, house: &House) -> Response {
    panic::catch_unwind(AssertUnwindSafe(|| house.service.respond(request))).unwrap_or_else(|_| {
        house.metrics.panics.add(1);
        Response::error(Status::INTERNAL_SERVER_ERROR)
    })
}

/// Whether bytes of the client may be left unread, which would turn closing into a reset.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Unread {
    No,
    Perhaps,
}

/// Why there is nothing to hand to the service.
enum NoRequest {
    /// What came is answered with this status.
    Refused(Status),
    /// Nobody is there to be answered.
    Gone,
}

impl From<io::Error> for NoRequest {
    /// An error on a client's connection means that there is no client any more.
    fn from(_: io::Error) -> Self {
        Self::Gone
    }
}

/// Reads a request's head into `bytes`, and its body to nowhere.
fn read_request(stream: &mut TcpStream, bytes: &mut Vec<u8>, house: &House) -> Result<(Head, Unread), NoRequest> {
    let limits = &house.limits;
    // Some systems let an accepted socket inherit this from its listener.
    stream.set_nonblocking(false)?;
    stream.set_read_timeout(Some(LOOK_UP))?;
    stream.set_write_timeout(Some(limits.write_timeout.max(LOOK_UP)))?;

    let mut deadline = later(Instant::now(), limits.idle_timeout);
    loop {
        let was_empty = bytes.is_empty();
        match read_some(stream, bytes, deadline, house) {
            // Whoever has not said a word is not told that it took too long.
            Err(NoRequest::Refused(_)) if was_empty => return Err(NoRequest::Gone),
            outcome => outcome?,
        }
        if was_empty {
            // Counted from the first byte: whoever sends a byte a second does not gain time by it.
            deadline = later(Instant::now(), limits.head_timeout);
        }
        let parsed = parse(bytes, limits).map_err(|error| NoRequest::Refused(error.status()))?;
        if let Parsed::Complete { head, length, framing, expects_continue } = parsed {
            let mut behind = bytes.split_off(length);
            if let Some(decoder) = Decoder::new(framing, limits) {
                if expects_continue && behind.is_empty() {
                    stream.write_all(CONTINUE)?;
                }
                read_body(stream, decoder, &mut behind, house)?;
            }
            let unread = if behind.is_empty() { Unread::No } else { Unread::Perhaps };
            return Ok((head, unread));
        }
    }
}

/// Reads a body and throws it away. What has arrived of it is in `bytes`; what is left there came after it.
fn read_body(
    stream: &mut TcpStream,
    mut decoder: Decoder,
    bytes: &mut Vec<u8>,
    house: &House,
) -> Result<(), NoRequest> {
    let deadline = later(Instant::now(), house.limits.body_timeout);
    loop {
        match decoder.decode(bytes, |_| {}) {
            Ok(Decoded::Complete(end)) => {
                bytes.drain(..end);
                return Ok(());
            }
            Ok(Decoded::Partial) => bytes.clear(),
            Err(error) => return Err(NoRequest::Refused(error.status())),
        }
        read_some(stream, bytes, deadline, house)?;
    }
}

/// Appends what the client sends next, at least one byte of it, to `bytes`.
///
/// Waits until `deadline` at most; and, once the server is stopping, not at all for a client that is silent.
fn read_some(stream: &mut TcpStream, bytes: &mut Vec<u8>, deadline: Instant, house: &House) -> Result<(), NoRequest> {
    let mut chunk = [0; 4096];
    while Instant::now() < deadline {
        match stream.read(&mut chunk) {
            Ok(0) => return Err(NoRequest::Gone),
            Ok(count) => {
                bytes.extend_from_slice(&chunk[..count]);
                return Ok(());
            }
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                if house.stopping.load(Ordering::SeqCst) {
                    return Err(NoRequest::Gone);
                }
            }
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error.into()),
        }
    }
    house.metrics.timeouts.add(1);
    Err(NoRequest::Refused(Status::REQUEST_TIMEOUT))
}

/// Closes in two steps, so that a reset caused by bytes we have not read does not destroy the answer on its way
/// (RFC 9112 section 9.6).
fn linger(stream: &mut TcpStream, house: &House) {
    let deadline = later(Instant::now(), house.limits.linger_timeout);
    let mut left = house.limits.linger_bytes_max;
    let mut discarded = Vec::new();
    if stream.shutdown(Shutdown::Write).is_err() {
        return;
    }
    while read_some(stream, &mut discarded, deadline, house).is_ok() && discarded.len() < left {
        left -= discarded.len();
        discarded.clear();
    }
}
