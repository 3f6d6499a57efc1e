//! The program as people and scripts see it: its first line, its errors, its signals, its exit codes.

mod common;

use std::io::{BufRead, BufReader, Read};
use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};

use common::{Client, GET};

const ENGINES: [&str; 3] = ["event-loop", "thread-pool", "single-thread"];

fn hello(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_hello"));
    command.args(arguments).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("HELLO_")) {
        command.env_remove(name);
    }
    command
}

/// A running program, killed if the test fails.
struct Program {
    child: Child,
    address: SocketAddr,
}

impl Program {
    fn start(arguments: &[&str]) -> Self {
        Self::spawn(hello(&[&["--listen", "127.0.0.1:0"], arguments].concat()))
    }

    fn spawn(mut command: Command) -> Self {
        let mut child = command.spawn().expect("the program starts");
        let stdout = child.stdout.as_mut().expect("it is piped");
        let mut line = String::new();
        // A byte at a time, so that nothing behind the line is lost in a buffer.
        BufReader::with_capacity(1, stdout).read_line(&mut line).expect("it is text");
        let address = line.trim_end().strip_prefix("Listening on http://").unwrap_or_else(|| panic!("{line:?}"));
        Self { address: address.parse().expect("an address"), child }
    }

    fn connect(&self) -> Client {
        Client::connect(self.address)
    }

    fn signal(&self, name: &str) {
        // The shell's own kill, since the program of that name is not on every machine.
        let status = Command::new("sh").args(["-c", &format!("kill {name} {}", self.child.id())]).status();
        assert!(status.expect("there is a shell").success());
    }

    /// Waits for the end; the exit code and everything said.
    fn end(mut self) -> (Option<i32>, String) {
        let status = self.child.wait().expect("it can be waited for");
        let mut said = String::new();
        self.child.stderr.take().expect("it is piped").read_to_string(&mut said).expect("it is text");
        (status.code(), said)
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.child.kill();
    }
}

/// Runs a program that is expected to end by itself.
fn run(arguments: &[&str]) -> (Option<i32>, String, String) {
    let Output { status, stdout, stderr } = hello(arguments).output().expect("the program starts");
    let text = |bytes| String::from_utf8(bytes).expect("it is text");
    (status.code(), text(stdout), text(stderr))
}

/// Runs a program that is expected to explain itself in one line.
#[track_caller]
fn complaint(arguments: &[&str], code: i32) -> String {
    let (exit, stdout, stderr) = run(arguments);
    assert_eq!((exit, stdout.as_str()), (Some(code), ""), "{stderr}");
    assert!(stderr.starts_with("hello: ") && stderr.lines().count() == 1, "{stderr}");
    stderr
}

#[test]
fn it_says_where_it_listens_and_answers_there() {
    for engine in ENGINES {
        let program = Program::start(&["--engine", engine]);
        let mut client = program.connect();
        client.send(GET);
        assert_eq!(client.reply().status, 200, "{engine}");
        drop(client);
        program.signal("-TERM");
        let (code, said) = program.end();
        assert_eq!(code, Some(0), "{engine}: {said}");
        assert!(said.contains("Stopped after 1 response on 1 connection."), "{engine}: {said}");
    }
}

#[test]
fn the_subcommand_may_be_named() {
    let program = Program::spawn(hello(&["serve", "--listen", "127.0.0.1:0"]));
    program.signal("-INT");
    assert_eq!(program.end().0, Some(0));
}

#[test]
fn help_and_version_are_results() {
    let (code, help, stderr) = run(&["--help"]);
    assert_eq!((code, stderr.as_str()), (Some(0), ""));
    for flag in
        ["--listen", "--engine", "--workers", "--slow-workers", "--sleep", "--max-connections", "--idle-timeout"]
    {
        assert!(help.contains(flag), "{flag}");
        let variable = format!("HELLO_{}", flag.trim_start_matches('-').replace('-', "_").to_uppercase());
        assert!(help.contains(&variable), "{variable}");
    }
    for flag in ["--request-timeout", "--write-timeout", "--drain-timeout", "--assets", "--requests", "--verbose"] {
        assert!(help.contains(flag), "{flag}");
    }
    assert_eq!(run(&["--version"]), (Some(0), format!("hello {}\n", env!("CARGO_PKG_VERSION")), String::new()));
}

#[test]
fn a_wrong_command_line_is_explained_in_a_line() {
    for (arguments, hint) in [
        (&["--wokers", "3"][..], "--workers"),
        (&["--workers", "0"], "--workers"),
        (&["--workers", "many"], "--workers"),
        (&["--slow-workers", "0"], "--slow-workers"),
        (&["--max-connections", "0"], "--max-connections"),
        (&["--requests", "0"], "a whole number, 1 or more"),
        (&["--workers", "100000"], "4096 at most"),
        (&["--sleep", "soon"], "such as 250ms, 5s or 2min"),
        (&["--idle-timeout", "5"], "such as 250ms, 5s or 2min"),
        (&["--listen", "nowhere"], "such as 127.0.0.1:8080"),
        (&["--listen", "127.0.0.1:99999"], "such as 127.0.0.1:8080"),
        (&["--engine", "steam"], "thread-pool"),
        (&["serv"], "serve"),
    ] {
        let said = complaint(arguments, 2);
        assert!(said.contains(hint) && said.contains("hello --help"), "{arguments:?}: {said}");
    }
}

#[test]
fn what_fails_at_run_time_is_explained_in_a_line() {
    let holder = TcpListener::bind("127.0.0.1:0").expect("a free port can be had");
    let taken = holder.local_addr().expect("it is bound").to_string();
    for engine in ENGINES {
        let said = complaint(&["--listen", &taken, "--engine", engine], 1);
        assert!(said.contains(&taken) && said.contains("--listen"), "{said}");
    }
    let said = complaint(&["--listen", "192.0.2.1:8080"], 1);
    assert!(said.contains("does not have that address"), "{said}");
    let said = complaint(&["--listen", "127.0.0.1:0", "--assets", "no/such/directory"], 1);
    assert!(said.contains("no/such/directory/hello.html") && said.contains("--assets"), "{said}");
    let mut few = Command::new("sh");
    few.args(["-c", "ulimit -n 20; exec \"$0\"", env!("CARGO_BIN_EXE_hello")]);
    let said = few.output().expect("there is a shell").stderr;
    assert!(String::from_utf8_lossy(&said).contains("ulimit -n 1024"), "{}", said.escape_ascii());
    let said = complaint(&["--listen", "127.0.0.1:0", "--max-connections", "4000000000"], 1);
    assert!(said.contains("ulimit -n 4000000064"), "{said}");
}

#[test]
fn variables_stand_in_for_flags_and_flags_win() {
    let mut command = hello(&["--requests", "1"]);
    command.env("HELLO_LISTEN", "127.0.0.1:0").env("HELLO_ENGINE", "thread-pool").env("HELLO_REQUESTS", "7");
    command.env("HELLO_VERBOSE", "0");
    let program = Program::spawn(command);
    let mut client = program.connect();
    client.send(GET);
    assert_eq!(client.reply().status, 200);
    let (code, said) = program.end();
    assert_eq!(code, Some(0));
    assert!(said.contains("thread pool"), "{said}");
}

#[test]
fn pages_can_be_changed_while_it_runs() {
    let directory = Path::new(env!("CARGO_TARGET_TMPDIR")).join("pages");
    std::fs::create_dir_all(&directory).expect("it can be made");
    let write = |name: &str, text: &str| std::fs::write(directory.join(name), text).expect("it can be written");
    write("hello.html", "first");
    write("404.html", "none");
    let program = Program::start(&["--assets", directory.to_str().expect("it is text")]);
    let mut client = program.connect();
    client.send(GET);
    assert_eq!(client.reply().text(), "first");
    write("hello.html", "second");
    client.send(GET);
    assert_eq!(client.reply().text(), "second");
    client.send(b"GET /x HTTP/1.1\r\nHost: test\r\n\r\n");
    assert_eq!(client.reply().text(), "none");
    std::fs::remove_file(directory.join("hello.html")).expect("it can be removed");
    client.send(GET);
    assert_eq!(client.reply().status, 500);
}

#[test]
fn sleepers_are_answered_after_a_signal_and_newcomers_are_not() {
    for engine in ENGINES {
        let program = Program::start(&["--engine", engine, "--sleep", "500ms"]);
        let count = if engine == "event-loop" { 50 } else { 2 };
        let mut sleepers: Vec<_> = (0..count).map(|_| program.connect()).collect();
        for sleeper in &mut sleepers {
            sleeper.send(b"GET /sleep HTTP/1.1\r\nHost: test\r\n\r\n");
        }
        program.signal("-TERM");
        for mut sleeper in sleepers {
            assert_eq!(sleeper.reply().status, 200, "{engine}");
        }
        let address = program.address;
        let (code, said) = program.end();
        assert_eq!(code, Some(0), "{engine}: {said}");
        assert!(std::net::TcpStream::connect(address).is_err());
    }
}

#[test]
fn a_second_signal_ends_it_at_once() {
    for engine in ENGINES {
        let program = Program::start(&["--engine", engine, "--sleep", "1h"]);
        let mut sleeper = program.connect();
        sleeper.send(b"GET /sleep HTTP/1.1\r\nHost: test\r\n\r\n");
        program.signal("-INT");
        program.signal("-TERM");
        let (code, said) = program.end();
        assert_eq!(code, Some(3), "{engine}: {said}");
        assert!(said.contains("stopped immediately"), "{said}");
        sleeper.expect_gone();
    }
}

#[test]
fn a_drain_that_takes_too_long_is_cut() {
    for engine in ENGINES {
        let program = Program::start(&["--engine", engine, "--sleep", "1h", "--drain-timeout", "100ms"]);
        let mut sleeper = program.connect();
        sleeper.send(b"GET /sleep HTTP/1.1\r\nHost: test\r\n\r\n");
        if engine == "event-loop" {
            // Answered by the poll thread's own count, so the sleeper is in.
            let mut other = program.connect();
            other.send(GET);
            assert_eq!(other.reply().status, 200);
        }
        program.signal("-TERM");
        let (code, said) = program.end();
        assert_eq!(code, Some(3), "{engine}: {said}");
        assert!(said.contains("--drain-timeout"), "{engine}: {said}");
    }
}

#[test]
fn it_stops_after_as_many_requests_as_it_was_told() {
    for engine in ENGINES {
        let program = Program::start(&["--engine", engine, "--requests", "2"]);
        for _ in 0..2 {
            let mut client = program.connect();
            client.send(GET);
            assert_eq!(client.reply().status, 200);
        }
        assert_eq!(program.end().0, Some(0), "{engine}");
    }
}

#[test]
fn verbose_tells_which_worker_does_what() {
    for (engine, words) in [("event-loop", "Worker quick-"), ("thread-pool", "got a job; executing.")] {
        let program = Program::start(&["--engine", engine, "--requests", "1", "--verbose"]);
        let mut client = program.connect();
        client.send(GET);
        assert_eq!(client.reply().status, 200);
        let (_, said) = program.end();
        assert!(said.contains(words) && said.contains("GET /"), "{engine}: {said}");
        assert_eq!(said.contains("Shutting down worker 3"), engine == "thread-pool", "{said}");
    }
}

#[test]
fn a_wrong_variable_is_named() {
    let output = hello(&[]).env("HELLO_SLEEP", "soon").output().expect("the program starts");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.code() == Some(2) && said.contains("HELLO_SLEEP"), "{said}");
    let output = hello(&["--sleep", "soon"]).env("HELLO_SLEEP", "1s").output().expect("the program starts");
    assert!(!String::from_utf8_lossy(&output.stderr).contains("HELLO_SLEEP"));
}

#[test]
fn times_that_no_clock_can_show_are_for_ever() {
    let ages = "300000000000years";
    let flags = ["--idle-timeout", "--request-timeout", "--write-timeout", "--drain-timeout"];
    let arguments: Vec<&str> = flags.iter().flat_map(|flag| [*flag, ages]).collect();
    for engine in ENGINES {
        let program = Program::start(&[&["--engine", engine], arguments.as_slice()].concat());
        let mut client = program.connect();
        client.send(GET);
        assert_eq!(client.reply().status, 200, "{engine}");
        program.signal("-TERM");
        assert_eq!(program.end().0, Some(0), "{engine}");
    }
}

/// Whoever starts it in a pipe and leaves does not take it along.
#[test]
fn nobody_needs_to_read_what_it_says() {
    let mut program = Program::start(&["--verbose"]);
    drop(program.child.stdout.take());
    drop(program.child.stderr.take());
    let mut client = program.connect();
    client.send(GET);
    assert_eq!(client.reply().status, 200);
    program.signal("-TERM");
    assert_eq!(program.child.wait().expect("it can be waited for").code(), Some(0));
}
