//! What idle connections cost: `cargo bench --bench idle [-- CONNECTIONS]`, 15,000 unless said otherwise.
//!
//! Opens that many keep-alive connections to the event loop, has each answered once, and holds them. Then it measures the
//! server's memory for each of them, its processor time while nothing happens, and how long `GET /` takes meanwhile.

mod process;

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use process::{machine, memory, threads, used};

const REQUEST: &[u8] = b"GET / HTTP/1.1\r\nHost: bench\r\n\r\n";

/// Connections whose first request is under way at once, so that memory for work is not counted as memory for idling.
const WINDOW: usize = 32;

/// How long nothing happens.
const IDLE: Duration = Duration::from_secs(10);

/// Requests sent one after the other while the others idle.
const REQUESTS: usize = 5_000;

/// Descriptors that are not for connections: the server keeps 64, and a few connections are ours besides those held.
const RESERVED: u64 = 100;

fn main() -> io::Result<()> {
    let wanted = std::env::args().skip(1).find_map(|argument| argument.parse().ok()).unwrap_or(15_000);
    let limit = rlimit::increase_nofile_limit(u64::MAX)?;
    let count = usize::try_from(limit.saturating_sub(RESERVED)).map_or(wanted, |possible| wanted.min(possible));
    if count == 0 {
        return Err(io::Error::other(format!("{limit} descriptors are too few; allow more with `ulimit -n 1024`")));
    }
    if count < wanted {
        println!(
            "{limit} descriptors are not enough for {wanted} connections; `ulimit -n {}` would be.",
            wanted as u64 + RESERVED
        );
    }

    println!("{}", machine());
    let server = Server::start()?;
    // The first answers bring in what the server keeps for its work.
    let warm_up = latencies(server.address, REQUESTS)?;
    let memory_before = memory(server.id())?;
    let threads_before = threads(server.id())?;

    let started = Instant::now();
    let mut held = Vec::with_capacity(count);
    while held.len() < count {
        let mut window = Vec::with_capacity(WINDOW);
        for _ in 0..WINDOW.min(count - held.len()) {
            window.push(TcpStream::connect(server.address)?);
        }
        for stream in &mut window {
            stream.write_all(REQUEST)?;
        }
        for stream in &mut window {
            read_answer(stream)?;
        }
        held.append(&mut window);
    }
    let opening = started.elapsed();
    let memory_held = memory(server.id())?;
    let tenths = memory_held.saturating_sub(memory_before) * 10 / count as u64;
    println!("{count} connections opened and answered once in {:.2} s", opening.as_secs_f64());
    if count < 10_000 {
        println!("(With so few, what the server keeps for its work outweighs what it keeps for each of them.)");
    }
    println!(
        "memory: {} KiB before, {} KiB with them: {}.{} bytes each (limit: 64)",
        memory_before / 1024,
        memory_held / 1024,
        tenths / 10,
        tenths % 10
    );
    println!("threads: {threads_before} before, {} with them", threads(server.id())?);

    let before = used(server.id())?;
    thread::sleep(IDLE);
    let after = used(server.id())?;
    let (cpu, switches) = (after.cpu.saturating_sub(before.cpu), after.switches - before.switches);
    println!("idle for {IDLE:?}: {cpu:?} of processor time, {switches} context switches (limit: none)");

    let meanwhile = latencies(server.address, REQUESTS)?;
    println!("GET / alone: {}; with them: {}", show(&warm_up), show(&meanwhile));

    // Every one of them is still there, and still answered.
    for stream in &mut held {
        stream.write_all(REQUEST)?;
        read_answer(stream)?;
    }
    println!("all {count} answered again");
    drop(held);
    thread::sleep(Duration::from_millis(500));
    println!("memory after they have left: {} KiB", memory(server.id())? / 1024);
    Ok(())
}

/// A running server, ended when dropped.
struct Server {
    child: Child,
    address: SocketAddr,
}

impl Server {
    /// Starts the server on a free port and waits for its first line.
    fn start() -> io::Result<Self> {
        let mut command = Command::new(env!("CARGO_BIN_EXE_hello"));
        command.args(["--listen", "127.0.0.1:0", "--idle-timeout", "10min"]);
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn()?;
        let mut line = String::new();
        if let Some(stdout) = child.stdout.as_mut() {
            BufReader::new(stdout).read_line(&mut line)?;
        }
        let address = line.trim_end().rsplit('/').next().unwrap_or_default();
        let address = address.parse().map_err(|_| io::Error::other(format!("the server said {line:?}")))?;
        Ok(Self { child, address })
    }

    fn id(&self) -> u32 {
        self.child.id()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The times that requests take one after the other on one connection, sorted.
fn latencies(address: SocketAddr, count: usize) -> io::Result<Vec<Duration>> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_nodelay(true)?;
    let mut times = Vec::with_capacity(count);
    for _ in 0..count {
        let started = Instant::now();
        stream.write_all(REQUEST)?;
        read_answer(&mut stream)?;
        times.push(started.elapsed());
    }
    times.sort_unstable();
    Ok(times)
}

fn show(times: &[Duration]) -> String {
    let at = |permille: usize| times[(times.len() - 1) * permille / 1000].as_micros();
    format!("p50 {} us, p99 {} us, max {} us", at(500), at(990), at(1000))
}

/// Reads one answer and checks it.
fn read_answer(stream: &mut TcpStream) -> io::Result<()> {
    let page = include_bytes!("../assets/hello.html");
    let mut answer = [0; 1024];
    let mut length = 0;
    while !answer[..length].ends_with(page) {
        match stream.read(&mut answer[length..])? {
            0 => return Err(io::Error::other("the server closed the connection")),
            count => length += count,
        }
    }
    if answer.starts_with(b"HTTP/1.1 200 OK\r\n") {
        Ok(())
    } else {
        Err(io::Error::other("the answer is not the page"))
    }
}
