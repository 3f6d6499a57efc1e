//! The web server of the Rust Book's final project, rebuilt on an event loop.
//!
//! The Book's server gives each connection to a thread, and the thread waits: for the request, for the handler, for the
//! client to take the answer. This one has a single thread that waits for everybody, the *poll thread*, and a few that
//! never wait for a client, the *workers*. A request goes round a ring once:
//!
//! ```text
//!             poll thread (one)                               worker threads
//!   socket --> Connection::ready ----Next::Dispatch(job)----> Workers::submit
//!                 |  bytes -> http::parse -> requests             |
//!                 |                                               v  Service::respond -> bytes
//!   socket <-- Connection::complete <---- take ---- Completions::push   (rings if the poll thread may sleep)
//! ```
//!
//! The Book's server is here too, as the other [`Engine`](server::Engine), with the same parser and the same pages, so
//! that the two can be compared.
//!
//! # The parts, in reading order
//!
//! A module uses only modules above it in this list (a test checks this), so it can be read from the top. The insides of
//! the event loop are private: `cargo doc --open --document-private-items` shows them, too.
//!
//! | module | what it is |
//! |---|---|
//! | [`limits`] | every limit there is |
//! | [`http`] | requests and responses as values: no socket, no thread, no clock |
//! | [`pages`] | the site's pages, embedded in the binary |
//! | [`metrics`] | counters of what happened |
//! | [`shutdown`] | how a server ends |
//! | [`service`] | the trait an application implements |
//! | [`site`] | the application: `/`, `/sleep`, and "not found" |
//! | [`event_loop`] | engine one: the ring above |
//! | [`book`] | engine two: the Book's, a straight line |
//! | [`server`] | the front door: set up, start, stop |
//!
//! # Words
//!
//! - **Poll thread**: the one thread that waits for sockets (in `mio::Poll`), reads them and writes to them.
//! - **Worker**: a thread that answers requests. A **lane** is a queue with its workers; there is a quick one and a slow one.
//! - **Job**: the requests of one connection on their way to a worker, and the answers on their way back.
//! - **Completion**: a job that has its answers.
//! - **Bell**: the `mio::Waker` that a worker rings when it brings a completion to a sleeping poll thread.
//! - **Token**: what mio says when a socket is ready; here, the connection's key in a slab.
//! - **Turn**: one round of the poll thread, from waking up to going back to sleep.
//! - **Thread pool**: always the Book's. Ours are called lanes.
//!
//! From outside:
//!
//! - **Descriptor**: the number by which a process knows an open file or socket. There is a limit to how many it may have.
//! - **Slab**: a vector whose free places are used again, so that a key stays small and stays the same.
//! - **Edge-triggered**: the poller says *once* that a socket has become ready, and not again until it has been emptied
//!   and become ready anew.
//! - **Backlog**: the kernel's queue of connections that nobody has accepted yet.
//! - **Keep-alive**: a connection stays open for further requests. **Pipelining**: a client sends them without waiting for
//!   the answers.
//! - **Drain**: to finish what is under way while accepting nothing new, before a server stops.
//! - **Linger**: to read on for a moment after the last answer, so that the client gets it.
//! - **Tick**, **sweep**: how deadlines are measured, and how they are found; see `event_loop/deadlines.rs`.

pub mod limits;

pub mod http;

pub mod pages;

pub mod metrics;

pub mod shutdown;

pub mod service;

pub mod site;

pub mod event_loop;

pub mod book;

pub mod server;
