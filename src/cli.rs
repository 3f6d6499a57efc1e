//! The command line: arguments and signals in, one server run, an exit code out.
//!
//! Results go to standard output, messages to standard error. Exit codes: 0 for a clean stop, 1 if something failed at run
//! time, 2 for a wrong command line, 3 if the server stopped before everybody was answered.

use std::io::{self, Write};
use std::net::{SocketAddr, ToSocketAddrs};
use std::path::PathBuf;
use std::process::{self, ExitCode};
use std::thread;
use std::time::Duration;

use clap::builder::FalseyValueParser;
use clap::error::{ContextKind, ContextValue, ErrorKind as UsageError};
use clap::{Args, Parser, Subcommand, ValueEnum};
use log::{Level, LevelFilter, Log, Metadata, Record};
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use hello::limits::Limits;
use hello::pages::Pages;
use hello::server::{Config, Engine, Handle, Server};
use hello::shutdown::Drain;
use hello::site::Site;

const FAILED: u8 = 1;
const USAGE: u8 = 2;
const CUT: u8 = 3;

/// Descriptors kept free of connections where there are enough: for the listener, the poller, standard streams, and
/// pages being read.
const DESCRIPTORS_RESERVED: u64 = 64;

/// Fewer descriptors than this are not worth starting with.
const DESCRIPTORS_MIN: u64 = 32;

/// More threads than this in a lane are a typing error.
const THREADS_MAX: usize = 4096;

/// How long after its drain timeout a server that has not stopped by then is ended.
const DRAIN_OVERTIME: Duration = Duration::from_secs(1);

/// The Rust Book's web server, rebuilt on an event loop.
#[derive(Debug, Parser)]
#[command(name = "hello", version, args_conflicts_with_subcommands = true)]
struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    serve: Serve,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Serve the page; this is also what happens without a subcommand
    Serve(Serve),
}

#[derive(Args, Debug)]
struct Serve {
    /// Where to listen: address and port, or only a port, of 127.0.0.1 then; port 0 takes a free one
    #[arg(long, value_name = "ADDR", env = "HELLO_LISTEN", default_value = "127.0.0.1:8080", value_parser = address)]
    listen: SocketAddr,

    /// How connections are handled
    #[arg(long, value_enum, env = "HELLO_ENGINE", default_value_t)]
    engine: EngineName,

    /// Number of threads that answer [default: one for each core and at least 2; 4 in the thread pool]
    #[arg(long, value_name = "N", env = "HELLO_WORKERS", value_parser = threads)]
    workers: Option<usize>,

    /// Maximum number of threads for slow requests such as /sleep (event loop only)
    #[arg(long, value_name = "N", env = "HELLO_SLOW_WORKERS", default_value = "512", value_parser = threads)]
    slow_workers: usize,

    /// How long /sleep sleeps
    #[arg(long, value_name = "TIME", env = "HELLO_SLEEP", default_value = "5s", value_parser = duration)]
    sleep: Duration,

    /// Maximum number of open connections; more wait until one closes (event loop only) [default: as many as there
    /// are descriptors for]
    #[arg(long, value_name = "N", env = "HELLO_MAX_CONNECTIONS", value_parser = connections)]
    max_connections: Option<usize>,

    /// How long a connection may be open without a byte of a request
    #[arg(long, value_name = "TIME", env = "HELLO_IDLE_TIMEOUT", default_value = "75s", value_parser = duration)]
    idle_timeout: Duration,

    /// How long a request's head may take to arrive; its body may take three times as long
    #[arg(long, value_name = "TIME", env = "HELLO_REQUEST_TIMEOUT", default_value = "10s", value_parser = duration)]
    request_timeout: Duration,

    /// How long a client may take to read its answer without any progress
    #[arg(long, value_name = "TIME", env = "HELLO_WRITE_TIMEOUT", default_value = "30s", value_parser = duration)]
    write_timeout: Duration,

    /// How long a shutdown may take before connections are cut
    #[arg(long, value_name = "TIME", env = "HELLO_DRAIN_TIMEOUT", default_value = "30s", value_parser = duration)]
    drain_timeout: Duration,

    /// Read hello.html and 404.html from this directory, on every request, instead of from the binary
    #[arg(long, value_name = "DIR", env = "HELLO_ASSETS")]
    assets: Option<PathBuf>,

    /// Stop after this many requests; the thread pool and the single thread count connections
    #[arg(long, value_name = "N", env = "HELLO_REQUESTS", value_parser = count)]
    requests: Option<u64>,

    /// Say what each thread does
    #[arg(short, long, env = "HELLO_VERBOSE", value_parser = FalseyValueParser::new())]
    verbose: bool,
}

#[derive(Clone, Copy, Debug, Default, ValueEnum)]
enum EngineName {
    /// One poll thread waits for all clients, and workers answer
    #[default]
    EventLoop,
    /// Each connection has a thread of a pool, as in the Book's finished server
    ThreadPool,
    /// One thread handles one connection at a time, as in the Book's first server
    SingleThread,
}

impl EngineName {
    fn engine(self) -> Engine {
        match self {
            Self::EventLoop => Engine::EventLoop,
            Self::ThreadPool => Engine::ThreadPool,
            Self::SingleThread => Engine::SingleThread,
        }
    }
}

/// Prints a line to standard error. That nobody may be reading it is no reason to stop, as it is for `eprintln`.
macro_rules! say {
    ($($words:tt)*) => {{
        let _ = writeln!(io::stderr(), $($words)*);
    }};
}

/// What went wrong at run time, in one line that says what to do.
struct Failure(String);

/// Runs the program.
pub(crate) fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return explain_usage(&error),
    };
    let Command::Serve(serve) = cli.command.unwrap_or(Command::Serve(cli.serve));
    match serve.run() {
        Ok(Drain::Complete) => ExitCode::SUCCESS,
        Ok(Drain::Cut(connections)) => {
            let connections = counted(connections, "connection");
            say!("hello: time to stop ran out and {connections} had to be cut; --drain-timeout allows more");
            ExitCode::from(CUT)
        }
        Err(Failure(line)) => {
            say!("hello: {line}");
            ExitCode::from(FAILED)
        }
    }
}

impl Serve {
    fn run(&self) -> Result<Drain, Failure> {
        start_log(if self.verbose { LevelFilter::Debug } else { LevelFilter::Warn });
        let connections_max = self.connections_max()?;
        let pages = self.assets.as_deref().map_or(Ok(Pages::Embedded), Pages::from_directory).map_err(|error| {
            Failure(format!("cannot read the pages: {error}; --assets takes a directory with hello.html and 404.html"))
        })?;
        let config = Config {
            listen: self.listen,
            engine: self.engine.engine(),
            workers: self.workers,
            slow_workers: self.slow_workers,
            limits: Limits {
                connections_max,
                idle_timeout: self.idle_timeout,
                head_timeout: self.request_timeout,
                body_timeout: self.request_timeout.saturating_mul(3),
                write_timeout: self.write_timeout,
                drain_timeout: self.drain_timeout,
                ..Limits::default()
            },
            requests: self.requests,
        };
        let summary = describe(&config);
        let server =
            Server::bind(config, Site { pages, sleep: self.sleep }).map_err(|error| self.cannot_listen(&error))?;
        let handle = server.handle();
        let signals =
            Signals::new([SIGINT, SIGTERM]).map_err(|error| Failure(format!("cannot wait for signals: {error}")))?;

        // Whoever started us in a script waits for this line, so it must not linger in a buffer.
        let mut stdout = io::stdout();
        let _ = writeln!(stdout, "Listening on http://{}", handle.address()).and_then(|()| stdout.flush());
        say!("{summary}");
        let over = signals.handle();
        let thread = thread::Builder::new().name("poll".to_owned()).spawn(move || {
            let outcome = server.run();
            over.close();
            outcome
        });
        let thread = thread.map_err(|error| cannot_start_threads(&error))?;
        stop_on_signals(signals, &handle, self.drain_timeout);
        let outcome = thread.join().map_err(|_| Failure("the poll thread panicked; this is a bug".to_owned()))?;
        let drain = outcome.map_err(|error| Failure(format!("the poller failed: {error}")))?;
        say!("Stopped after {}.", handle.metrics());
        Ok(drain)
    }

    /// How many connections there may be, after allowing this process as many descriptors as the system lets it have.
    fn connections_max(&self) -> Result<usize, Failure> {
        // If the limit can be neither raised nor read, the kernel will tell when it is reached.
        let limit = rlimit::increase_nofile_limit(u64::MAX).unwrap_or(u64::MAX);
        if limit < DESCRIPTORS_MIN {
            return Err(Failure(format!(
                "this process may have only {limit} descriptors, and each connection needs one; allow more with \
                 `ulimit -n 1024`"
            )));
        }
        let reserved = DESCRIPTORS_RESERVED.min(limit / 2);
        let possible = usize::try_from(limit - reserved).unwrap_or(usize::MAX);
        match self.max_connections {
            Some(wanted) if wanted > possible => Err(Failure(format!(
                "--max-connections {wanted} needs {} descriptors and this process may have {limit}; ask for {possible} \
                 or fewer, or raise the limit with `ulimit -n {0}`",
                wanted as u64 + DESCRIPTORS_RESERVED
            ))),
            Some(wanted) => Ok(wanted),
            None => Ok(possible),
        }
    }

    fn cannot_listen(&self, error: &io::Error) -> Failure {
        let listen = self.listen;
        Failure(match error.kind() {
            io::ErrorKind::AddrInUse => format!(
                "cannot listen on {listen}: another program already does, perhaps another hello; stop it, or choose \
                 another port with --listen {}:PORT (0 takes a free one)",
                ip_in_url(listen)
            ),
            io::ErrorKind::PermissionDenied => format!(
                "cannot listen on {listen}: not allowed; ports below 1024 are for root, so choose another, such as \
                 --listen {}:8080",
                ip_in_url(listen)
            ),
            io::ErrorKind::AddrNotAvailable => format!(
                "cannot listen on {listen}: this machine does not have that address; 127.0.0.1 is for local clients, \
                 0.0.0.0 for all"
            ),
            // The system has no thread to give at the moment.
            io::ErrorKind::WouldBlock => return cannot_start_threads(error),
            _ => format!("cannot start: {error}"),
        })
    }
}

fn cannot_start_threads(error: &io::Error) -> Failure {
    Failure(format!("cannot start the threads: {error}; --workers asks for fewer"))
}

/// A number of things, such as `1 connection` or `2 connections`.
fn counted(count: u64, thing: &str) -> String {
    format!("{count} {thing}{}", if count == 1 { "" } else { "s" })
}

fn ip_in_url(address: SocketAddr) -> String {
    match address {
        SocketAddr::V4(address) => address.ip().to_string(),
        SocketAddr::V6(address) => format!("[{}]", address.ip()),
    }
}

/// Says who will do the work.
fn describe(config: &Config) -> String {
    let workers = config.worker_count();
    let connections = config.limits.connections_max;
    match config.engine {
        Engine::EventLoop => format!(
            "One poll thread, {workers} quick workers, up to {} slow workers, up to {connections} connections. Ctrl-C stops.",
            config.slow_workers
        ),
        Engine::ThreadPool => {
            format!("The Book's thread pool, {}, one connection each. Ctrl-C stops.", counted(workers as u64, "worker"))
        }
        Engine::SingleThread => "The Book's single thread, one connection at a time. Ctrl-C stops.".to_owned(),
    }
}

/// Lets the first SIGINT or SIGTERM begin a polite shutdown, and the second end it. Returns when the server has ended.
fn stop_on_signals(mut signals: Signals, handle: &Handle, drain_timeout: Duration) {
    let mut received = signals.forever();
    if received.next().is_none() {
        return;
    }
    say!("Stopping: requests under way are finished first. Press Ctrl-C again to stop immediately.");
    handle.stop();
    let watched = handle.clone();
    // The event loop keeps its own deadline; a single thread asleep in a handler cannot.
    thread::spawn(move || {
        thread::sleep(drain_timeout.saturating_add(DRAIN_OVERTIME));
        cut(&watched, "time to stop ran out", "; --drain-timeout allows more");
    });
    if received.next().is_some() {
        cut(handle, "stopped immediately", "");
    }
}

/// Ends the program with whoever is still connected.
fn cut(handle: &Handle, why: &str, hint: &str) {
    let metrics = handle.metrics();
    let open = metrics.connections_accepted.saturating_sub(metrics.connections_closed);
    say!("hello: {why} and {} had to be cut{hint}", counted(open, "connection"));
    process::exit(CUT.into());
}

/// Prints help and version as they are, and every usage error as one line.
fn explain_usage(error: &clap::Error) -> ExitCode {
    match error.kind() {
        UsageError::DisplayHelp | UsageError::DisplayVersion => {
            let _ = error.print();
            ExitCode::SUCCESS
        }
        _ => {
            let text = error.render().to_string();
            let said: Vec<&str> = text
                .lines()
                .map(str::trim)
                .take_while(|line| !line.starts_with("Usage:"))
                .filter(|line| !line.is_empty() && !line.starts_with("For more"))
                .collect();
            let said = said.join("; ");
            let said = said.trim_start_matches("error: ");
            let origin = variable_at_fault(error).map(|name| format!(" (from {name})")).unwrap_or_default();
            say!("hello: {said}{origin}; `hello --help` explains");
            ExitCode::from(USAGE)
        }
    }
}

/// The environment variable that a wrong value came from, if its flag is not on the command line.
fn variable_at_fault(error: &clap::Error) -> Option<String> {
    let Some(ContextValue::String(argument)) = error.get(ContextKind::InvalidArg) else { return None };
    let flag = argument.split_whitespace().next()?;
    let is_flag = |argument: String| argument.split('=').next() == Some(flag);
    if error.kind() == UsageError::UnknownArgument || std::env::args().any(is_flag) {
        return None;
    }
    let variable = format!("HELLO_{}", flag.trim_start_matches('-').replace('-', "_").to_uppercase());
    std::env::var_os(&variable).map(|_| variable)
}

/// A number of threads, connections or requests.
fn count(text: &str) -> Result<u64, String> {
    match text.parse() {
        Ok(0) | Err(_) => Err("it takes a whole number, 1 or more".to_owned()),
        Ok(count) => Ok(count),
    }
}

/// A number of threads, which nobody wants many of.
fn threads(text: &str) -> Result<usize, String> {
    match usize::try_from(count(text)?) {
        Ok(threads) if threads <= THREADS_MAX => Ok(threads),
        _ => Err(format!("it takes {THREADS_MAX} at most")),
    }
}

fn connections(text: &str) -> Result<usize, String> {
    count(text).map(|count| usize::try_from(count).unwrap_or(usize::MAX))
}

fn duration(text: &str) -> Result<Duration, String> {
    humantime::parse_duration(text).map_err(|_| "a time is a number and a unit, such as 250ms, 5s or 2min".to_owned())
}

fn address(text: &str) -> Result<SocketAddr, String> {
    let with_ip = if text.parse::<u16>().is_ok() { format!("127.0.0.1:{text}") } else { text.to_owned() };
    let addresses = with_ip.to_socket_addrs();
    addresses
        .ok()
        .and_then(|mut addresses| addresses.next())
        .ok_or_else(|| "an address is a host and a port, such as 127.0.0.1:8080, [::1]:8080 or localhost:0".to_owned())
}

/// Prints what the library logs, one line each.
struct Stderr;

impl Log for Stderr {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        // Other crates talk about things that nobody who runs this has asked about.
        metadata.target().starts_with("hello")
    }

    fn log(&self, record: &Record<'_>) {
        if self.enabled(record.metadata()) {
            let prefix = if record.level() <= Level::Warn { "hello: " } else { "" };
            say!("{prefix}{}", record.args());
        }
    }

    fn flush(&self) {}
}

fn start_log(level: LevelFilter) {
    if log::set_logger(&Stderr).is_ok() {
        log::set_max_level(level);
    }
}
