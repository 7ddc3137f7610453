//! The report for people: columns of plain text.

use super::{Report, Search};
use crate::engine::{Kind, Phase};
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
    for note in failures(report).iter().chain(&report.notes) {
        text += &format!("\nnote: {note}");
    }
    if report.interrupted {
        text += "\nnote: stopped before the end";
    }
    text.trim_end().to_owned() + "\n"
}

fn head(report: &Report) -> String {
    let place = &report.place;
    let on = match place.kind.as_str() {
        "" => place.target.clone(),
        kind => format!(
            "{} ({kind}{}{})",
            place.target,
            if place.source.is_empty() { "" } else { " of " },
            place.source
        ),
    };
    let nodes = report.systems.iter().map(|system| {
        format!("  {}: Linux {}, {} cores, load {}", system.host, system.kernel, system.cores, system.load)
    });
    format!("{} on {on}, {}\n{}\n\n", report.workload, report.begun, nodes.collect::<Vec<_>>().join("\n"))
}

fn phases(report: &Report) -> Vec<Vec<String>> {
    let mut head: Vec<String> =
        ["phase", "operation", "count", "per second", "throughput"].map(str::to_owned).to_vec();
    head.extend(SHOWN.map(|percent| format!("p{percent}")));
    head.extend(["max", "failed"].map(str::to_owned));
    let mut rows = vec![head];
    for phase in &report.phases {
        rows.extend(
            phase.kinds.iter().enumerate().map(|(index, (name, of))| kind(phase, index == 0, name, of)),
        );
    }
    rows
}

fn kind(phase: &Phase, first: bool, name: &str, kind: &Kind) -> Vec<String> {
    let throughput = match kind.bytes() {
        0 => String::new(),
        _ => format!("{}/s", units::bytes(phase.throughput(kind))),
    };
    let named = if first { phase.name.clone() } else { String::new() };
    let mut row =
        vec![named, name.to_owned(), kind.ops().to_string(), units::count(phase.rate(kind)), throughput];
    let latency = |known: bool, nanos: u64| if known { units::time(nanos as f64) } else { "-".to_owned() };
    row.extend(SHOWN.map(|percent| latency(kind.ops() >= needed(percent), kind.percentile(percent))));
    row.push(latency(kind.ops() > 0, kind.max()));
    row.push(kind.errors().to_string());
    row
}

/// How many operations there must be for one of them to lie beyond a percentile; with fewer it is only the maximum again.
fn needed(percent: f64) -> u64 {
    (100.0 / (100.0 - percent)).round() as u64
}

fn searched(search: &Search) -> String {
    let mut rows = vec![["target/s", "achieved/s", "reached"].map(str::to_owned).to_vec()];
    rows.extend(search.trials.iter().map(|trial| {
        vec![
            units::count(trial.target),
            units::count(trial.achieved),
            if trial.reached { "yes" } else { "no" }.to_owned(),
        ]
    }));
    format!("\n{}: highest rate {}/s\n{}", search.operation, units::count(search.found), columns(&rows))
}

/// What failed, and what could not be begun in time.
fn failures(report: &Report) -> Vec<String> {
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
