//! A server as another process, and what the kernel knows about it (`/proc`, so Linux only).

#![allow(dead_code, unreachable_pub)] // Each benchmark uses a part of this.

use std::fs;
use std::io::{self, BufRead, BufReader};
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// A running server, ended when dropped.
pub struct Server {
    child: Child,
    pub address: SocketAddr,
}

impl Server {
    /// Starts `hello` on a free port and waits for its first line.
    pub fn start(arguments: &[&str]) -> io::Result<Self> {
        let mut command = Command::new(env!("CARGO_BIN_EXE_hello"));
        command.args(["--listen", "127.0.0.1:0"]).args(arguments);
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn()?;
        let mut line = String::new();
        if let Some(stdout) = child.stdout.as_mut() {
            BufReader::new(stdout).read_line(&mut line)?;
        }
        let address = line.trim_end().rsplit('/').next().unwrap_or_default();
        let address = address.parse().map_err(|_| io::Error::other(format!("the server said {line:?}")))?;
        Ok(Self { child, address })
    }

    /// Resident memory, in bytes.
    pub fn memory(&self) -> io::Result<u64> {
        self.status_field("VmRSS:").map(|kilobytes| kilobytes * 1024)
    }

    /// Threads it has.
    pub fn threads(&self) -> io::Result<u64> {
        self.status_field("Threads:")
    }

    /// Processor time it has used, user and system.
    pub fn cpu_time(&self) -> io::Result<Duration> {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.child.id()))?;
        // The name in brackets may contain anything; fields are counted from behind it (proc_pid_stat(5)).
        let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
        let ticks: u64 = [11, 12].iter().filter_map(|at| fields.get(*at)?.parse::<u64>().ok()).sum();
        // A tick is a hundredth of a second on every Linux a program can see.
        Ok(Duration::from_millis(ticks * 10))
    }

    /// Times its threads went to sleep or were sent there.
    pub fn context_switches(&self) -> io::Result<u64> {
        let mut sum = 0;
        for thread in fs::read_dir(format!("/proc/{}/task", self.child.id()))? {
            let status = fs::read_to_string(thread?.path().join("status"))?;
            let counts = status.lines().filter(|line| line.contains("ctxt_switches:"));
            sum += counts.filter_map(|line| line.rsplit('\t').next()?.parse::<u64>().ok()).sum::<u64>();
        }
        Ok(sum)
    }

    fn status_field(&self, name: &str) -> io::Result<u64> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id()))?;
        let field = status.lines().find_map(|line| line.strip_prefix(name)?.split_whitespace().next()?.parse().ok());
        field.ok_or_else(|| io::Error::other(format!("the kernel does not say {name}")))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The machine, in a line.
pub fn machine() -> String {
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let model = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = model
        .lines()
        .find_map(|line| line.strip_prefix("model name")?.split_once(':'))
        .map_or("?", |(_, name)| name.trim());
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    format!("{cores} cores of {model}, Linux {}", kernel.trim())
}
