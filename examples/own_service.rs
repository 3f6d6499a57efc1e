//! A server of one's own: `cargo run --example own_service`, then `curl http://127.0.0.1:8081/dice`.
//!
//! The library serves anything that implements [`Service`]. This one throws dice at once, and looks something up slowly,
//! on the other lane, so that no number of look-ups delays a throw.

use std::hash::{BuildHasher, RandomState};
use std::thread;
use std::time::Duration;

use hello::http::{Method, Request, Response, Status};
use hello::server::{Config, Server};
use hello::service::{Lane, Service};

struct Casino;

impl Service for Casino {
    /// Runs on the poll thread: it only looks.
    fn lane(&self, request: &Request<'_>) -> Lane {
        if request.path() == "/lookup" { Lane::Slow } else { Lane::Quick }
    }

    /// Runs on a worker of that lane: it may take its time.
    fn respond(&self, request: &Request<'_>) -> Response {
        match (request.method(), request.path()) {
            (Method::Get | Method::Head, "/dice") => plain(format!("{}\n", throw())),
            (Method::Get | Method::Head, "/lookup") => {
                thread::sleep(Duration::from_secs(1)); // As slow as somebody else's database.
                plain(format!("The luckiest number is {}.\n", throw()))
            }
            (_, "/dice" | "/lookup") => Response::error(Status::METHOD_NOT_ALLOWED).with_field("Allow", "GET, HEAD"),
            _ => Response::error(Status::NOT_FOUND),
        }
    }
}

fn plain(text: String) -> Response {
    Response::new(Status::OK, "text/plain; charset=utf-8", text)
}

/// One to six. The standard library has no dice, but every hasher it makes is loaded differently.
fn throw() -> u64 {
    RandomState::new().hash_one(()) % 6 + 1
}

fn main() -> std::io::Result<()> {
    let config = Config { listen: ([127, 0, 0, 1], 8081).into(), ..Config::default() };
    let server =
        Server::bind(config, Casino).inspect_err(|_| eprintln!("Is something else listening on port 8081?"))?;
    println!("Try: curl http://{0}/dice http://{0}/lookup (Ctrl-C stops)", server.handle().address());
    server.run()?;
    Ok(())
}
