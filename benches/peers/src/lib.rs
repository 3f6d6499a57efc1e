//! What all the peers share: the page, the address they are told, and a listening socket like ours.

use std::io;
use std::net::{SocketAddr, TcpListener};

use socket2::{Domain, Socket, Type};

/// The page that everybody serves.
pub const PAGE: &str = include_str!("../../../assets/hello.html");

/// The type that everybody says it has.
pub const CONTENT_TYPE: &str = "text/html; charset=utf-8";

/// The address on the command line.
pub fn address() -> SocketAddr {
    let argument = std::env::args().nth(1).and_then(|argument| argument.parse().ok());
    argument.expect("the first argument is an address such as 127.0.0.1:8081")
}

/// A nonblocking listener with the backlog and the options that our server uses.
pub fn listen() -> io::Result<TcpListener> {
    let address = address();
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
    socket.set_reuse_address(true)?;
    socket.set_tcp_nodelay(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(4096)?;
    Ok(socket.into())
}
