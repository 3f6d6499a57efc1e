//! What the event loop promises beyond what every engine does: many requests on a connection, many connections on a
//! thread, and nobody who waits for somebody else.

mod common;

use std::io::Write;
use std::sync::mpsc;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use common::{GET, SLEEP, config, limited, serve, start};
use hello::http::{Method, Request, Response, Status};
use hello::server::{Config, Engine};
use hello::service::{Lane, Service};
use hello::shutdown::Drain;

const GET_SLEEP: &[u8] = b"GET /sleep HTTP/1.1\r\nHost: test\r\n\r\n";

fn event_loop() -> Config {
    config(Engine::EventLoop)
}

/// Answers with the path that was asked for; paths that begin with `/slow` take the slow lane and a moment.
struct Echo;

impl Service for Echo {
    fn lane(&self, request: &Request<'_>) -> Lane {
        if request.path().starts_with("/slow") { Lane::Slow } else { Lane::Quick }
    }

    fn respond(&self, request: &Request<'_>) -> Response {
        if request.path().starts_with("/slow") {
            thread::sleep(Duration::from_millis(20));
        }
        if request.path().starts_with("/panic") {
            std::panic::resume_unwind(Box::new("a handler may panic"));
        }
        Response::new(Status::OK, "text/plain", request.path().to_owned())
    }
}

fn get(path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: test\r\n\r\n")
}

/// RFC 9112 section 9.3.
#[test]
fn a_connection_stays_open_from_request_to_request() {
    let server = start(event_loop());
    let mut client = server.connect();
    for _ in 0..100 {
        client.send(GET);
        let reply = client.reply();
        assert_eq!((reply.status, reply.field("Connection")), (200, None));
    }
    assert_eq!(server.metrics().connections_accepted, 1);
}

/// RFC 9112 section 9.3, appendix C.2.2.
#[test]
fn an_http_1_0_client_may_ask_to_stay() {
    let server = start(event_loop());
    let mut client = server.connect();
    for _ in 0..3 {
        client.send(b"GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n");
        assert_eq!(client.reply().field("Connection"), Some("keep-alive"));
    }
}

/// RFC 9112 section 9.3.2.
#[test]
fn a_thousand_pipelined_requests_are_answered_in_order() {
    let server = serve(event_loop(), Echo);
    let mut client = server.connect();
    let requests: String = (0..1_000).map(|number| get(&format!("/{number}"))).collect();
    client.send(requests.as_bytes());
    for number in 0..1_000 {
        assert_eq!(client.reply().text(), format!("/{number}"));
    }
}

/// The answers take more room than any buffer on the way has, so both sides have to wait for each other again and again.
#[test]
fn a_pipeline_of_twenty_thousand_requests_never_stalls() {
    let server = serve(event_loop(), Echo);
    let mut client = server.connect();
    let mut writer = client.writer();
    let sending = thread::spawn(move || {
        for thousand in 0..20 {
            let requests: String = (0..1_000).map(|number| get(&format!("/{}", thousand * 1_000 + number))).collect();
            writer.write_all(requests.as_bytes()).expect("the server reads");
        }
    });
    for number in 0..20_000 {
        assert_eq!(client.reply().text(), format!("/{number}"));
    }
    sending.join().expect("everything is sent");
}

#[test]
fn slow_and_quick_requests_of_one_connection_keep_their_order() {
    let server = serve(event_loop(), Echo);
    let mut client = server.connect();
    let paths = ["/1", "/slow/2", "/slow/3", "/4", "/5", "/slow/6", "/7"];
    client.send(paths.map(get).concat().as_bytes());
    for path in paths {
        assert_eq!(client.reply().text(), path);
    }
}

#[test]
fn a_pipeline_may_be_cut_anywhere() {
    let server = serve(event_loop(), Echo);
    let requests = [
        &get("/1"),
        "POST /2 HTTP/1.1\r\nHost: test\r\nContent-Length: 3\r\n\r\nabc",
        "POST /3 HTTP/1.1\r\nHost: test\r\nTransfer-Encoding: chunked\r\n\r\n1;x\r\na\r\n0\r\nT: t\r\n\r\n",
        &get("/4"),
    ];
    let bytes = requests.concat().into_bytes();
    for cut in 1..bytes.len() {
        let mut client = server.connect();
        let mut sent = 0;
        let mut end = 0;
        for (number, request) in requests.iter().enumerate() {
            end += request.len();
            // What comes after the cut is sent when all requests before it have been answered.
            if sent == 0 {
                client.send(&bytes[..cut]);
                sent = cut;
            }
            if end > sent {
                client.send(&bytes[sent..]);
                sent = bytes.len();
            }
            assert_eq!(client.reply().text(), format!("/{}", number + 1), "cut at {cut}");
        }
    }
}

/// RFC 9112 section 6.3, also for methods whose bodies mean nothing.
#[test]
fn a_body_is_skipped_before_the_next_request_is_read() {
    let server = serve(event_loop(), Echo);
    let mut client = server.connect();
    let body = "GET /trap HTTP/1.1\r\nHost: trap\r\n\r\n".repeat(10_000);
    for method in ["GET", "POST"] {
        let length = body.len();
        client.send(format!("{method} /a HTTP/1.1\r\nHost: test\r\nContent-Length: {length}\r\n\r\n{body}").as_bytes());
        client.send(format!("{method} /b HTTP/1.1\r\nHost: test\r\nTransfer-Encoding: chunked\r\n\r\n").as_bytes());
        client.send(format!("{length:x}\r\n{body}\r\n0\r\n\r\n{}", get("/c")).as_bytes());
        for path in ["/a", "/b", "/c"] {
            assert_eq!(client.reply().text(), path, "after {method}");
        }
    }
}

/// RFC 9110 section 10.1.1.
#[test]
fn permission_to_send_a_body_comes_in_order() {
    let server = serve(event_loop(), Echo);
    let mut client = server.connect();
    let waiting = "POST /2 HTTP/1.1\r\nHost: test\r\nContent-Length: 3\r\nExpect: 100-continue\r\n\r\n";
    client.send((get("/1") + waiting).as_bytes());
    assert_eq!(client.reply().text(), "/1");
    assert_eq!(client.read_until(b"\r\n\r\n"), b"HTTP/1.1 100 Continue\r\n\r\n");
    client.send(("abc".to_owned() + &get("/3")).as_bytes());
    assert_eq!(client.reply().text(), "/2");
    assert_eq!(client.reply().text(), "/3");
}

/// RFC 9112 section 9.6.
#[test]
fn nothing_behind_a_close_is_answered() {
    let server = serve(event_loop(), Echo);
    let mut client = server.connect();
    client.send((get("/1") + "GET /2 HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n" + &get("/3")).as_bytes());
    assert_eq!(client.reply().text(), "/1");
    assert_eq!(client.reply().text(), "/2");
    client.expect_end();
    assert_eq!(server.metrics().requests, 2);
}

/// RFC 9112 section 11.2.
#[test]
fn requests_before_a_broken_one_are_answered_and_nothing_behind_it() {
    let server = serve(event_loop(), Echo);
    for broken in ["oops\r\n\r\n", "POST / HTTP/1.1\r\nHost: test\r\nTransfer-Encoding: chunked\r\n\r\nx"] {
        let mut client = server.connect();
        client.send((get("/1") + &get("/slow/2") + &get("/3") + broken + &get("/4")).as_bytes());
        for path in ["/1", "/slow/2", "/3"] {
            assert_eq!(client.reply().text(), path);
        }
        let reply = client.reply();
        assert_eq!((reply.status, reply.field("Connection")), (400, Some("close")));
        client.expect_end();
    }
}

#[test]
fn a_panic_in_a_pipeline_costs_that_request_and_the_rest_of_the_connection() {
    let server = serve(event_loop(), Echo);
    let mut client = server.connect();
    client.send([get("/1"), get("/panic"), get("/3")].concat().as_bytes());
    assert_eq!(client.reply().text(), "/1");
    assert_eq!(client.reply().status, 500);
    client.expect_end();
    assert_eq!(server.ask(GET).status, 200);
}

#[test]
fn a_panic_while_choosing_the_lane_costs_that_request() {
    struct Undecided;
    impl Service for Undecided {
        fn lane(&self, request: &Request<'_>) -> Lane {
            match request.method() {
                Method::Get => Lane::Quick,
                _ => std::panic::resume_unwind(Box::new("this should only have looked")),
            }
        }
        fn respond(&self, _: &Request<'_>) -> Response {
            Response::empty(Status::OK)
        }
    }
    let server = serve(event_loop(), Undecided);
    assert_eq!(server.ask(b"POST / HTTP/1.1\r\nHost: test\r\n\r\n").status, 500);
    assert_eq!(server.ask(GET).status, 200);
}

/// A service whose `/block` and `/slow/block` wait until the gate is opened, the first of them unannounced.
struct Gated {
    gate: Mutex<mpsc::Receiver<()>>,
}

impl Gated {
    /// The service, and its gate, which opens when dropped.
    fn new() -> (Self, mpsc::Sender<()>) {
        let (opener, gate) = mpsc::channel();
        (Self { gate: Mutex::new(gate) }, opener)
    }
}

impl Service for Gated {
    fn lane(&self, request: &Request<'_>) -> Lane {
        Echo.lane(request)
    }

    fn respond(&self, request: &Request<'_>) -> Response {
        if request.path().ends_with("/block") {
            let _ = self.gate.lock().expect("nobody panics with it").recv();
        }
        Response::new(Status::OK, "text/plain", request.path().to_owned())
    }
}

#[test]
fn others_are_answered_while_every_slow_worker_is_busy() {
    let (service, gate) = Gated::new();
    let server = serve(Config { slow_workers: 8, ..event_loop() }, service);
    let mut slow: Vec<_> = (0..12).map(|_| server.connect()).collect();
    for client in &mut slow {
        client.send(get("/slow/block").as_bytes());
    }
    server.wait_for("all of them are in", |metrics| metrics.requests == 12);
    for _ in 0..100 {
        assert_eq!(server.ask(GET).status, 200);
    }
    drop(gate);
    for mut client in slow {
        assert_eq!(client.reply().text(), "/slow/block");
    }
}

#[test]
fn five_hundred_sleepers_sleep_at_the_same_time() {
    let server = start(event_loop());
    let started = Instant::now();
    let mut sleepers: Vec<_> = (0..500).map(|_| server.connect()).collect();
    for sleeper in &mut sleepers {
        sleeper.send(GET_SLEEP);
    }
    for sleeper in &mut sleepers {
        assert_eq!(sleeper.reply().status, 200);
    }
    // One after the other they would take 150 seconds, and on the quick workers alone most of that.
    assert!(started.elapsed() < SLEEP * 50, "it took {:?}", started.elapsed());
}

/// RFC 9110 section 15.6.4.
#[test]
fn whoever_finds_the_slow_lane_full_is_told_to_come_back() {
    let (service, gate) = Gated::new();
    let mut config = Config { slow_workers: 2, ..event_loop() };
    config.limits.slow_queue_max = 3;
    let server = serve(config, service);
    let mut clients: Vec<_> = (0..12).map(|_| server.connect()).collect();
    for client in &mut clients {
        client.send(get("/slow/block").as_bytes());
    }
    server.wait_for("those for whom there is no room are answered", |metrics| metrics.responses == 7);
    drop(gate);
    let mut statuses = Vec::new();
    for client in &mut clients {
        let reply = client.reply();
        assert_eq!(reply.field("Retry-After"), (reply.status == 503).then_some("1"));
        statuses.push(reply.status);
        // Nobody loses the connection over it.
        client.send(GET);
        assert_eq!(client.reply().status, 200);
    }
    statuses.sort_unstable();
    assert_eq!(statuses, [[200; 5].as_slice(), [503; 7].as_slice()].concat());
    assert_eq!(server.metrics().overloads, 7);
}

/// The rule about patience: handlers that block without having said so are overtaken.
#[test]
fn quick_requests_overtake_handlers_that_block_unannounced() {
    let (service, gate) = Gated::new();
    let server = serve(Config { workers: Some(2), ..event_loop() }, service);
    let mut blocked: Vec<_> = (0..4).map(|_| server.connect()).collect();
    for client in &mut blocked {
        client.send(get("/block").as_bytes());
    }
    server.wait_for("all of them are in", |metrics| metrics.requests == 4);
    for _ in 0..20 {
        assert_eq!(server.ask(GET).status, 200);
    }
    drop(gate);
    for mut client in blocked {
        assert_eq!(client.reply().status, 200);
    }
}

#[test]
fn a_client_that_leaves_during_its_job_costs_nothing() {
    let server = start(event_loop());
    for _ in 0..20 {
        let mut client = server.connect();
        client.send(GET_SLEEP);
        server.wait_for("the request is read", |metrics| metrics.requests > metrics.connections_closed);
        client.reset();
        let mut client = server.connect();
        client.send(GET_SLEEP);
        drop(client);
    }
    server.wait_for("all are gone", |metrics| metrics.connections_closed == 40);
    assert_eq!(server.ask(GET).status, 200);
}

#[test]
fn a_large_answer_reaches_a_slow_reader_whole() {
    let content: Arc<Vec<u8>> = Arc::new((0..8_000_000_u32).map(|number| number.to_le_bytes()[0]).collect());
    let answer = Arc::clone(&content);
    let server = serve(event_loop(), move |_: &Request<'_>| {
        Response::new(Status::OK, "application/octet-stream", answer.to_vec())
    });
    let mut client = server.connect();
    client.send(&[GET, GET].concat());
    thread::sleep(Duration::from_millis(50)); // The socket's buffers fill up meanwhile.
    for _ in 0..2 {
        assert!(client.reply().content == *content, "the answer is not what was sent");
    }
}

#[test]
fn a_client_that_never_reads_is_not_read_from_and_is_cut() {
    let server = serve(limited(|limits| limits.write_timeout = Duration::from_millis(300)), |_: &Request<'_>| {
        Response::new(Status::OK, "text/plain", vec![b'x'; 1_000_000])
    });
    let mut client = server.connect();
    client.send(&GET.repeat(100));
    server.wait_for("it is cut", |metrics| metrics.connections_closed == 1);
    let metrics = server.metrics();
    assert_eq!(metrics.timeouts, 1);
    // What was answered fits into the socket's buffers; the rest was never worked on.
    assert!(metrics.responses < 50, "{metrics:?}");
    client.expect_gone();
}

#[test]
fn newcomers_beyond_the_limit_wait_until_somebody_leaves() {
    let server = start(limited(|limits| limits.connections_max = 2));
    let mut inside = [server.connect(), server.connect()];
    for client in &mut inside {
        client.send(GET);
        assert_eq!(client.reply().status, 200);
    }
    let mut waiting = server.connect();
    waiting.send(GET);
    waiting.expect_silence(Duration::from_millis(100));
    let [first, mut second] = inside;
    second.send(GET);
    assert_eq!(second.reply().status, 200);
    drop(first);
    assert_eq!(waiting.reply().status, 200);
    assert!(server.metrics().accept_pauses >= 1);
}

#[test]
fn a_connection_idle_between_requests_is_closed_without_a_word() {
    let server = start(limited(|limits| limits.idle_timeout = Duration::from_millis(300)));
    let mut client = server.connect();
    client.send(GET);
    assert_eq!(client.reply().status, 200);
    client.expect_end();
    assert_eq!(server.metrics().timeouts, 1);
}

/// RFC 9112 section 9.6: we read on after a refusal, but neither for ever nor without measure.
#[test]
fn lingering_ends_when_the_client_sends_too_much_or_too_long() {
    let server = start(limited(|limits| {
        limits.linger_bytes_max = 100_000;
        limits.linger_timeout = Duration::from_millis(300);
    }));
    let mut silent = server.connect();
    silent.send(b"oops\r\n\r\n");
    assert_eq!(silent.reply().status, 400);
    let mut loud = server.connect();
    loud.send(b"oops\r\n\r\n");
    assert_eq!(loud.reply().status, 400);
    let mut writer = loud.writer();
    while writer.write_all(&[b'x'; 10_000]).is_ok() {}
    server.wait_for("both are gone", |metrics| metrics.connections_closed == 2);
}

#[test]
fn fifty_sleepers_are_answered_when_the_server_stops() {
    let server = start(event_loop());
    let address = server.running().handle().address();
    let mut sleepers: Vec<_> = (0..50).map(|_| server.connect()).collect();
    for sleeper in &mut sleepers {
        sleeper.send(GET_SLEEP);
    }
    server.wait_for("all sleepers are in", |metrics| metrics.requests == 50);
    let stopping = thread::spawn(move || server.stop());
    for mut sleeper in sleepers {
        let reply = sleeper.reply();
        assert_eq!((reply.status, reply.field("Connection")), (200, Some("close")));
        sleeper.expect_end();
    }
    assert_eq!(stopping.join().expect("it stops"), Drain::Complete);
    assert!(std::net::TcpStream::connect(address).is_err());
}

/// An idle connection may have its next request on the way when the server stops: it is answered, with a goodbye.
#[test]
fn a_request_that_crosses_the_shutdown_is_answered() {
    let server = start(limited(|limits| {
        limits.drain_idle_grace = common::PATIENCE;
        limits.drain_request_grace = common::PATIENCE;
    }));
    let mut idle = server.connect();
    let mut half_sent = server.connect();
    idle.send(GET);
    assert_eq!(idle.reply().status, 200);
    half_sent.send(&GET[..10]);
    let address = server.running().handle().address();
    let stopping = thread::spawn(move || server.stop());
    wait_until_refused(address);
    idle.send(GET);
    half_sent.send(&GET[10..]);
    for mut client in [idle, half_sent] {
        let reply = client.reply();
        assert_eq!((reply.status, reply.field("Connection")), (200, Some("close")));
        client.expect_end();
    }
    assert_eq!(stopping.join().expect("it stops"), Drain::Complete);
}

fn wait_until_refused(address: std::net::SocketAddr) {
    let started = Instant::now();
    while std::net::TcpStream::connect(address).is_ok() {
        assert!(started.elapsed() < common::PATIENCE, "the server goes on accepting");
        thread::sleep(Duration::from_millis(2));
    }
}

#[test]
fn idle_and_half_sent_clients_do_not_hold_up_the_shutdown() {
    let server = start(event_loop());
    let mut idle = server.connect();
    let mut half_sent = server.connect();
    half_sent.send(&GET[..10]);
    server.wait_for("both are in", |metrics| metrics.connections_accepted == 2);
    assert_eq!(server.stop(), Drain::Complete);
    idle.expect_end();
    half_sent.expect_gone();
}

#[test]
fn a_shutdown_that_takes_too_long_cuts_the_rest() {
    let (service, _gate) = Gated::new();
    let server = serve(limited(|limits| limits.drain_timeout = Duration::from_millis(50)), service);
    let mut client = server.connect();
    client.send(get("/slow/block").as_bytes());
    server.wait_for("the request is read", |metrics| metrics.requests == 1);
    assert_eq!(server.stop(), Drain::Cut(1));
    client.expect_gone();
}

#[test]
fn exactly_as_many_requests_are_answered_as_were_to_be() {
    let server = serve(Config { requests: Some(70), ..event_loop() }, Echo);
    let mut idle = server.connect();
    let mut client = server.connect();
    let requests: String = (0..200).map(|number| get(&format!("/{number}"))).collect();
    client.send(requests.as_bytes());
    for number in 0..70 {
        let reply = client.reply();
        assert_eq!(reply.text(), format!("/{number}"));
        assert_eq!(reply.field("Connection"), (number == 69).then_some("close"));
    }
    client.expect_end();
    idle.expect_end();
    let metrics = server.running().handle().clone();
    assert_eq!(server.join(), Drain::Complete);
    assert_eq!(metrics.metrics().responses, 70);
}

/// RFC 9110 section 10.1.1: a client that is told to come back may send its body all the same, and that is no request.
#[test]
fn a_body_that_was_announced_to_a_full_lane_is_still_a_body() {
    let (service, gate) = Gated::new();
    let mut config = Config { slow_workers: 1, ..event_loop() };
    config.limits.slow_queue_max = 0;
    let server = serve(config, service);
    let mut busy = server.connect();
    busy.send(get("/slow/block").as_bytes());
    server.wait_for("the lane is full", |metrics| metrics.requests == 1);
    let mut client = server.connect();
    let trap = get("/trap");
    let length = trap.len();
    client.send(
        format!("POST /slow/1 HTTP/1.1\r\nHost: test\r\nContent-Length: {length}\r\nExpect: 100-continue\r\n\r\n")
            .as_bytes(),
    );
    assert_eq!(client.read_until(b"\r\n\r\n"), b"HTTP/1.1 100 Continue\r\n\r\n");
    client.send((trap + &get("/2")).as_bytes());
    assert_eq!(client.reply().status, 503);
    assert_eq!(client.reply().text(), "/2");
    drop(gate);
}

/// What has been read when the server stops is answered, also where it does not fit into one job.
#[test]
fn a_pipeline_that_was_read_is_answered_to_its_end_when_the_server_stops() {
    let (service, gate) = Gated::new();
    let server = serve(event_loop(), service);
    let address = server.running().handle().address();
    let mut client = server.connect();
    let rest: String = (0..100).map(|number| get(&format!("/{number}"))).collect();
    client.send((get("/slow/block") + &rest).as_bytes());
    server.wait_for("it is read", |metrics| metrics.requests == 1);
    let stopping = thread::spawn(move || server.stop());
    wait_until_refused(address);
    drop(gate);
    assert_eq!(client.reply().field("Connection"), None);
    for number in 0..100 {
        let reply = client.reply();
        assert_eq!(reply.text(), format!("/{number}"));
        assert_eq!(reply.field("Connection"), (number == 99).then_some("close"));
    }
    client.expect_end();
    assert_eq!(stopping.join().expect("it stops"), Drain::Complete);
}

#[test]
fn a_server_without_clients_stops_even_in_no_time() {
    let server = start(limited(|limits| limits.drain_timeout = Duration::ZERO));
    assert_eq!(server.stop(), Drain::Complete);
}

#[test]
fn limits_of_nothing_make_the_server_strict_but_not_mad() {
    let server = start(limited(|limits| {
        limits.accepts_per_turn = 0;
        limits.pipeline_max = 0;
        limits.output_bytes_max = 0;
        limits.backlog = 1;
    }));
    let mut client = server.connect();
    client.send(&GET.repeat(3));
    for _ in 0..3 {
        assert_eq!(client.reply().status, 200);
    }
}

/// Connections in every state, left to their deadlines: the loop loses none of them.
#[test]
fn a_crowd_comes_and_goes() {
    let server = start(limited(|limits| {
        limits.idle_timeout = Duration::from_millis(300);
        limits.head_timeout = Duration::from_millis(300);
    }));
    let mut crowd: Vec<_> = (0..600).map(|_| server.connect()).collect();
    for (number, client) in crowd.iter_mut().enumerate() {
        match number % 4 {
            0 => {}
            1 => client.try_send(GET),
            2 => client.try_send(&GET[..number % GET.len()]),
            _ => client.try_half_close(),
        }
    }
    server.wait_for("everybody has left", |metrics| metrics.connections_closed == 600);
    assert_eq!(server.ask(GET).status, 200);
}
