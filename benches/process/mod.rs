//! What the kernel knows about a process and the machine (`/proc`, so Linux only).

#![allow(dead_code, unreachable_pub)] // Each benchmark uses a part of this.

use std::fs;
use std::io;
use std::time::Duration;

/// What a process has used so far, all its threads together.
#[derive(Clone, Copy, Debug, Default)]
pub struct Used {
    /// Processor time, user and system.
    pub cpu: Duration,
    /// Times a thread went to sleep or was sent there.
    pub switches: u64,
}

/// Asks what a process has used. Threads that have ended are no longer counted.
pub fn used(process: u32) -> io::Result<Used> {
    let mut used = Used::default();
    for thread in fs::read_dir(format!("/proc/{process}/task"))? {
        let path = thread?.path();
        // One that has gone since the listing is not missed.
        let Ok(schedstat) = fs::read_to_string(path.join("schedstat")) else { continue };
        let nanoseconds = schedstat.split_whitespace().next().and_then(|text| text.parse().ok()).unwrap_or(0);
        used.cpu += Duration::from_nanos(nanoseconds);
        let status = fs::read_to_string(path.join("status")).unwrap_or_default();
        let counts = status.lines().filter(|line| line.contains("ctxt_switches:"));
        used.switches += counts.filter_map(|line| line.rsplit('\t').next()?.parse::<u64>().ok()).sum::<u64>();
    }
    Ok(used)
}

/// Resident memory of a process, in bytes.
pub fn memory(process: u32) -> io::Result<u64> {
    status_field(process, "VmRSS:").map(|kilobytes| kilobytes * 1024)
}

/// Threads of a process.
pub fn threads(process: u32) -> io::Result<u64> {
    status_field(process, "Threads:")
}

fn status_field(process: u32, name: &str) -> io::Result<u64> {
    let status = fs::read_to_string(format!("/proc/{process}/status"))?;
    let field = status.lines().find_map(|line| line.strip_prefix(name)?.split_whitespace().next()?.parse().ok());
    field.ok_or_else(|| io::Error::other(format!("the kernel does not say {name}")))
}

/// The machine, in a line.
pub fn machine() -> String {
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let cpuinfo = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = cpuinfo.lines().find_map(|line| line.strip_prefix("model name")?.split_once(':'));
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    format!("{cores} cores of {}, Linux {}", model.map_or("?", |(_, name)| name.trim()), kernel.trim())
}
