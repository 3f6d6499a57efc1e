//! The floor: a bare loop that parses nothing and answers the same bytes to everything. No server of this shape can be
//! quicker, and none that does its duty can be as quick.

use std::io::{ErrorKind, Read, Write};

use mio::net::{TcpListener, TcpStream};
use mio::{Events, Interest, Poll, Token};
use slab::Slab;

const LISTENER: Token = Token(usize::MAX);

fn main() -> std::io::Result<()> {
    let answer = format!(
        "HTTP/1.1 200 OK\r\nDate: Sun, 06 Nov 1994 08:49:37 GMT\r\nContent-Type: {}\r\nContent-Length: {}\r\n\r\n{}",
        peers::CONTENT_TYPE,
        peers::PAGE.len(),
        peers::PAGE
    );
    let mut poll = Poll::new()?;
    let mut events = Events::with_capacity(1024);
    let mut listener = TcpListener::from_std(peers::listen()?);
    poll.registry().register(&mut listener, LISTENER, Interest::READABLE)?;
    let mut connections: Slab<TcpStream> = Slab::new();
    let mut scratch = vec![0; 64 * 1024];
    let mut output = Vec::new();
    loop {
        poll.poll(&mut events, None)?;
        for event in &events {
            if event.token() == LISTENER {
                while let Ok((mut stream, _)) = listener.accept() {
                    let entry = connections.vacant_entry();
                    poll.registry().register(&mut stream, Token(entry.key()), Interest::READABLE)?;
                    entry.insert(stream);
                }
                continue;
            }
            let key = event.token().0;
            let Some(stream) = connections.get_mut(key) else { continue };
            let open = match stream.read(&mut scratch) {
                Ok(0) => false,
                Ok(length) => {
                    // A request ends in an empty line; looking for its last byte pair is as little as can be done.
                    let requests = scratch[..length].windows(4).filter(|window| *window == b"\r\n\r\n").count();
                    let closes = scratch[..length].windows(5).any(|window| window == b"close");
                    output.clear();
                    (0..requests).for_each(|_| output.extend_from_slice(answer.as_bytes()));
                    // A client that does not take its answers is none of this benchmark's.
                    stream.write_all(&output).is_ok() && !closes
                }
                Err(error) => error.kind() == ErrorKind::WouldBlock,
            };
            if !open {
                connections.remove(key);
            }
        }
    }
}
