//! The report for people: columns of plain text. The rows of a phase serve the page too.

use super::{Report, Search};
use crate::engine::{Kind, Phase, needed};
use crate::units;

/// The percentiles of the table; JSON has more.
const SHOWN: [f64; 5] = [50.0, 90.0, 99.0, 99.9, 99.99];

/// The whole report.
pub(super) fn render(report: &Report) -> String {
    let mut text = head(report);
    if !report.phases.is_empty() {
        text += &columns(&phases(report));
    }
    for search in &report.searches {
        text += &searched(search);
    }
    if !report.facts.is_empty() {
        let rows: Vec<_> = report.facts.iter().map(|fact| vec![fact.name.clone(), fact.shown()]).collect();
        text += &format!("\n{}", columns(&rows));
    }
    for note in all_notes(report) {
        text += &format!("\nnote: {note}");
    }
    text.trim_end().to_owned() + "\n"
}

fn head(report: &Report) -> String {
    let place = &report.place;
    let of = if place.source.is_empty() { "" } else { " of " };
    let on = match place.kind.as_str() {
        "" => place.target.clone(),
        kind => format!("{} ({kind}{of}{})", place.target, place.source),
    };
    let nodes = report.systems.iter().map(|system| {
        format!("  {}: Linux {}, {} cores, load {}", system.host, system.kernel, system.cores, system.load)
    });
    format!("{} on {on}, {}\n{}\n\n", report.workload, report.begun, nodes.collect::<Vec<_>>().join("\n"))
}

/// One operation of a phase, in words and numbers.
#[derive(Clone, Debug)]
pub(super) struct Row(Vec<String>);

impl Row {
    /// Operation, count, rate, throughput, the percentiles of [`SHOWN`], the longest, how many failed.
    pub(super) fn cells(&self) -> &[String] {
        &self.0
    }
}

/// The operations of a phase.
pub(super) fn phase_rows(phase: &Phase) -> Vec<Row> {
    phase.kinds.iter().map(|(name, kind)| row(phase, name, kind)).collect()
}

fn row(phase: &Phase, name: &str, kind: &Kind) -> Row {
    let throughput = match kind.bytes() {
        0 => String::new(),
        _ => format!("{}/s", units::bytes(phase.throughput(kind))),
    };
    let latency = |known: bool, nanos: u64| if known { units::time(nanos as f64) } else { "-".to_owned() };
    let mut cells = vec![name.to_owned(), kind.ops().to_string(), units::count(phase.rate(kind)), throughput];
    cells.extend(SHOWN.map(|percent| latency(kind.ops() >= needed(percent), kind.percentile(percent))));
    cells.extend([latency(kind.ops() > 0, kind.max()), kind.errors().to_string()]);
    Row(cells)
}

fn phases(report: &Report) -> Vec<Vec<String>> {
    let mut head: Vec<_> =
        ["phase", "operation", "count", "per second", "throughput"].map(str::to_owned).to_vec();
    head.extend(SHOWN.map(|percent| format!("p{percent}")));
    head.extend(["max", "failed"].map(str::to_owned));
    let mut lines = vec![head];
    for phase in &report.phases {
        for (index, row) in phase_rows(phase).into_iter().enumerate() {
            let named = if index == 0 { phase.name.clone() } else { String::new() };
            lines.push([vec![named], row.0].concat());
        }
    }
    lines
}

fn searched(search: &Search) -> String {
    let mut rows = vec![["target/s", "achieved/s", "reached"].map(str::to_owned).to_vec()];
    rows.extend(search.trials.iter().map(|trial| {
        let reached = if trial.reached { "yes" } else { "no" };
        vec![units::count(trial.target), units::count(trial.achieved), reached.to_owned()]
    }));
    format!("\n{}: highest rate {}/s\n{}", search.operation, units::count(search.found), columns(&rows))
}

/// What failed, what could not be begun in time, and what else a reader has to know.
pub(super) fn all_notes(report: &Report) -> Vec<String> {
    let mut notes = Vec::new();
    for phase in &report.phases {
        for (name, kind) in phase.kinds.iter().filter(|(_, kind)| kind.errors() > 0) {
            let first = kind.first_error().unwrap_or_default();
            notes.push(format!("{} of {name} in {} failed, the first: {first}", kind.errors(), phase.name));
        }
        if phase.not_begun > 0 {
            notes.push(format!(
                "{} operations of {} were due and not begun in time",
                phase.not_begun, phase.name
            ));
        }
    }
    notes.extend(report.interrupted.then(|| "stopped before the end".to_owned()));
    notes.extend(report.notes.iter().cloned());
    notes
}

/// Lines with aligned columns: the first two to the left, the others to the right.
fn columns(rows: &[Vec<String>]) -> String {
    let count = rows.iter().map(Vec::len).max().unwrap_or_default();
    let width =
        |column: usize| rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max();
    let widths: Vec<_> = (0..count).map(|column| width(column).unwrap_or_default()).collect();
    let line = |row: &Vec<String>| {
        let cells = row.iter().zip(&widths).enumerate().map(|(column, (cell, width))| match column {
            0 | 1 => format!("{cell:<width$}"),
            _ => format!("{cell:>width$}"),
        });
        cells.collect::<Vec<_>>().join("  ").trim_end().to_owned() + "\n"
    };
    rows.iter().map(line).collect()
}
