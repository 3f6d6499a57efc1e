//! Our server and its peers under the same load: `cargo bench --bench wrk`.
//!
//! Each subject is started anew on a free port, warmed up, loaded, and ended, in rounds that take all of them in turn, so
//! that a machine that gets slower gets slower for everybody. Two clients take turns: wrk, whose figures everybody can
//! compare, and a raw one that costs less than a server does (see `wrk/client.rs`). *Pinned* means that the server has
//! processor 0 and the client processor 1; *free* means that the kernel decides.
//!
//! Ratios are of one round each, and their median is shown. Latencies are closed-loop: a client that waits for an answer
//! sends nothing meanwhile. Both tables and raw rows are written to `target/wrk/`.
//!
//! Options, after `--`: `--rounds N` (5), `--seconds S` (1), `--only NAME,NAME` (servers), `--scenario NAME,NAME`,
//! `--setting pinned|free`, `--client raw|wrk`.

#![allow(clippy::cast_precision_loss, clippy::cast_possible_truncation, clippy::cast_sign_loss)] // Figures are figures.
#![allow(unreachable_pub)] // The modules are this program's own.

#[path = "wrk/client.rs"]
mod client;
#[path = "process/mod.rs"]
mod process;
#[path = "wrk/report.rs"]
mod report;
#[path = "wrk/subjects.rs"]
mod subjects;

use std::fs;
use std::io;
use std::path::Path;
use std::process::{Command, ExitCode, Stdio};
use std::time::Duration;

use client::{Load, Seen};
use report::Row;
use subjects::{Running, on_processor};

/// A load, by name.
struct Scenario {
    name: &'static str,
    connections: usize,
    pipeline: usize,
    close: bool,
}

const SCENARIOS: [Scenario; 5] = [
    Scenario { name: "c=1", connections: 1, pipeline: 1, close: false },
    Scenario { name: "c=64", connections: 64, pipeline: 1, close: false },
    Scenario { name: "c=512", connections: 512, pipeline: 1, close: false },
    Scenario { name: "c=64 pipelined x16", connections: 64, pipeline: 16, close: false },
    Scenario { name: "c=64 one request each", connections: 64, pipeline: 1, close: true },
];

/// Where server and client run.
const SETTINGS: [(&str, Option<usize>, Option<usize>); 2] = [("pinned", Some(0), Some(1)), ("free", None, None)];

/// How long a server is loaded before it is measured.
const WARM_UP: Duration = Duration::from_millis(200);

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if arguments.first().is_some_and(|argument| argument == "client") {
        return client::main(&arguments[1..]);
    }
    match measure(&Options::read(&arguments)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

struct Options {
    rounds: usize,
    duration: Duration,
    only: Option<String>,
    scenario: Option<String>,
    setting: Option<String>,
    client: Option<String>,
}

impl Options {
    fn read(arguments: &[String]) -> Self {
        let value = |name: &str| {
            let at = arguments.iter().position(|argument| argument == name)?;
            arguments.get(at + 1).cloned()
        };
        Self {
            rounds: value("--rounds").and_then(|text| text.parse().ok()).unwrap_or(5),
            duration: Duration::from_secs_f64(value("--seconds").and_then(|text| text.parse().ok()).unwrap_or(1.0)),
            only: value("--only"),
            scenario: value("--scenario"),
            setting: value("--setting"),
            client: value("--client"),
        }
    }
}

/// Whether a name is among those chosen, or all are.
fn chosen(choice: Option<&String>, name: &str) -> bool {
    choice.is_none_or(|names| names.split(',').any(|candidate| candidate == name))
}

fn measure(options: &Options) -> io::Result<()> {
    let mut clients = vec!["raw"];
    if Command::new("wrk").arg("-v").stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok() {
        clients.push("wrk");
    } else {
        eprintln!("wrk is not installed (apt-get install wrk); only the raw client is used.");
    }
    clients.retain(|name| chosen(options.client.as_ref(), name));
    let subjects = subjects::chosen(|name| chosen(options.only.as_ref(), name))?;

    println!("{}", process::machine());
    for subject in &subjects {
        println!("- {}: {}", subject.name, subject.what);
    }
    let mut rows = Vec::new();
    for (setting, server_on, client_on) in SETTINGS {
        for scenario in SCENARIOS {
            if !chosen(options.setting.as_ref(), setting) || !chosen(options.scenario.as_ref(), scenario.name) {
                continue;
            }
            eprintln!("{}, {setting}", scenario.name);
            let before = rows.len();
            for round in 0..options.rounds {
                for subject in &subjects {
                    // The plain server answers one request and closes; only that can be compared.
                    if subject.name == "thread-pool" && scenario.pipeline > 1 {
                        continue;
                    }
                    for client in &clients {
                        let server = subject.start(server_on)?;
                        let close = scenario.close || subject.name == "thread-pool";
                        let load = Load {
                            connections: scenario.connections,
                            pipeline: scenario.pipeline,
                            close,
                            rate: None,
                            duration: options.duration,
                        };
                        run_client(client, &server, Load { duration: WARM_UP, ..load }, client_on)?;
                        let before = server.used()?;
                        let seen = run_client(client, &server, load, client_on)?;
                        let after = server.used()?;
                        let requests = seen.requests.max(1) as f64;
                        rows.push(Row {
                            setting,
                            scenario: scenario.name,
                            client,
                            subject: subject.name,
                            round,
                            rate: seen.requests as f64 / seen.seconds,
                            errors: seen.errors,
                            p50: seen.p50,
                            p99: seen.p99,
                            cpu: after.cpu.saturating_sub(before.cpu).as_secs_f64() * 1e6 / requests,
                            switches: after.switches.saturating_sub(before.switches) as f64 / requests,
                        });
                    }
                }
            }
            println!("\n{}", report::markdown(&rows[before..]));
        }
    }
    write_files(&rows, options)
}

fn run_client(client: &str, server: &Running, load: Load, processor: Option<usize>) -> io::Result<Seen> {
    if client == "wrk" { run_wrk(server, load, processor) } else { run_raw(server, load, processor) }
}

fn run_raw(server: &Running, load: Load, processor: Option<usize>) -> io::Result<Seen> {
    let output = on_processor(processor, &std::env::current_exe()?)
        .args(["client", &server.address.to_string(), &load.connections.to_string(), &load.pipeline.to_string()])
        .args([if load.close { "close" } else { "keep" }, &load.duration.as_secs_f64().to_string()])
        .stderr(Stdio::inherit())
        .output()?;
    let line = String::from_utf8_lossy(&output.stdout);
    client::parse(&line).ok_or_else(|| io::Error::other("the raw client failed"))
}

/// Runs wrk. Its duration is in whole seconds.
fn run_wrk(server: &Running, load: Load, processor: Option<usize>) -> io::Result<Seen> {
    let script = Path::new(env!("CARGO_TARGET_TMPDIR")).join("pipeline.lua");
    fs::write(&script, include_str!("wrk/pipeline.lua"))?;
    let mut command = on_processor(processor, Path::new("wrk"));
    command.args(["-t1", "--latency", "-c", &load.connections.to_string()]);
    command.args(["-d", &load.duration.as_secs_f64().ceil().to_string()]);
    if load.close {
        command.args(["-H", "Connection: close"]);
    }
    command.args(["-s", &script.display().to_string(), &format!("http://{}/", server.address)]);
    let output = command.args(["--", &load.pipeline.to_string()]).output()?;
    let text = String::from_utf8_lossy(&output.stdout);
    // The script prints one line of figures, whose units do not change with their size.
    let line = text.lines().find_map(|line| line.strip_prefix("figures ")).unwrap_or_default();
    client::parse(line).ok_or_else(|| io::Error::other(format!("wrk said something else:\n{text}")))
}

fn write_files(rows: &[Row], options: &Options) -> io::Result<()> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/wrk");
    fs::create_dir_all(&directory)?;
    let csv: Vec<String> = std::iter::once(Row::CSV_HEAD.to_owned()).chain(rows.iter().map(Row::csv)).collect();
    fs::write(directory.join("rows.csv"), csv.join("\n") + "\n")?;
    let head = format!("{}; {} rounds of {} s\n\n", process::machine(), options.rounds, options.duration.as_secs_f64());
    fs::write(directory.join("tables.md"), head + &report::markdown(rows))?;
    println!("Written: {0}/tables.md and {0}/rows.csv", directory.display());
    Ok(())
}
