//! What slow neighbours cost: `cargo bench --bench sleepers`.
//!
//! Eight clients ask for `/sleep` again and again, while others ask for `/`: once as fast as they are answered, on 16
//! connections, for the rate; and once at 10,000 requests a second whether they are answered or not, for the waiting. Only
//! the second way shows waiting as it is: a client that waits for its answer sends nothing meanwhile, and so counts a stall
//! of five seconds as one slow request.

#![allow(clippy::cast_precision_loss, clippy::cast_possible_truncation, clippy::cast_sign_loss)] // Figures are figures.
#![allow(unreachable_pub, dead_code)] // The modules are shared with another program.

#[path = "wrk/client.rs"]
mod client;
#[path = "process/mod.rs"]
mod process;
#[path = "wrk/subjects.rs"]
mod subjects;

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::{Command, ExitCode, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use client::Seen;

const SLEEPERS: usize = 8;
const CONNECTIONS: usize = 16;
const RATE: u32 = 10_000;
const ROUNDS: usize = 3;
const SECONDS: &str = "6";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if arguments.first().is_some_and(|argument| argument == "client") {
        return client::main(&arguments[1..]);
    }
    match measure() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn measure() -> io::Result<()> {
    println!("{}; {SLEEPERS} sleepers of 5 s; {ROUNDS} rounds of {SECONDS} s, medians\n", process::machine());
    println!("| server | sleepers | requests/s, closed loop | p50 us | p99 us | max us, at {RATE}/s, open loop |");
    println!("|---|---:|---:|---:|---:|---:|");
    for subject in subjects::chosen(|name| name == "hello" || name == "thread-pool")? {
        // The plain server closes after each answer.
        let close = if subject.name == "thread-pool" { "close" } else { "keep" };
        for count in [0, SLEEPERS] {
            let mut closed = Vec::new();
            let mut open = Vec::new();
            for _ in 0..ROUNDS {
                let server = subject.start(None)?;
                let sleepers = Sleepers::start(server.address, count);
                closed.push(run(server.address, close, None)?);
                open.push(run(server.address, close, Some(RATE))?);
                sleepers.stop();
            }
            let median = |seen: &[Seen], figure: fn(&Seen) -> f64| {
                let mut figures: Vec<f64> = seen.iter().map(figure).collect();
                figures.sort_by(f64::total_cmp);
                figures[figures.len() / 2]
            };
            println!(
                "| {} | {count} | {:.0} | {:.0} | {:.0} | {:.0} |",
                subject.name,
                median(&closed, |seen| seen.requests as f64 / seen.seconds),
                median(&open, |seen| seen.p50),
                median(&open, |seen| seen.p99),
                median(&open, |seen| seen.max)
            );
        }
    }
    Ok(())
}

/// Runs the client as a process of its own.
fn run(address: SocketAddr, close: &str, rate: Option<u32>) -> io::Result<Seen> {
    let mut command = Command::new(std::env::current_exe()?);
    command.args(["client", &address.to_string(), &CONNECTIONS.to_string(), "1", close, SECONDS]);
    if let Some(rate) = rate {
        command.arg(rate.to_string());
    }
    let output = command.stderr(Stdio::inherit()).output()?;
    // A server that answered nobody at all has no latency to show.
    let seen = client::parse(&String::from_utf8_lossy(&output.stdout)).unwrap_or_default();
    let seconds = SECONDS.parse().unwrap_or(0.0);
    let silent = Seen { seconds, p50: f64::INFINITY, p99: f64::INFINITY, max: f64::INFINITY, ..seen };
    Ok(if seen.requests == 0 { silent } else { seen })
}

/// Clients that ask for `/sleep` again and again.
struct Sleepers {
    enough: Arc<AtomicBool>,
}

impl Sleepers {
    fn start(address: SocketAddr, count: usize) -> Self {
        let enough = Arc::new(AtomicBool::new(false));
        for _ in 0..count {
            let enough = Arc::clone(&enough);
            thread::spawn(move || {
                while !enough.load(Ordering::Relaxed) {
                    let Ok(mut stream) = TcpStream::connect(address) else { return };
                    let _ = stream.write_all(b"GET /sleep HTTP/1.1\r\nHost: bench\r\nConnection: close\r\n\r\n");
                    let _ = stream.read_to_end(&mut Vec::new());
                }
            });
        }
        // All of them are asleep when the measurement begins.
        thread::sleep(Duration::from_millis(300));
        Self { enough }
    }

    /// The server is ended next, which ends their last requests.
    fn stop(self) {
        self.enough.store(true, Ordering::Relaxed);
    }
}
