//! Our own parser, service and response in a loop without workers: what the way over a worker is measured against.

use std::io::{ErrorKind, Read, Write};
use std::time::SystemTime;

use hello::http::Persistence;
use hello::http::Request;
use hello::http::date::DateCache;
use hello::http::parse::{Parsed, parse};
use hello::limits::Limits;
use hello::service::Service;
use hello::site::Site;
use mio::net::{TcpListener, TcpStream};
use mio::{Events, Interest, Poll, Token};
use slab::Slab;

const LISTENER: Token = Token(usize::MAX);

struct Connection {
    stream: TcpStream,
    /// The beginning of a request.
    input: Vec<u8>,
}

fn main() -> std::io::Result<()> {
    let mut poll = Poll::new()?;
    let mut events = Events::with_capacity(1024);
    let mut listener = TcpListener::from_std(peers::listen()?);
    poll.registry().register(&mut listener, LISTENER, Interest::READABLE)?;
    let mut connections: Slab<Connection> = Slab::new();
    let mut scratch = vec![0; 64 * 1024];
    let mut output = Vec::new();
    let mut dates = DateCache::default();
    let (site, limits) = (Site::default(), Limits::default());
    loop {
        poll.poll(&mut events, None)?;
        for event in &events {
            if event.token() == LISTENER {
                while let Ok((mut stream, _)) = listener.accept() {
                    let entry = connections.vacant_entry();
                    let interest = Interest::READABLE | Interest::WRITABLE;
                    poll.registry().register(&mut stream, Token(entry.key()), interest)?;
                    entry.insert(Connection { stream, input: Vec::new() });
                }
                continue;
            }
            if !event.is_readable() {
                continue;
            }
            let key = event.token().0;
            let Some(connection) = connections.get_mut(key) else { continue };
            let open = match connection.stream.read(&mut scratch) {
                Ok(0) => false,
                Ok(length) => {
                    let mut bytes = &scratch[..length];
                    let joined;
                    if !connection.input.is_empty() {
                        connection.input.extend_from_slice(bytes);
                        joined = std::mem::take(&mut connection.input);
                        bytes = &joined;
                    }
                    output.clear();
                    let mut open = true;
                    while open {
                        match parse(bytes, &limits) {
                            Ok(Parsed::Complete { head, length, .. }) => {
                                let request = Request::new(&head, bytes);
                                let persistence = request.persistence();
                                let response = site.respond(&request);
                                let date = dates.at(std::time::Instant::now(), SystemTime::now);
                                response.write(request.method(), persistence, date, &mut output);
                                bytes = &bytes[length..];
                                open = persistence != Persistence::Close;
                            }
                            Ok(Parsed::Partial) => break,
                            Err(_) => open = false,
                        }
                    }
                    connection.input = bytes.to_vec();
                    // A client that does not take its answers is none of this benchmark's.
                    connection.stream.write_all(&output).is_ok() && open
                }
                Err(error) => error.kind() == ErrorKind::WouldBlock,
            };
            if !open {
                connections.remove(key);
            }
        }
    }
}
