//! The state machine against a scripted socket: every short read, short write, refusal and error in the order that the
//! script says, with no kernel and no clock.

use std::collections::VecDeque;
use std::sync::atomic::AtomicBool;

use proptest::prelude::*;

use super::*;
use crate::event_loop::completions::{Bell, Completions};
use crate::event_loop::deadlines::Clock;
use crate::event_loop::workers::{Answerer, Common};
use crate::http::{Request, Response, Status};

/// A socket that does what it is told, and then says `WouldBlock`.
#[derive(Debug, Default)]
struct Script {
    reads: VecDeque<Result<Vec<u8>, ErrorKind>>,
    /// How many bytes each write takes; all it is given, when this has run out.
    writes: VecDeque<Result<usize, ErrorKind>>,
    written: Vec<u8>,
    read_calls: usize,
    shut_down: bool,
}

impl Read for Script {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.read_calls += 1;
        match self.reads.pop_front() {
            None => Err(ErrorKind::WouldBlock.into()),
            Some(Err(kind)) => Err(kind.into()),
            Some(Ok(mut bytes)) => {
                let rest = bytes.split_off(bytes.len().min(buffer.len()));
                if !rest.is_empty() {
                    self.reads.push_front(Ok(rest));
                }
                buffer[..bytes.len()].copy_from_slice(&bytes);
                Ok(bytes.len())
            }
        }
    }
}

impl Write for Script {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let length = self.writes.pop_front().unwrap_or(Ok(bytes.len()))?.min(bytes.len());
        self.written.extend_from_slice(&bytes[..length]);
        Ok(length)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Socket for Script {
    fn shutdown_write(&mut self) -> io::Result<()> {
        self.shut_down = true;
        Ok(())
    }
}

/// A connection and everything it needs to go round the ring, in one thread.
struct Ring {
    connection: Connection<Script>,
    bench: Workbench,
    answerer: Answerer,
    /// Whether the connection has asked to be closed.
    closed: bool,
}

/// A bell for nobody: there is only one thread here.
struct Silence;

impl Bell for Silence {
    fn ring(&self) -> io::Result<()> {
        Ok(())
    }
}

const READABLE: Readiness = Readiness { readable: true, writable: true, closed: false };
const WRITABLE: Readiness = Readiness { readable: false, writable: true, closed: false };
const HUNG_UP: Readiness = Readiness { readable: true, writable: true, closed: true };

impl Ring {
    fn new() -> Self {
        Self::with_limits(Limits::default())
    }

    fn with_limits(limits: Limits) -> Self {
        let service: Arc<dyn Service> =
            Arc::new(|request: &Request<'_>| Response::new(Status::OK, "text/plain", request.path().to_owned()));
        let metrics = Arc::new(Metrics::default());
        let common = Common {
            service: Arc::clone(&service),
            completions: Arc::new(Completions::new(Silence)),
            metrics: Arc::clone(&metrics),
            limits: limits.clone(),
            draining: AtomicBool::new(false),
        };
        let now = std::time::Instant::now();
        let bench = Workbench {
            limits,
            service,
            metrics,
            now: Clock::new(now).tick(now),
            scratch: vec![0; 256].into_boxed_slice(),
            spare_jobs: Vec::new(),
            requests_left: None,
            draining: false,
        };
        let connection = Connection::new(Script::default(), &bench);
        Self { connection, bench, answerer: Answerer::new(Arc::new(common)), closed: false }
    }

    fn pass(&mut self, seconds: u64) {
        self.bench.now = self.bench.now.after(Duration::from_secs(seconds));
    }

    fn arrive(&mut self, bytes: &[u8]) -> &mut Self {
        self.connection.socket.reads.push_back(Ok(bytes.to_vec()));
        self
    }

    /// Lets an event happen; what it leads to stays with the caller.
    fn event(&mut self, readiness: Readiness) -> Next {
        self.connection.ready(readiness, &mut self.bench)
    }

    /// Lets an event happen, and every job it leads to be answered.
    fn run(&mut self, readiness: Readiness) {
        let next = self.event(readiness);
        self.finish(next);
    }

    fn finish(&mut self, mut next: Next) {
        while let Next::Dispatch(mut job) = next {
            self.answerer.answer(&mut job, std::time::Instant::now());
            next = self.connection.complete(job, &mut self.bench);
        }
        self.closed = matches!(next, Next::Close);
    }

    /// The status and content of everything written so far.
    fn answers(&self) -> Vec<(u16, String)> {
        let mut text = std::str::from_utf8(&self.connection.socket.written).expect("answers are text");
        let mut answers = Vec::new();
        while let Some((head, rest)) = text.split_once("\r\n\r\n") {
            let length = head.split("Content-Length: ").nth(1).map_or(0, |field| {
                field.split("\r\n").next().and_then(|digits| digits.parse().ok()).expect("a length is a number")
            });
            answers.push((head[9..12].parse().expect("a status is a number"), rest[..length].to_owned()));
            text = &rest[length..];
        }
        assert_eq!(text, "", "an answer is incomplete");
        answers
    }

    fn paths(&self) -> Vec<String> {
        self.answers().into_iter().map(|(_, path)| path).collect()
    }
}

fn get(path: &str) -> Vec<u8> {
    format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\n").into_bytes()
}

#[test]
fn an_idle_connection_is_small_and_owns_nothing() {
    /// What mio's socket is in a release build; in a debug build it carries checks of its own.
    type Descriptor = std::ffi::c_int;
    assert!(size_of::<Connection<Descriptor>>() <= 32, "{} bytes", size_of::<Connection<Descriptor>>());
    // The slab marks free places by a value that no connection can have, so it adds nothing.
    assert_eq!(size_of::<Option<Connection>>(), size_of::<Connection>());
    let mut ring = Ring::new();
    ring.arrive(&get("/1")).run(READABLE);
    assert!(matches!(ring.connection.state, State::Reading(None)));
    assert_eq!(ring.paths(), ["/1"]);
}

#[test]
fn a_request_costs_one_read() {
    let mut ring = Ring::new();
    for number in 1..=3 {
        ring.arrive(&get("/")).run(READABLE);
        assert_eq!(ring.connection.socket.read_calls, number);
    }
}

#[test]
fn a_full_buffer_is_no_short_read() {
    let mut ring = Ring::new();
    let request = [b"GET /1 HTTP/1.1\r\nHost: a\r\nA: ".as_slice(), &[b'a'; 600], b"\r\n\r\n"].concat();
    ring.arrive(&request).run(READABLE);
    assert_eq!(ring.paths(), ["/1"]);
}

#[test]
fn nothing_is_read_while_a_job_is_out_and_no_edge_is_lost() {
    let mut ring = Ring::new();
    let Next::Dispatch(mut job) = ring.arrive(&get("/1")).event(READABLE) else { panic!("a request is complete") };
    ring.arrive(&get("/2"));
    assert!(matches!(ring.event(READABLE), Next::Wait));
    assert_eq!(ring.connection.socket.read_calls, 1);
    ring.answerer.answer(&mut job, std::time::Instant::now());
    let next = ring.connection.complete(job, &mut ring.bench);
    assert!(matches!(next, Next::Dispatch(_)), "the second request was announced while the first was out");
    ring.finish(next);
    assert_eq!(ring.paths(), ["/1", "/2"]);
}

#[test]
fn nothing_is_read_while_an_answer_waits_and_no_edge_is_lost() {
    let mut ring = Ring::new();
    ring.connection.socket.writes.extend([Ok(10), Err(ErrorKind::WouldBlock)]);
    ring.arrive(&get("/1")).run(READABLE);
    assert!(matches!(ring.connection.state, State::Writing(_)));
    ring.arrive(&get("/2"));
    ring.run(Readiness { readable: true, writable: false, closed: false });
    assert_eq!(ring.connection.socket.read_calls, 1);
    ring.run(WRITABLE);
    assert_eq!(ring.paths(), ["/1", "/2"]);
}

#[test]
fn spurious_events_change_nothing() {
    let mut ring = Ring::new();
    for _ in 0..3 {
        ring.run(READABLE);
        ring.run(WRITABLE);
    }
    ring.arrive(&get("/1")[..10]).run(READABLE);
    ring.run(READABLE);
    ring.run(WRITABLE);
    ring.arrive(&get("/1")[10..]).run(READABLE);
    assert_eq!(ring.paths(), ["/1"]);
    assert!(!ring.closed);
}

#[test]
fn interrupted_calls_are_repeated() {
    let mut ring = Ring::new();
    ring.connection.socket.reads.push_back(Err(ErrorKind::Interrupted));
    ring.connection.socket.writes.push_back(Err(ErrorKind::Interrupted));
    ring.arrive(&get("/1")).run(READABLE);
    assert_eq!(ring.paths(), ["/1"]);
}

#[test]
fn a_connection_that_fails_closes_in_every_state() {
    let broken = || Err(ErrorKind::ConnectionReset);
    let mut idle = Ring::new();
    idle.connection.socket.reads.push_back(broken());
    idle.run(READABLE);

    let mut reading = Ring::new();
    reading.arrive(b"GET").run(READABLE);
    reading.connection.socket.reads.push_back(broken());
    reading.run(READABLE);

    let mut answering = Ring::new();
    answering.connection.socket.writes.push_back(Err(ErrorKind::BrokenPipe));
    answering.arrive(&get("/")).run(READABLE);

    let mut writing = Ring::new();
    writing.connection.socket.writes.extend([Err(ErrorKind::WouldBlock), Err(ErrorKind::BrokenPipe)]);
    writing.arrive(&get("/")).run(READABLE);
    writing.run(WRITABLE);

    let mut lingering = Ring::new();
    lingering.arrive(b"oops\r\n\r\n").run(READABLE);
    lingering.connection.socket.reads.push_back(broken());
    lingering.run(READABLE);

    for (ring, disconnects) in [(idle, 0), (reading, 1), (answering, 1), (writing, 1), (lingering, 0)] {
        assert!(ring.closed);
        assert_eq!(ring.bench.metrics.snapshot().disconnects, disconnects);
    }
}

#[test]
fn a_client_that_sends_no_more_is_answered_first() {
    let mut ring = Ring::new();
    ring.arrive(&[get("/1"), get("/2")].concat()).arrive(b"").run(HUNG_UP);
    assert_eq!(ring.paths(), ["/1", "/2"]);
    assert!(ring.closed);

    let mut ring = Ring::new();
    ring.arrive(&get("/1")[..10]).arrive(b"").run(HUNG_UP);
    assert_eq!(ring.paths(), [""; 0]);
    assert!(ring.closed);
}

#[test]
fn a_refusal_is_sent_and_the_rest_discarded_up_to_a_limit() {
    let mut ring = Ring::with_limits(Limits { linger_bytes_max: 1_000, ..Limits::default() });
    ring.arrive(b"oops\r\n\r\n").run(READABLE);
    assert_eq!(ring.answers()[0].0, 400);
    assert!(ring.connection.socket.shut_down && !ring.closed);
    ring.arrive(&[b'x'; 900]).run(READABLE);
    assert!(!ring.closed);
    ring.arrive(&[b'x'; 200]).run(READABLE);
    assert!(ring.closed);
}

#[test]
fn a_client_that_asked_to_close_is_closed_at_once_unless_it_sent_more() {
    let close = b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
    let mut ring = Ring::new();
    ring.arrive(close).run(READABLE);
    assert!(ring.closed && !ring.connection.socket.shut_down);

    let mut ring = Ring::new();
    ring.arrive(&[close.as_slice(), b"more"].concat()).run(READABLE);
    assert!(!ring.closed && ring.connection.socket.shut_down);
    ring.arrive(b"").run(HUNG_UP);
    assert!(ring.closed);
}

#[test]
fn each_state_has_its_deadline() {
    let limits = Limits::default();
    let mut ring = Ring::new();
    let after = |ring: &Ring, timeout: Duration| ring.bench.now.after(timeout);
    assert_eq!(ring.connection.deadline(), after(&ring, limits.idle_timeout));

    // From the first byte of a head, once.
    ring.pass(5);
    ring.arrive(b"POST / HTTP/1.1\r\n").run(READABLE);
    let head = after(&ring, limits.head_timeout);
    assert_eq!(ring.connection.deadline(), head);
    ring.pass(5);
    ring.arrive(b"Host: a\r\n").run(READABLE);
    assert_eq!(ring.connection.deadline(), head);

    // From the end of the head, once.
    ring.arrive(b"Content-Length: 9\r\n\r\na").run(READABLE);
    let body = after(&ring, limits.body_timeout);
    assert_eq!(ring.connection.deadline(), body);
    ring.pass(5);
    ring.arrive(b"b").run(READABLE);
    assert_eq!(ring.connection.deadline(), body);

    // None while a worker is busy; it cannot be hurried.
    let Next::Dispatch(mut job) = ring.arrive(b"cdefghi").event(READABLE) else { panic!("the body is complete") };
    assert_eq!(ring.connection.deadline(), Tick::NEVER);
    let expired = ring.connection.expire(&mut ring.bench);
    assert!(matches!(expired, Next::Wait));

    // From the last byte that the client took.
    ring.connection.socket.writes.extend([Ok(1), Err(ErrorKind::WouldBlock), Err(ErrorKind::WouldBlock)]);
    ring.connection.socket.writes.extend([Ok(1), Err(ErrorKind::WouldBlock)]);
    ring.answerer.answer(&mut job, std::time::Instant::now());
    let next = ring.connection.complete(job, &mut ring.bench);
    ring.finish(next);
    let write = after(&ring, limits.write_timeout);
    assert_eq!(ring.connection.deadline(), write);
    ring.pass(5);
    ring.run(WRITABLE);
    assert_eq!(ring.connection.deadline(), write);
    ring.run(WRITABLE);
    assert_eq!(ring.connection.deadline(), after(&ring, limits.write_timeout));

    // From the end of the answer.
    ring.pass(5);
    ring.run(WRITABLE);
    assert_eq!(ring.connection.deadline(), after(&ring, limits.idle_timeout));
    let expired = ring.connection.expire(&mut ring.bench);
    assert!(matches!(expired, Next::Close));
}

#[test]
fn a_request_that_stays_half_is_refused_at_its_deadline() {
    for beginning in [&b"GET / HT"[..], b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\na"] {
        let mut ring = Ring::new();
        ring.arrive(beginning).run(READABLE);
        let next = ring.connection.expire(&mut ring.bench);
        ring.finish(next);
        assert_eq!(ring.answers()[0].0, 408);
    }
}

#[test]
fn empty_lines_after_a_request_are_no_request() {
    let mut ring = Ring::new();
    ring.arrive(&[get("/1").as_slice(), b"\r\n"].concat()).run(READABLE);
    assert_eq!(ring.paths(), ["/1"]);
    let next = ring.connection.expire(&mut ring.bench);
    assert!(matches!(next, Next::Close));

    let mut ring = Ring::new();
    ring.arrive(b"\r\n").run(READABLE);
    ring.arrive(&get("/1")).run(READABLE);
    assert_eq!(ring.paths(), ["/1"]);
}

#[test]
fn a_shutdown_shortens_every_wait_for_a_client() {
    let limits = Limits::default();
    let waiting: [(&[u8], Duration); 3] = [
        (b"", limits.drain_idle_grace),
        (b"GET / HT", limits.drain_request_grace),
        (
            b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\nExpect: 100-continue\r\n\r\n",
            limits.drain_request_grace,
        ),
    ];
    for (bytes, grace) in waiting {
        // Before or after the bytes have come, it is the same.
        for early in [true, false] {
            let mut ring = Ring::new();
            ring.bench.draining = early;
            if early {
                ring.connection.drain(&ring.bench);
            }
            if !bytes.is_empty() {
                ring.arrive(bytes).run(READABLE);
            }
            if !early {
                ring.bench.draining = true;
                ring.connection.drain(&ring.bench);
            }
            assert_eq!(ring.connection.deadline(), ring.bench.now.after(grace), "{}", bytes.escape_ascii());
        }
    }
}

#[test]
fn a_job_with_more_output_than_the_limit_goes_round_again() {
    let mut ring = Ring::with_limits(Limits { output_bytes_max: 300, ..Limits::default() });
    ring.arrive(&(1..=9).flat_map(|number| get(&format!("/{number}"))).collect::<Vec<_>>());
    let mut trips = 0;
    let mut next = ring.event(READABLE);
    while let Next::Dispatch(mut job) = next {
        trips += 1;
        ring.answerer.answer(&mut job, std::time::Instant::now());
        assert!(job.output.len() < 600);
        next = ring.connection.complete(job, &mut ring.bench);
    }
    assert_eq!(ring.paths(), ["/1", "/2", "/3", "/4", "/5", "/6", "/7", "/8", "/9"]);
    assert!(trips >= 3, "{trips}");
}

/// Requests of every kind, and what each is answered.
fn request() -> impl Strategy<Value = (Vec<u8>, u16)> {
    let body = prop::collection::vec(any::<u8>(), 1..300);
    prop_oneof![
        Just((get("/a"), 200)),
        Just((b"\r\n\r\nHEAD / HTTP/1.1\r\nHost: a\r\n\r\n".to_vec(), 200)),
        body.clone().prop_map(|body| {
            let head = format!("POST /b HTTP/1.1\r\nHost: a\r\nContent-Length: {}\r\n\r\n", body.len());
            ([head.as_bytes(), &body].concat(), 200)
        }),
        body.prop_map(|body| {
            let head =
                format!("POST /c HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n{:x};x=y\r\n", body.len());
            ([head.as_bytes(), &body, b"\r\n0\r\nT: t\r\n\r\n"].concat(), 200)
        }),
        Just((b"GET / HTTP/1.1\r\n\r\n".to_vec(), 400)),
        Just((b"GET / HTTP/7.0\r\nHost: a\r\n\r\n".to_vec(), 505)),
        Just((b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nabc".to_vec(), 400)),
    ]
}

/// Statuses in order of a stream of bytes that arrives in these pieces and leaves in pieces of those sizes.
fn statuses(bytes: &[u8], cuts: &[usize], writes: &[usize]) -> (Vec<String>, bool) {
    let mut ring = Ring::new();
    let write = |length: &usize| if *length == 0 { Err(ErrorKind::WouldBlock) } else { Ok(*length) };
    ring.connection.socket.writes.extend(writes.iter().map(write));
    let mut rest = bytes;
    for cut in cuts {
        let (piece, behind) = rest.split_at(rest.len().min(*cut));
        rest = behind;
        // An empty read would mean that the client has left.
        if !ring.closed && !piece.is_empty() {
            ring.arrive(piece).run(READABLE);
        }
    }
    if !ring.closed && !rest.is_empty() {
        ring.arrive(rest).run(READABLE);
    }
    while !ring.closed && matches!(ring.connection.state, State::Writing(_)) {
        ring.run(WRITABLE);
    }
    let text = String::from_utf8_lossy(&ring.connection.socket.written).into_owned();
    // No content has these words in it.
    let lines = text.split("HTTP/1.1 ").skip(1).filter_map(|answer| answer.get(..3)).map(str::to_owned).collect();
    (lines, matches!(ring.connection.state, State::Lingering(_)))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, failure_persistence: None, ..ProptestConfig::default() })]

    /// However the network cuts what goes in and what comes out, the same requests get the same answers, in order, and
    /// nothing behind a refusal gets any.
    #[test]
    fn no_cut_changes_an_answer(
        requests in prop::collection::vec(request(), 1..20),
        cuts in prop::collection::vec(1..200_usize, 0..40),
        writes in prop::collection::vec(0..400_usize, 0..40),
    ) {
        let bytes: Vec<u8> = requests.iter().flat_map(|(bytes, _)| bytes.clone()).collect();
        let mut expected: Vec<u16> = Vec::new();
        for (_, status) in &requests {
            expected.push(*status);
            if *status != 200 {
                break;
            }
        }
        let (lines, lingering) = statuses(&bytes, &cuts, &writes);
        let answered: Vec<u16> = lines.iter().map(|line| line.parse().expect("a status")).collect();
        prop_assert_eq!(&answered, &expected);
        prop_assert_eq!(lingering, *answered.last().expect("there is a request") != 200);
    }

    /// Whatever arrives, however it is cut: the same answers, and never a panic.
    #[test]
    fn no_bytes_cause_a_panic_and_no_cut_changes_their_meaning(
        pieces in prop::collection::vec(prop_oneof![
            prop::collection::vec(any::<u8>(), 0..40),
            "(GET|POST|HEAD|OPTIONS \\*) ?(/|/%[0-9a-g]{2}|http://a/?) ?HTTP/[0-3]\\.[0-9]\r\n".prop_map(String::into_bytes),
            "(Host|Content-Length|Transfer-Encoding|Connection|Expect|X): ?(a|[0-9]{1,3}|chunked|close|100-continue)\r\n"
                .prop_map(String::into_bytes),
            "[0-9a-f]{1,2}(;x)?\r\n".prop_map(String::into_bytes),
            Just(b"\r\n".to_vec()),
            Just(b"\n".to_vec()),
            Just(get("/")),
        ], 0..12),
        cuts in prop::collection::vec(1..40_usize, 0..40),
    ) {
        let bytes = pieces.concat();
        prop_assert_eq!(statuses(&bytes, &cuts, &[]), statuses(&bytes, &[], &[]));
    }
}
