//! In the steady state a request costs no allocation, neither on the poll thread nor on a worker.
//!
//! This is the only test in its program, so that nobody else's allocations are counted, and client and server take turns,
//! so that each of the server's buffers is as large as it gets when the counting begins.

use std::alloc::System;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};

use hello::server::{Config, Server};
use hello::site::Site;
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

/// Sends a batch and reads its answers, without an allocation.
fn ask(streams: &mut [TcpStream], batch: &[u8], answer: &mut [u8]) {
    for stream in &mut *streams {
        stream.write_all(batch).expect("the server reads");
    }
    for stream in streams {
        stream.read_exact(answer).expect("the server answers");
        assert!(answer.starts_with(b"HTTP/1.1 200 OK\r\n"));
    }
}

#[test]
fn a_request_in_the_steady_state_allocates_nothing() {
    const ROUNDS: usize = 500;
    let config = Config { listen: SocketAddr::from(([127, 0, 0, 1], 0)), ..Config::default() };
    let server = Server::bind(config, Site::default()).expect("a free port can be had").spawn().expect("and a thread");
    let address = server.handle().address();
    let mut streams: Vec<_> = (0..16).map(|_| TcpStream::connect(address).expect("the server accepts")).collect();

    let request = b"GET / HTTP/1.1\r\nHost: test\r\n\r\n";
    let mut probe = [0; 4096];
    streams[0].write_all(request).expect("the server reads");
    let length = streams[0].read(&mut probe).expect("the server answers");

    for depth in [1, 16] {
        let batch = request.repeat(depth);
        let mut answer = vec![0; length * depth];
        for _ in 0..ROUNDS {
            ask(&mut streams, &batch, &mut answer);
        }
        let region = Region::new(ALLOCATOR);
        for _ in 0..ROUNDS {
            ask(&mut streams, &batch, &mut answer);
        }
        let change = region.change();
        let requests = ROUNDS * streams.len() * depth;
        // A few are allowed for what happens once: a second worker that is woken for the first time, a fuller batch than
        // ever before. One for each request, or for each batch, would be thousands.
        let count = change.allocations + change.reallocations;
        assert!(count < 50, "{count} allocations for {requests} requests: {change:?}");
    }
    server.stop().expect("the poller works");
}
