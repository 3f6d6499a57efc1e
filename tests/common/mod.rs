//! A server on a free port, and a client that sees every byte.

#![allow(dead_code)] // Each test program uses a part of this.
#![allow(unreachable_pub)] // It is a module of each of them, and nobody else can reach it.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use hello::limits::Limits;
use hello::pages::Pages;
use hello::server::{Config, Engine, Running, Server};
use hello::service::Service;
use hello::shutdown::Drain;
use hello::site::Site;

/// How long a client waits for what must come. Only a failing test waits that long.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// How long `/sleep` sleeps in these tests.
pub const SLEEP: Duration = Duration::from_millis(300);

/// The request that most tests need.
pub const GET: &[u8] = b"GET / HTTP/1.1\r\nHost: test\r\n\r\n";

/// A configuration for an engine on a free port.
pub fn config(engine: Engine) -> Config {
    Config { listen: SocketAddr::from(([127, 0, 0, 1], 0)), engine, ..Config::default() }
}

/// The event loop with other limits.
pub fn limited(change: impl FnOnce(&mut Limits)) -> Config {
    let mut config = config(Engine::EventLoop);
    change(&mut config.limits);
    config
}

/// Starts the hello site.
pub fn start(config: Config) -> TestServer {
    serve(config, Site { pages: Pages::Embedded, sleep: SLEEP })
}

/// Starts any service.
pub fn serve(config: Config, service: impl Service) -> TestServer {
    let running = Server::bind(config, service).expect("a free port can be had").spawn().expect("a thread can be had");
    TestServer { running: Some(running) }
}

/// A server that is stopped when the test ends.
pub struct TestServer {
    running: Option<Running>,
}

impl TestServer {
    pub fn running(&self) -> &Running {
        self.running.as_ref().expect("it is taken only by stop")
    }

    pub fn connect(&self) -> Client {
        Client::connect(self.running().handle().address())
    }

    /// Sends one request on a connection of its own and returns the answer.
    pub fn ask(&self, request: &[u8]) -> Reply {
        let mut client = self.connect();
        client.send(request);
        client.reply_to(request)
    }

    pub fn metrics(&self) -> hello::metrics::Snapshot {
        self.running().handle().metrics()
    }

    /// Waits until the counters fulfil a condition.
    pub fn wait_for(&self, what: &str, condition: impl Fn(&hello::metrics::Snapshot) -> bool) {
        let started = Instant::now();
        while !condition(&self.metrics()) {
            assert!(started.elapsed() < PATIENCE, "waited in vain until {what}: {:?}", self.metrics());
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    pub fn stop(mut self) -> Drain {
        let running = self.running.take().expect("stop is called once");
        running.stop().expect("the poller works")
    }

    /// Waits for a server that ends by itself.
    pub fn join(mut self) -> Drain {
        let running = self.running.take().expect("join is called once");
        running.join().expect("the poller works")
    }
}

impl Drop for TestServer {
    fn drop(&mut self) {
        if let Some(running) = self.running.take() {
            running.handle().stop();
        }
    }
}

/// A client that sends and expects bytes.
pub struct Client {
    stream: TcpStream,
    received: Vec<u8>,
}

/// A response, taken apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reply {
    pub status: u16,
    pub fields: Vec<(String, String)>,
    pub content: Vec<u8>,
}

impl Reply {
    pub fn field(&self, name: &str) -> Option<&str> {
        self.fields.iter().find(|(candidate, _)| candidate == name).map(|(_, value)| value.as_str())
    }

    pub fn text(&self) -> &str {
        std::str::from_utf8(&self.content).expect("the content is text")
    }
}

impl Client {
    pub fn connect(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).expect("the server accepts");
        stream.set_read_timeout(Some(PATIENCE)).expect("a timeout can be set");
        stream.set_nodelay(true).expect("an option can be set");
        Self { stream, received: Vec::new() }
    }

    pub fn stream(&self) -> &TcpStream {
        &self.stream
    }

    pub fn send(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).expect("the server reads");
    }

    /// The sending half, for a thread of its own.
    pub fn writer(&self) -> TcpStream {
        self.stream.try_clone().expect("a socket can be shared")
    }

    /// Sends what the server may not want to read to the end.
    pub fn try_send(&mut self, bytes: &[u8]) {
        let _ = self.stream.write_all(bytes);
    }

    pub fn half_close(&mut self) {
        self.stream.shutdown(Shutdown::Write).expect("the connection is open");
    }

    /// Closes one half of a connection that the server may have closed already.
    pub fn try_half_close(&mut self) {
        let _ = self.stream.shutdown(Shutdown::Write);
    }

    /// Closes so that the server sees a reset.
    pub fn reset(self) {
        socket2::SockRef::from(&self.stream).set_linger(Some(Duration::ZERO)).expect("an option can be set");
    }

    /// Reads the response to a request; only its method matters.
    pub fn reply_to(&mut self, request: &[u8]) -> Reply {
        let head = self.read_until(b"\r\n\r\n");
        let head = String::from_utf8(head).expect("a head is ASCII");
        let mut lines = head.trim_end().split("\r\n");
        let status_line = lines.next().expect("a status line");
        assert!(status_line.starts_with("HTTP/1.1 "), "{status_line}");
        let status = status_line[9..12].parse().expect("a status code");
        let fields: Vec<_> = lines
            .map(|line| line.split_once(": ").expect("a field"))
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .collect();
        let mut reply = Reply { status, fields, content: Vec::new() };
        if !request.starts_with(b"HEAD") {
            let length = reply.field("Content-Length").map_or(0, |value| value.parse().expect("a number"));
            reply.content = self.read_exactly(length);
        }
        reply
    }

    pub fn reply(&mut self) -> Reply {
        self.reply_to(b"GET")
    }

    /// Reads bytes up to and including a pattern.
    pub fn read_until(&mut self, pattern: &[u8]) -> Vec<u8> {
        loop {
            if let Some(at) = self.received.windows(pattern.len()).position(|window| window == pattern) {
                return self.received.drain(..at + pattern.len()).collect();
            }
            self.read_more();
        }
    }

    fn read_exactly(&mut self, length: usize) -> Vec<u8> {
        while self.received.len() < length {
            self.read_more();
        }
        self.received.drain(..length).collect()
    }

    fn read_more(&mut self) {
        let mut chunk = [0; 16 * 1024];
        let count = self.stream.read(&mut chunk).expect("the server answers in time");
        assert!(count > 0, "the server closed after {:?}", self.received.escape_ascii().to_string());
        self.received.extend_from_slice(&chunk[..count]);
    }

    /// Expects the server to close, without another byte and without a reset.
    #[track_caller]
    pub fn expect_end(&mut self) {
        assert_eq!(self.received, b"", "there is more");
        let mut rest = Vec::new();
        self.stream.read_to_end(&mut rest).expect("the server closes in order");
        assert_eq!(rest.escape_ascii().to_string(), "");
    }

    /// Expects the server to close, in order or not, whatever it has sent before.
    #[track_caller]
    pub fn expect_gone(&mut self) {
        let mut rest = Vec::new();
        match self.stream.read_to_end(&mut rest) {
            Ok(_) => {}
            Err(error) => assert_eq!(error.kind(), ErrorKind::ConnectionReset, "{error}"),
        }
    }

    /// Expects the server to stay silent, and the connection open, for a moment.
    pub fn expect_silence(&mut self, moment: Duration) {
        assert_eq!(self.received, b"", "there is more");
        self.stream.set_read_timeout(Some(moment)).expect("a timeout can be set");
        let error = self.stream.read(&mut [0]).expect_err("nothing is to come");
        assert!(matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut), "{error}");
        self.stream.set_read_timeout(Some(PATIENCE)).expect("a timeout can be set");
    }
}
