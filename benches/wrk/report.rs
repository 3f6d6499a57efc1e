//! Rows to medians, medians to tables.

use std::collections::BTreeMap;
use std::fmt::Write;

/// One measurement.
#[derive(Clone, Debug)]
pub struct Row {
    pub setting: &'static str,
    pub scenario: &'static str,
    pub client: &'static str,
    pub subject: &'static str,
    pub round: usize,
    /// Requests a second.
    pub rate: f64,
    pub errors: u64,
    /// Latency in microseconds.
    pub p50: f64,
    pub p99: f64,
    /// The server's processor time for each request, in microseconds.
    pub cpu: f64,
    /// The server's context switches for each request.
    pub switches: f64,
}

impl Row {
    pub const CSV_HEAD: &str = "setting,scenario,client,subject,round,requests_per_second,errors,p50_us,p99_us,\
                                server_cpu_us_per_request,server_context_switches_per_request";

    pub fn csv(&self) -> String {
        format!(
            "{},{},{},{},{},{:.0},{},{:.1},{:.1},{:.3},{:.4}",
            self.setting,
            self.scenario,
            self.client,
            self.subject,
            self.round,
            self.rate,
            self.errors,
            self.p50,
            self.p99,
            self.cpu,
            self.switches
        )
    }
}

/// Median, smallest and largest of some figures.
#[derive(Clone, Copy, Debug)]
pub struct Spread {
    pub median: f64,
    pub min: f64,
    pub max: f64,
}

pub fn spread(figures: impl Iterator<Item = f64>) -> Spread {
    let mut figures: Vec<f64> = figures.collect();
    figures.sort_by(f64::total_cmp);
    let at = |index: usize| figures.get(index).copied().unwrap_or(f64::NAN);
    Spread { median: at(figures.len() / 2), min: at(0), max: at(figures.len().saturating_sub(1)) }
}

/// A table for each setting, scenario and client, in the order in which they were measured.
pub fn markdown(rows: &[Row]) -> String {
    let mut text = String::new();
    let mut groups: Vec<(&str, &str, &str)> = Vec::new();
    for row in rows {
        let group = (row.setting, row.scenario, row.client);
        if !groups.contains(&group) {
            groups.push(group);
        }
    }
    for (setting, scenario, client) in groups {
        let of_group = |row: &&Row| (row.setting, row.scenario, row.client) == (setting, scenario, client);
        let mut subjects: Vec<&str> = Vec::new();
        for row in rows.iter().filter(of_group) {
            if !subjects.contains(&row.subject) {
                subjects.push(row.subject);
            }
        }
        let _ = writeln!(text, "### {scenario}, {setting}, {client}\n");
        text.push_str("| server | requests/s | smallest..largest | hello is | p50 us | p99 us | server CPU us | switches | errors |\n");
        text.push_str("|---|---:|---:|---:|---:|---:|---:|---:|---:|\n");
        // The ratio of each round is what the machine's drift leaves alone.
        let ours: BTreeMap<usize, f64> = rows
            .iter()
            .filter(of_group)
            .filter(|row| row.subject == "hello")
            .map(|row| (row.round, row.rate))
            .collect();
        for subject in subjects {
            let mine = || rows.iter().filter(of_group).filter(|row| row.subject == subject);
            let rate = spread(mine().map(|row| row.rate));
            let ratio = spread(mine().filter_map(|row| Some(ours.get(&row.round)? / row.rate)));
            let median = |figure: fn(&Row) -> f64| spread(mine().map(figure)).median;
            let _ = writeln!(
                text,
                "| {subject} | {:.0} | {:.0}..{:.0} | {:.2}x | {:.0} | {:.0} | {:.2} | {:.3} | {} |",
                rate.median,
                rate.min,
                rate.max,
                ratio.median,
                median(|row| row.p50),
                median(|row| row.p99),
                median(|row| row.cpu),
                median(|row| row.switches),
                mine().map(|row| row.errors).sum::<u64>()
            );
        }
        text.push('\n');
    }
    text
}
