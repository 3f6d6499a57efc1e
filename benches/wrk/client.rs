//! A client that costs as little as a client can, so that the server is what is measured.
//!
//! wrk parses every response, and its thread is full at about the rate at which a good server on one core is: from 64
//! connections on it measures itself. This one knows how long a response is and counts bytes. It runs as a process of its
//! own, so that it can be put on a processor of its own.

use std::io::{self, ErrorKind, Read, Write};
use std::net::SocketAddr;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use mio::net::TcpStream;
use mio::{Events, Interest, Poll, Token};

/// What the client shall do.
#[derive(Clone, Copy, Debug)]
pub struct Load {
    pub connections: usize,
    /// Requests sent at once on each connection.
    pub pipeline: usize,
    /// Whether each request gets a connection of its own.
    pub close: bool,
    /// Requests a second, sent when their time has come, whether or not others have been answered (open loop). Without it,
    /// each connection sends its next batch when the last is answered (closed loop), and a server that stalls is asked
    /// less.
    pub rate: Option<u32>,
    pub duration: Duration,
}

/// What the client saw.
#[derive(Clone, Copy, Debug, Default)]
pub struct Seen {
    pub requests: u64,
    pub errors: u64,
    pub seconds: f64,
    /// Time from when a batch of requests was sent, or in an open loop should have been, to the last byte of its answers,
    /// in microseconds.
    pub p50: f64,
    pub p99: f64,
    pub max: f64,
}

/// The part of the program that runs as the client: `client ADDRESS CONNECTIONS PIPELINE close|keep SECONDS [RATE]`.
pub fn main(arguments: &[String]) -> ExitCode {
    let number = |at: usize| arguments.get(at).and_then(|text| text.parse::<f64>().ok());
    let address = arguments.first().and_then(|text| text.parse().ok());
    let (Some(address), Some(connections), Some(pipeline), Some(seconds)) = (address, number(1), number(2), number(4))
    else {
        eprintln!("client ADDRESS CONNECTIONS PIPELINE close|keep SECONDS [RATE]");
        return ExitCode::from(2);
    };
    let load = Load {
        connections: connections as usize,
        pipeline: pipeline as usize,
        close: arguments.get(3).is_some_and(|text| text == "close"),
        rate: number(5).map(|rate| rate as u32),
        duration: Duration::from_secs_f64(seconds),
    };
    match run(address, load) {
        Ok(seen) => {
            println!("{} {} {} {} {} {}", seen.requests, seen.errors, seen.seconds, seen.p50, seen.p99, seen.max);
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("the client failed: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Reads what [`main`] has printed.
pub fn parse(line: &str) -> Option<Seen> {
    let mut fields = line.split_whitespace();
    Some(Seen {
        requests: fields.next()?.parse().ok()?,
        errors: fields.next()?.parse().ok()?,
        seconds: fields.next()?.parse().ok()?,
        p50: fields.next()?.parse().ok()?,
        p99: fields.next()?.parse().ok()?,
        max: fields.next()?.parse().ok()?,
    })
}

/// One of the client's connections.
struct Connection {
    stream: TcpStream,
    /// Bytes of this batch's answers that have not arrived.
    missing: usize,
    sent: Instant,
    /// Whether an open loop has been told that it may use this connection.
    known: bool,
}

/// When the requests of an open loop are due.
struct Schedule {
    next: Instant,
    step: Duration,
}

fn run(address: SocketAddr, load: Load) -> io::Result<Seen> {
    let close = if load.close { "Connection: close\r\n" } else { "" };
    let request = format!("GET / HTTP/1.1\r\nHost: {address}\r\n{close}\r\n");
    let length = answer_length(address, request.as_bytes())? * load.pipeline;
    let batch = request.repeat(load.pipeline).into_bytes();

    let mut poll = Poll::new()?;
    let mut events = Events::with_capacity(1024);
    let mut connections = Vec::with_capacity(load.connections);
    for key in 0..load.connections {
        connections.push(open(address, &poll, key)?);
    }
    let mut scratch = vec![0; 256 * 1024];
    let mut times = Vec::with_capacity(1 << 20);
    let mut seen = Seen::default();
    let started = Instant::now();
    let mut now = started;
    let mut schedule = load.rate.map(|rate| Schedule { next: started, step: Duration::from_secs(1) / rate.max(1) });
    // Connections that wait for the next request of the schedule.
    let mut free: Vec<usize> = Vec::with_capacity(load.connections);
    while now - started < load.duration {
        let patience = schedule.as_ref().map_or(Duration::from_millis(100), |_| Duration::ZERO);
        poll.poll(&mut events, Some(patience))?;
        now = Instant::now();
        while let Some(schedule) = schedule.as_mut().filter(|schedule| schedule.next <= now) {
            let Some(key) = free.pop() else { break };
            send(&mut connections[key], &batch, length);
            connections[key].sent = schedule.next;
            schedule.next += schedule.step;
        }
        for event in &events {
            let key = event.token().0;
            let connection = &mut connections[key];
            // A connection is writable when it is opened; that is when its first batch goes out.
            if connection.missing == 0 && event.is_writable() {
                if schedule.is_none() {
                    send(connection, &batch, length);
                } else if !connection.known {
                    connection.known = true;
                    free.push(key);
                }
                continue;
            }
            if !event.is_readable() {
                continue;
            }
            match connection.stream.read(&mut scratch) {
                Ok(count) if count > 0 && count <= connection.missing => {
                    connection.missing -= count;
                    if connection.missing == 0 {
                        seen.requests += load.pipeline as u64;
                        times.push(connection.sent.elapsed());
                        if load.close {
                            connections[key] = open(address, &poll, key)?;
                        } else if schedule.is_some() {
                            free.push(key);
                        } else {
                            send(connection, &batch, length);
                        }
                    }
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                _ => {
                    seen.errors += 1;
                    connections[key] = open(address, &poll, key)?;
                }
            }
        }
    }
    seen.seconds = started.elapsed().as_secs_f64();
    times.sort_unstable();
    let at = |permille: usize| match times.len() {
        0 => 0.0,
        count => times[(count - 1) * permille / 1000].as_secs_f64() * 1e6,
    };
    (seen.p50, seen.p99, seen.max) = (at(500), at(990), at(1000));
    Ok(seen)
}

fn open(address: SocketAddr, poll: &Poll, key: usize) -> io::Result<Connection> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_nodelay(true)?;
    poll.registry().register(&mut stream, Token(key), Interest::READABLE | Interest::WRITABLE)?;
    Ok(Connection { stream, missing: 0, sent: Instant::now(), known: false })
}

fn send(connection: &mut Connection, batch: &[u8], length: usize) {
    connection.sent = Instant::now();
    // A batch is far smaller than a socket's buffer; should it not fit, the missing answers show as a stall.
    if connection.stream.write_all(batch).is_ok() {
        connection.missing = length;
    }
}

/// Asks once, and measures the answer: its head up to the empty line, and the content of the length it says.
fn answer_length(address: SocketAddr, request: &[u8]) -> io::Result<usize> {
    let mut stream = std::net::TcpStream::connect(address)?;
    // Long enough for a server that is asleep in all its threads.
    stream.set_read_timeout(Some(Duration::from_secs(30)))?;
    stream.write_all(request)?;
    let mut answer = Vec::new();
    let mut chunk = [0; 4096];
    loop {
        let count = stream.read(&mut chunk)?;
        answer.extend_from_slice(&chunk[..count]);
        let text = String::from_utf8_lossy(&answer).to_ascii_lowercase();
        if let Some((head, _)) = text.split_once("\r\n\r\n") {
            let field = head.lines().find_map(|line| line.strip_prefix("content-length:"));
            let content: usize = field.and_then(|value| value.trim().parse().ok()).unwrap_or(0);
            if answer.len() == head.len() + 4 + content && head.starts_with("http/1.1 200") {
                return Ok(answer.len());
            }
        }
        if count == 0 {
            return Err(io::Error::other("the server does not answer with its page"));
        }
    }
}
