//! What every engine promises: the same answers to the same bytes, and no client that can spoil it for the next.

mod common;

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use common::{Client, GET, config, serve, start};
use hello::http::{Request, Response, Status};
use hello::server::Engine;
use hello::shutdown::Drain;

const HELLO: &str = include_str!("../assets/hello.html");
const NOT_FOUND: &str = include_str!("../assets/404.html");

/// Makes a test of each promise for each engine.
macro_rules! promises {
    ($($(#[$doc:meta])* fn $name:ident($engine:ident) $body:block)*) => {
        $($(#[$doc])* fn $name($engine: Engine) $body)*

        mod event_loop {
            $(#[test] fn $name() { super::$name(super::Engine::EventLoop); })*
        }
        mod thread_pool {
            $(#[test] fn $name() { super::$name(super::Engine::ThreadPool); })*
        }
        mod single_thread {
            $(#[test] fn $name() { super::$name(super::Engine::SingleThread); })*
        }
    };
}

promises! {
    fn the_page_says_hello(engine) {
        let reply = start(config(engine)).ask(GET);
        assert_eq!(reply.status, 200);
        assert_eq!(reply.text(), HELLO);
        assert!(HELLO.contains("<h1>Hello!</h1>") && HELLO.contains("<p>Hi from Rust</p>"));
    }

    /// RFC 9110 sections 6.6.1, 8.3 and 8.6.
    fn every_response_says_date_type_and_length(engine) {
        let server = start(config(engine));
        for request in [GET, b"GET /nowhere HTTP/1.1\r\nHost: test\r\n\r\n", b"nonsense\r\n\r\n"] {
            let reply = server.ask(request);
            let date = reply.field("Date").expect("there is a date");
            assert!(date.len() == 29 && date.ends_with(" GMT"), "{date}");
            assert_eq!(reply.field("Content-Type"), Some("text/html; charset=utf-8"));
            assert_eq!(reply.field("Content-Length"), Some(reply.content.len().to_string().as_str()));
        }
    }

    fn slow_pages_come_after_their_pause(engine) {
        let server = start(config(engine));
        let started = Instant::now();
        let reply = server.ask(b"GET /sleep HTTP/1.1\r\nHost: test\r\n\r\n");
        assert!(started.elapsed() >= common::SLEEP);
        assert_eq!(reply.text(), HELLO);
    }

    /// RFC 9110 section 15.5.5. What was asked for is not repeated in the page.
    fn unknown_paths_are_not_found_and_not_reflected(engine) {
        let server = start(config(engine));
        for path in ["/nowhere", "/hello.html", "/../Cargo.toml", "/%2e%2e/Cargo.toml", "//", "/Sleep", "/sleep/", "/<b>"] {
            let reply = server.ask(format!("GET {path} HTTP/1.1\r\nHost: test\r\n\r\n").as_bytes());
            assert_eq!((reply.status, reply.text()), (404, NOT_FOUND), "{path}");
        }
    }

    fn a_query_does_not_change_the_page(engine) {
        let server = start(config(engine));
        assert_eq!(server.ask(b"GET /?x=/sleep HTTP/1.1\r\nHost: test\r\n\r\n").text(), HELLO);
        assert_eq!(server.ask(b"GET http://test?x HTTP/1.1\r\nHost: test\r\n\r\n").text(), HELLO);
    }

    /// RFC 9110 section 9.3.2.
    fn head_is_get_without_the_content(engine) {
        let server = start(config(engine));
        for path in ["/", "/nowhere"] {
            let ask = |method: &str| server.ask(format!("{method} {path} HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n").as_bytes());
            let (mut get, mut head) = (ask("GET"), ask("HEAD"));
            assert!(head.content.is_empty() && !get.content.is_empty());
            // The second may have changed between the two.
            for reply in [&mut get, &mut head] {
                reply.fields.retain(|(name, _)| name != "Date");
            }
            assert_eq!((get.status, get.fields), (head.status, head.fields));
        }
        let mut client = server.connect();
        client.send(b"HEAD / HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n");
        assert_eq!(client.reply_to(b"HEAD").status, 200);
        client.expect_end();
    }

    /// RFC 9110 section 9.3.7.
    fn options_say_what_is_allowed(engine) {
        let server = start(config(engine));
        for target in ["/", "/sleep", "*"] {
            let reply = server.ask(format!("OPTIONS {target} HTTP/1.1\r\nHost: test\r\n\r\n").as_bytes());
            assert_eq!((reply.status, reply.field("Allow")), (204, Some("GET, HEAD, OPTIONS")), "{target}");
            assert_eq!(reply.field("Content-Length"), None);
        }
    }

    /// RFC 9110 sections 15.5.6 and 15.6.2; methods are case-sensitive (section 9.1).
    fn other_methods_are_refused_with_the_right_status(engine) {
        let server = start(config(engine));
        for (line, status) in [
            ("POST /", 405),
            ("PUT /sleep", 405),
            ("DELETE /", 405),
            ("PATCH /", 405),
            ("TRACE /", 405),
            ("POST /nowhere", 404),
            ("BREW /", 501),
            ("get /", 501),
            ("CONNECT test:80", 501),
        ] {
            let reply = server.ask(format!("{line} HTTP/1.1\r\nHost: test\r\n\r\n").as_bytes());
            assert_eq!(reply.status, status, "{line}");
            assert_eq!(reply.field("Allow").is_some(), status == 405, "{line}");
        }
    }

    /// RFC 9112 sections 2.2, 3, 5 and 6: refused, and the connection closes although nobody asked for it.
    fn what_is_not_http_is_refused_and_closed(engine) {
        let server = start(config(engine));
        for (request, status) in [
            (&b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n"[..], 400),
            (b"GET / HTTP/1.1\nHost: test\n\n", 400),
            (b"GET / HTTP/1.1\r\n\r\n", 400),
            (b"GET / HTTP/1.1\r\nHost: test\r\nHost: test\r\n\r\n", 400),
            (b"GET / HTTP/1.1\r\nHost: test\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n", 400),
            (b"GET / HTTP/1.1\r\nHost: test\r\nTransfer-Encoding: chunked\r\n\r\nx", 400),
            (b"GET / HTTP/1.1\r\nHost: test\r\nTransfer-Encoding: gzip\r\n\r\n", 501),
            (b"GET / HTTP/1.1\r\nHost: test\r\nContent-Length: 99999999\r\n\r\n", 413),
            (b"GET / HTTP/2.0\r\nHost: test\r\n\r\n", 505),
        ] {
            let mut client = server.connect();
            client.send(request);
            let reply = client.reply();
            assert_eq!(reply.status, status, "{}", request.escape_ascii());
            assert_eq!(reply.field("Connection"), Some("close"));
            client.expect_end();
        }
        let head = server.ask(b"HEAD / HTTP/1.1\r\n\r\n");
        assert_eq!((head.status, head.content.len()), (400, 0));
    }

    /// RFC 9110 section 15.5.15 and RFC 6585 section 5; the client has sent more than we read, and still sees why.
    fn what_is_too_long_is_refused_and_the_refusal_arrives(engine) {
        let server = start(config(engine));
        let target = format!("GET /{} HTTP/1.1\r\nHost: test\r\n\r\n", "a".repeat(100_000));
        let field = format!("GET / HTTP/1.1\r\nHost: test\r\nA: {}\r\n\r\n", "a".repeat(100_000));
        let fields = format!("GET / HTTP/1.1\r\nHost: test\r\n{}\r\n", "A: a\r\n".repeat(200));
        for (request, status) in [(target, 414), (field, 431), (fields, 431)] {
            let mut client = server.connect();
            client.try_send(request.as_bytes());
            assert_eq!(client.reply().status, status);
        }
    }

    /// RFC 9112 section 9.6.
    fn a_connection_closes_when_the_client_asks(engine) {
        let server = start(config(engine));
        let mut client = server.connect();
        client.send(b"GET / HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n");
        assert_eq!(client.reply().field("Connection"), Some("close"));
        client.expect_end();
    }

    /// RFC 9112 section 9.3 and RFC 9110 section 2.5.
    fn an_http_1_0_client_is_answered_and_let_go(engine) {
        let server = start(config(engine));
        let mut client = server.connect();
        client.send(b"GET / HTTP/1.0\r\n\r\n");
        assert_eq!(client.reply().text(), HELLO);
        client.expect_end();
    }

    /// RFC 9110 section 10.1.1.
    fn a_body_that_waits_for_permission_gets_it(engine) {
        let server = start(config(engine));
        let mut client = server.connect();
        client.send(b"POST / HTTP/1.1\r\nHost: test\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n");
        assert_eq!(client.read_until(b"\r\n\r\n"), b"HTTP/1.1 100 Continue\r\n\r\n");
        client.send(b"hello");
        assert_eq!(client.reply().status, 405);
        let mut client = server.connect();
        client.send(b"POST / HTTP/1.1\r\nHost: test\r\nContent-Length: 99999999\r\nExpect: 100-continue\r\n\r\n");
        assert_eq!(client.reply().status, 413);
    }

    fn a_request_may_arrive_byte_by_byte(engine) {
        let server = start(config(engine));
        let mut client = server.connect();
        for byte in b"POST / HTTP/1.1\r\nHost: test\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n" {
            client.send(&[*byte]);
        }
        assert_eq!(client.reply().status, 405);
    }

    fn an_empty_connection_costs_nothing(engine) {
        let server = start(config(engine));
        for _ in 0..10 {
            drop(server.connect());
        }
        assert_eq!(server.ask(GET).text(), HELLO);
    }

    fn a_reset_costs_nothing(engine) {
        let server = start(config(engine));
        for request in [&b""[..], b"GET / HT", GET, b"POST / HTTP/1.1\r\nHost: test\r\nContent-Length: 5\r\n\r\nhe"] {
            for _ in 0..10 {
                let mut client = server.connect();
                client.try_send(request);
                client.reset();
            }
        }
        assert_eq!(server.ask(GET).text(), HELLO);
    }

    /// RFC 9112 section 9.6: a half-close after a request is not a departure.
    fn a_half_closed_client_is_answered(engine) {
        let server = start(config(engine));
        let mut client = server.connect();
        client.send(GET);
        client.half_close();
        assert_eq!(client.reply().text(), HELLO);
        client.expect_end();
    }

    fn a_client_that_leaves_in_the_middle_of_a_request_is_let_go(engine) {
        let server = start(config(engine));
        let mut client = server.connect();
        client.send(b"GET / HTTP/1.1\r\nHo");
        client.half_close();
        client.expect_end();
        assert_eq!(server.ask(GET).text(), HELLO);
    }

    /// Ten panics for each of the few workers: none of them may be lost.
    fn a_panic_costs_that_request_and_no_worker(engine) {
        let server = serve(config(engine), |request: &Request<'_>| match request.path() {
            // resume_unwind panics without printing a report that would clutter the test's output.
            "/panic" => std::panic::resume_unwind(Box::new("a handler may panic")),
            _ => Response::new(Status::OK, "text/plain", "fine"),
        });
        for _ in 0..40 {
            let mut client = server.connect();
            client.send(b"GET /panic HTTP/1.1\r\nHost: test\r\n\r\n");
            let reply = client.reply();
            assert_eq!((reply.status, reply.field("Connection")), (500, Some("close")));
            client.expect_end();
        }
        assert_eq!(server.ask(GET).text(), "fine");
        assert_eq!(server.metrics().panics, 40);
    }

    fn a_request_too_slow_to_arrive_is_timed_out_rfc9110_15_5_9(engine) {
        let mut config = config(engine);
        config.limits.head_timeout = Duration::from_millis(300);
        config.limits.body_timeout = Duration::from_millis(300);
        let server = start(config);
        for beginning in [&b"GET / HTTP/1.1\r\nHo"[..], b"POST / HTTP/1.1\r\nHost: test\r\nContent-Length: 5\r\n\r\nhe"] {
            let mut client = server.connect();
            client.send(beginning);
            assert_eq!(client.reply().status, 408);
            client.expect_end();
        }
    }

    /// The deadline counts from the first byte, so a byte now and then does not move it.
    fn dripping_does_not_buy_time(engine) {
        let mut config = config(engine);
        config.limits.head_timeout = Duration::from_millis(400);
        let server = start(config);
        let mut client = server.connect();
        let started = Instant::now();
        client.send(b"GET / HTTP/1.1\r\nA: ");
        let mut writer = client.writer();
        let dripping = thread::spawn(move || {
            while writer.write_all(b"a").is_ok() && started.elapsed() < common::PATIENCE {
                thread::sleep(Duration::from_millis(20));
            }
        });
        assert_eq!(client.reply().status, 408);
        client.expect_gone();
        drop(client);
        dripping.join().expect("the drip ends");
        assert!(started.elapsed() < common::PATIENCE);
    }

    fn a_silent_connection_is_closed_without_a_word(engine) {
        let mut config = config(engine);
        config.limits.idle_timeout = Duration::from_millis(300);
        let server = start(config);
        server.connect().expect_end();
    }

    fn stopping_answers_what_was_asked_and_refuses_newcomers(engine) {
        let server = start(config(engine));
        let address = server.running().handle().address();
        let mut client = server.connect();
        client.send(b"GET /sleep HTTP/1.1\r\nHost: test\r\n\r\n");
        server.wait_for("the request is read", |metrics| metrics.requests == 1);
        let waiting = thread::spawn(move || {
            let reply = client.reply();
            client.expect_end();
            reply
        });
        assert_eq!(server.stop(), Drain::Complete);
        let reply = waiting.join().expect("the client is answered");
        assert_eq!((reply.text(), reply.field("Connection")), (HELLO, Some("close")));
        assert!(TcpStream::connect(address).is_err());
    }

    /// Clients that connect again and again, into the shutdown, cannot put it off.
    fn stopping_ends_although_clients_keep_coming(engine) {
        let mut config = config(engine);
        config.limits.drain_timeout = Duration::from_millis(500);
        let server = serve(config, |_: &Request<'_>| {
            thread::sleep(Duration::from_millis(20));
            Response::empty(Status::OK)
        });
        let address = server.running().handle().address();
        let enough = Arc::new(AtomicBool::new(false));
        let crowd: Vec<_> = (0..3)
            .map(|_| {
                let enough = Arc::clone(&enough);
                thread::spawn(move || {
                    while !enough.load(Ordering::Relaxed) {
                        if let Ok(mut stream) = TcpStream::connect(address) {
                            let _ = stream.write_all(GET);
                            let _ = stream.read(&mut [0; 1024]);
                        }
                    }
                })
            })
            .collect();
        server.wait_for("the crowd is there", |metrics| metrics.responses >= 3);
        let started = Instant::now();
        server.stop();
        assert!(started.elapsed() < common::PATIENCE / 2, "it took {:?}", started.elapsed());
        enough.store(true, Ordering::Relaxed);
        for client in crowd {
            client.join().expect("a client ends");
        }
    }

    /// The last of the counted clients has the same time to send its request as any other.
    fn a_counted_client_may_take_its_time(engine) {
        let mut config = config(engine);
        config.requests = Some(1);
        let server = start(config);
        let mut client = server.connect();
        thread::sleep(Duration::from_millis(600));
        client.send(GET);
        assert_eq!(client.reply().status, 200);
        assert_eq!(server.join(), Drain::Complete);
    }

    fn an_idle_server_stops_at_once(engine) {
        let server = start(config(engine));
        assert_eq!(server.ask(GET).status, 200);
        assert_eq!(server.stop(), Drain::Complete);
    }

    fn a_server_told_to_stop_after_some_requests_does(engine) {
        let mut config = config(engine);
        config.requests = Some(3);
        let server = start(config);
        let address = server.running().handle().address();
        for _ in 0..3 {
            let mut client = Client::connect(address);
            client.send(b"GET / HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n");
            assert_eq!(client.reply().status, 200);
        }
        assert_eq!(server.join(), Drain::Complete);
        assert!(TcpStream::connect(address).is_err());
    }
}
