//! The servers that are measured, each a process of its own on a free port.

use std::fs;
use std::io;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use crate::process::{self, Used};

/// A server that can be measured.
#[derive(Clone, Debug)]
pub struct Subject {
    pub name: &'static str,
    pub what: &'static str,
    program: PathBuf,
    arguments: fn(SocketAddr) -> Vec<String>,
}

/// The chosen subjects whose programs can be had: ours, and those of `benches/peers`, which are built here if need be.
pub fn chosen(is_chosen: impl Fn(&str) -> bool) -> io::Result<Vec<Subject>> {
    let hello = PathBuf::from(env!("CARGO_BIN_EXE_hello"));
    let mut subjects = vec![
        Subject {
            name: "hello",
            what: "this server: every response by way of a worker",
            program: hello.clone(),
            arguments: |address| vec!["--listen".to_owned(), address.to_string()],
        },
        Subject {
            name: "thread-pool",
            what: "the Book's server, 4 threads",
            program: hello,
            arguments: |address| {
                ["--engine", "thread-pool", "--listen", &address.to_string()].map(str::to_owned).to_vec()
            },
        },
    ];
    subjects.retain(|subject| is_chosen(subject.name));
    let peers: Vec<_> = PEERS.into_iter().filter(|(name, _)| is_chosen(name)).collect();
    if !peers.is_empty() {
        subjects.extend(build(&peers)?);
    }
    if is_chosen("nginx") {
        if Command::new("nginx").arg("-v").stderr(Stdio::null()).status().is_ok_and(|status| status.success()) {
            subjects.push(Subject {
                name: "nginx",
                what: "nginx, one worker, `return 200` with the same page",
                program: "nginx".into(),
                arguments: nginx_arguments,
            });
        } else {
            eprintln!("nginx is not installed (apt-get install nginx-light) and will be missing from the table.");
        }
    }
    Ok(subjects)
}

/// The programs of `benches/peers`.
const PEERS: [(&str, &str); 6] = [
    ("floor", "a bare loop, a canned answer, no parsing"),
    ("inline", "our parser and response in a loop without workers"),
    ("hyper", "hyper 1.x, current-thread runtime"),
    ("axum", "axum, current-thread runtime"),
    ("actix", "actix-web, one worker"),
    ("may", "may_minihttp, one worker"),
];

/// Builds the peers, which takes a minute the first time.
fn build(names: &[(&'static str, &'static str)]) -> io::Result<Vec<Subject>> {
    let peers = Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/peers");
    let built = Command::new(env!("CARGO"))
        .args(["build", "--release", "--locked", "--quiet", "--manifest-path"])
        .arg(peers.join("Cargo.toml"))
        .env_remove("CARGO_TARGET_DIR")
        .status()?;
    if !built.success() {
        return Err(io::Error::other("the peers could not be built; `cargo build` in benches/peers says why"));
    }
    let subject = |&(name, what): &(&'static str, &'static str)| Subject {
        name,
        what,
        program: peers.join("target/release").join(name),
        arguments: |address| vec![address.to_string()],
    };
    Ok(names.iter().map(subject).collect())
}

/// Writes nginx's configuration and says how to start it.
fn nginx_arguments(address: SocketAddr) -> Vec<String> {
    let directory = std::env::temp_dir().join(format!("hello-bench-nginx-{}", address.port()));
    let page = include_str!("../../assets/hello.html").replace('\n', "\\n").replace('"', "\\\"");
    let configuration = format!(
        "daemon off; master_process off; pid {0}/pid; error_log stderr crit;\n\
         events {{ worker_connections 4096; multi_accept on; }}\n\
         http {{ access_log off; keepalive_requests 1000000000; tcp_nodelay on;\n\
         client_body_temp_path {0}/b; proxy_temp_path {0}/p; fastcgi_temp_path {0}/f; uwsgi_temp_path {0}/u; scgi_temp_path {0}/s;\n\
         server {{ listen {address} backlog=4096; location / {{ default_type \"text/html; charset=utf-8\"; return 200 \"{page}\"; }} }} }}\n",
        directory.display()
    );
    let _ = fs::create_dir_all(&directory);
    let file = directory.join("nginx.conf");
    let _ = fs::write(&file, configuration);
    ["-p", &directory.display().to_string(), "-c", &file.display().to_string()].map(str::to_owned).to_vec()
}

/// A subject that is running; ended when dropped.
pub struct Running {
    child: Child,
    pub address: SocketAddr,
}

impl Subject {
    /// Starts the server, on a processor of its own if one is named, and waits until it accepts.
    pub fn start(&self, processor: Option<usize>) -> io::Result<Running> {
        // Whoever is told this port binds it a moment after we have let it go.
        let address = TcpListener::bind("127.0.0.1:0")?.local_addr()?;
        let mut command = on_processor(processor, &self.program);
        command.args((self.arguments)(address)).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let running = Running { child: command.spawn()?, address };
        let started = Instant::now();
        while TcpStream::connect(address).is_err() {
            if started.elapsed() > Duration::from_secs(5) {
                return Err(io::Error::other(format!("{} does not accept connections", self.name)));
            }
            thread::sleep(Duration::from_millis(5));
        }
        Ok(running)
    }
}

/// A command that runs on one processor only, if one is named.
pub fn on_processor(processor: Option<usize>, program: &Path) -> Command {
    match processor {
        Some(processor) => {
            let mut command = Command::new("taskset");
            command.args(["-c", &processor.to_string()]).arg(program);
            command
        }
        None => Command::new(program),
    }
}

impl Running {
    /// What the server has used so far.
    pub fn used(&self) -> io::Result<Used> {
        process::used(self.child.id())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = fs::remove_dir_all(std::env::temp_dir().join(format!("hello-bench-nginx-{}", self.address.port())));
    }
}
