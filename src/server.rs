//! The front door: one type to set up, start and stop a server, whichever engine is behind it.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::thread;

use socket2::{Domain, Protocol, Socket, Type};

use crate::book::{self, Book, ThreadPool};
use crate::event_loop::{self, EventLoop, Setup};
use crate::limits::Limits;
use crate::metrics::{Metrics, Snapshot};
use crate::service::Service;
use crate::shutdown::Drain;

/// How a server does its waiting.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Engine {
    /// One thread waits for all clients; workers answer.
    #[default]
    EventLoop,
    /// The Book's finished server: each client is waited for by a thread of a pool.
    ThreadPool,
    /// The Book's first server: one thread does everything, for one client at a time.
    SingleThread,
}

/// What a server is to be.
///
/// ```
/// use hello::server::{Config, Engine};
///
/// let config = Config { engine: Engine::ThreadPool, workers: Some(8), ..Config::default() };
/// assert_eq!(config.listen.to_string(), "127.0.0.1:8080");
/// ```
#[derive(Clone, Debug)]
pub struct Config {
    /// Where to listen; port 0 takes a free one.
    pub listen: SocketAddr,
    /// How to wait.
    pub engine: Engine,
    /// How many threads answer. By default the event loop's quick lane has one for each core, and at least two; the
    /// Book's pool has four.
    pub workers: Option<usize>,
    /// Maximum number of threads in the event loop's slow lane.
    pub slow_workers: usize,
    /// What clients may cost.
    pub limits: Limits,
    /// Stop after this many requests have been given to workers (event loop), or this many connections have been
    /// accepted (the other engines, which answer each one once), and answered.
    pub requests: Option<u64>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 8080)),
            engine: Engine::default(),
            workers: None,
            slow_workers: 512,
            limits: Limits::default(),
            requests: None,
        }
    }
}

impl Config {
    /// The number of threads that answer, where it was not said: see [`Config::workers`].
    #[must_use]
    pub fn worker_count(&self) -> usize {
        self.workers.unwrap_or_else(|| match self.engine {
            Engine::EventLoop => thread::available_parallelism().map_or(2, |cores| cores.get().max(2)),
            Engine::ThreadPool => 4,
            Engine::SingleThread => 0,
        })
    }
}

/// A server that is listening, and not yet answering.
///
/// ```
/// use hello::http::{Request, Response, Status};
/// use hello::server::{Config, Server};
/// use hello::shutdown::Drain;
///
/// let service = |_: &Request<'_>| Response::new(Status::OK, "text/plain", "Hello!\n");
/// let config = Config { listen: "127.0.0.1:0".parse().unwrap(), ..Config::default() };
/// let running = Server::bind(config, service)?.spawn()?;
/// println!("Listening on http://{}", running.handle().address());
/// assert_eq!(running.stop()?, Drain::Complete);
/// # Ok::<(), std::io::Error>(())
/// ```
pub struct Server {
    waiting: Waiting,
    handle: Handle,
}

enum Waiting {
    EventLoop(Box<EventLoop>),
    Book(Book),
}

/// Watches a server and stops it, from any thread.
#[derive(Clone)]
pub struct Handle {
    address: SocketAddr,
    stopper: Stopper,
    metrics: Arc<Metrics>,
}

#[derive(Clone)]
enum Stopper {
    EventLoop(event_loop::Stopper),
    Book(book::Stopper),
}

impl Server {
    /// Opens the socket and starts the workers. From here on the kernel lets clients connect.
    ///
    /// # Errors
    ///
    /// - [`io::ErrorKind::InvalidInput`] for a [`Config`] that asks for no workers;
    /// - [`io::ErrorKind::AddrInUse`], [`io::ErrorKind::PermissionDenied`] or others if the address cannot be had;
    /// - others if the system refuses a thread or a poller.
    pub fn bind(config: Config, service: impl Service) -> io::Result<Self> {
        let workers = config.worker_count();
        if (workers == 0 && config.engine != Engine::SingleThread) || config.slow_workers == 0 {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "a server needs at least one worker in each lane"));
        }
        let service: Arc<dyn Service> = Arc::new(service);
        let metrics = Arc::new(Metrics::default());
        let listener = listen(config.listen, config.limits.backlog)?;
        let address = listener.local_addr()?;
        let (waiting, stopper) = if config.engine == Engine::EventLoop {
            listener.set_nonblocking(true)?;
            let setup =
                Setup { limits: config.limits, workers, slow_workers: config.slow_workers, requests: config.requests };
            let event_loop = EventLoop::new(listener, setup, service, Arc::clone(&metrics))?;
            let stopper = Stopper::EventLoop(event_loop.stopper());
            (Waiting::EventLoop(Box::new(event_loop)), stopper)
        } else {
            let pool = match config.engine {
                Engine::ThreadPool => Some(ThreadPool::build(workers).map_err(io::Error::other)?),
                _ => None,
            };
            let book = Book::new(listener, pool, config.requests, config.limits, service, Arc::clone(&metrics));
            let stopper = Stopper::Book(book.stopper()?);
            (Waiting::Book(book), stopper)
        };
        Ok(Self { waiting, handle: Handle { address, stopper, metrics } })
    }

    /// What watches and stops this server.
    #[must_use]
    pub fn handle(&self) -> Handle {
        self.handle.clone()
    }

    /// Serves on this thread until [stopped](Handle::stop), and then until everybody has been answered.
    ///
    /// # Errors
    ///
    /// If the poller fails, which no client can cause.
    pub fn run(self) -> io::Result<Drain> {
        match self.waiting {
            Waiting::EventLoop(event_loop) => event_loop.run(),
            Waiting::Book(book) => Ok(book.run()),
        }
    }

    /// Serves on a thread of its own.
    ///
    /// # Errors
    ///
    /// If the system refuses the thread.
    pub fn spawn(self) -> io::Result<Running> {
        let handle = self.handle();
        let thread = thread::Builder::new().name("poll".to_owned()).spawn(move || self.run())?;
        Ok(Running { handle, thread })
    }
}

impl Handle {
    /// Where the server listens; the real port if port 0 was asked for.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// What has happened so far.
    #[must_use]
    pub fn metrics(&self) -> Snapshot {
        self.metrics.snapshot()
    }

    /// Begins the shutdown and returns at once. Saying it again changes nothing.
    pub fn stop(&self) {
        match &self.stopper {
            Stopper::EventLoop(stopper) => stopper.stop(),
            Stopper::Book(stopper) => stopper.stop(),
        }
    }
}

/// A server that serves on a thread of its own.
pub struct Running {
    handle: Handle,
    thread: thread::JoinHandle<io::Result<Drain>>,
}

impl Running {
    /// What watches and stops this server.
    #[must_use]
    pub fn handle(&self) -> &Handle {
        &self.handle
    }

    /// Stops the server and waits until everybody has been answered.
    ///
    /// # Errors
    ///
    /// If the poller has failed.
    pub fn stop(self) -> io::Result<Drain> {
        self.handle.stop();
        self.join()
    }

    /// Waits until the server ends by itself, or is stopped through its handle.
    ///
    /// # Errors
    ///
    /// If the poller has failed.
    pub fn join(self) -> io::Result<Drain> {
        self.thread.join().unwrap_or_else(|_| Err(io::Error::other("the poll thread panicked")))
    }
}

/// Opens a listening socket. The standard library and mio would choose a backlog of 128, and a crowd that arrives at once
/// would find it full and wait a second to try again.
fn listen(address: SocketAddr, backlog: i32) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    // A restarted server must not wait for the connections of the last one to be forgotten.
    socket.set_reuse_address(true)?;
    // Accepted sockets inherit this. Without it, the second of two small writes waits for an acknowledgement.
    socket.set_tcp_nodelay(true)?;
    socket.bind(&address.into())?;
    socket.listen(backlog)?;
    Ok(socket.into())
}

impl std::fmt::Debug for Server {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Server").field("address", &self.handle.address).finish_non_exhaustive()
    }
}

impl std::fmt::Debug for Handle {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Handle").field("address", &self.address).finish_non_exhaustive()
    }
}

impl std::fmt::Debug for Running {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Running").field("address", &self.handle.address).finish_non_exhaustive()
    }
}
