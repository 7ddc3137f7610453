//! The report as one page: no script, nothing fetched from elsewhere, so that it can be mailed and kept.

mod chart;
mod curves;

use super::Report;
use super::table::{Row, phase_rows};
use crate::engine::Phase;
use crate::units;
use serde_json::Value;

const STYLE: &str = include_str!("style.css");
/// The columns of a phase's table.
const COLUMNS: [&str; 11] = [
    "operation",
    "count",
    "per second",
    "throughput",
    "p50",
    "p90",
    "p99",
    "p99.9",
    "p99.99",
    "max",
    "failed",
];

/// The whole page.
pub(super) fn render(report: &Report) -> String {
    let title = format!("forebay bench {}: {}", report.workload, report.place.target);
    let body = [
        head(report),
        notes(report),
        facts(report),
        report.phases.iter().map(phase).collect(),
        searches(report),
        settings(&report.settings),
    ];
    format!(
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\"/>\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\"/>\n\
         <title>{}</title>\n<style>\n{STYLE}</style>\n</head>\n<body>\n{}</body>\n</html>\n",
        escape(&title),
        body.concat()
    )
}

/// Text as HTML shows it, in content and in attributes.
fn escape(text: &str) -> String {
    text.chars().fold(String::with_capacity(text.len()), |mut plain, c| {
        match c {
            '&' => plain.push_str("&amp;"),
            '<' => plain.push_str("&lt;"),
            '>' => plain.push_str("&gt;"),
            '"' => plain.push_str("&quot;"),
            c => plain.push(c),
        }
        plain
    })
}

fn head(report: &Report) -> String {
    let place = &report.place;
    let source = if place.source.is_empty() { String::new() } else { format!(" of {}", place.source) };
    let nodes = report.systems.iter().map(|system| {
        let line =
            format!("{}: Linux {}, {} cores, load {}", system.host, system.kernel, system.cores, system.load);
        format!("<li>{}</li>\n", escape(&line))
    });
    format!(
        "<header>\n<h1>{}</h1>\n<p>{} <span class=\"dim\">({}{})</span>, {}</p>\n<ul class=\"dim\">\n{}</ul>\n</header>\n",
        escape(report.workload),
        escape(&place.target),
        escape(&place.kind),
        escape(&source),
        escape(&report.begun),
        nodes.collect::<String>()
    )
}

fn facts(report: &Report) -> String {
    if report.facts.is_empty() {
        return String::new();
    }
    let card = |(name, value): (&str, String)| {
        format!("<div class=\"fact\"><b>{}</b><span>{}</span></div>\n", escape(&value), escape(name))
    };
    let cards: String = report.facts.iter().map(|fact| card((&fact.name, fact.shown()))).collect();
    format!("<section class=\"facts\">\n{cards}</section>\n")
}

fn notes(report: &Report) -> String {
    let said = super::table::all_notes(report);
    if said.is_empty() {
        return String::new();
    }
    let items: String = said.iter().map(|note| format!("<li>{}</li>\n", escape(note))).collect();
    format!("<section><ul class=\"notes\">\n{items}</ul></section>\n")
}

fn phase(phase: &Phase) -> String {
    let asked = phase.target.map(|rate| format!(", {}/s asked for", units::count(rate))).unwrap_or_default();
    let lanes = if phase.lanes == 1 { "1 thread".to_owned() } else { format!("{} threads", phase.lanes) };
    format!(
        "<section>\n<h2>{}</h2>\n<p class=\"dim\">{}, {lanes}{asked}</p>\n{}<div class=\"charts\">\n{}{}</div>\n</section>\n",
        escape(&phase.name),
        units::time(phase.wall_ns as f64),
        rows(&phase_rows(phase)),
        curves::over_time(phase),
        curves::latency(phase),
    )
}

fn rows(rows: &[Row]) -> String {
    let line = |row: &Row| {
        let cells = row.cells().iter().map(|cell| format!("<td>{}</td>", escape(cell))).collect::<String>();
        format!("<tr>{cells}</tr>\n")
    };
    table(&COLUMNS, &rows.iter().map(line).collect::<String>())
}

fn table(columns: &[&str], rows: &str) -> String {
    let head = columns.iter().map(|name| format!("<th>{name}</th>")).collect::<String>();
    format!("<div class=\"scroll\"><table>\n<tr>{head}</tr>\n{rows}</table></div>\n")
}

fn searches(report: &Report) -> String {
    let one = |search: &super::Search| {
        let rows = search.trials.iter().map(|trial| {
            let class = if trial.reached { "yes" } else { "no" };
            format!(
                "<tr><td>{}</td><td>{}</td><td class=\"{class}\">{class}</td></tr>\n",
                units::count(trial.target),
                units::count(trial.achieved)
            )
        });
        let rows = table(&["target/s", "achieved/s", "reached"], &rows.collect::<String>());
        let found = units::count(search.found);
        format!(
            "<section>\n<h2>{}: highest rate {found}/s</h2>\n{rows}</section>\n",
            escape(&search.operation)
        )
    };
    report.searches.iter().map(one).collect()
}

fn settings(settings: &Value) -> String {
    let Some(settings) = settings.as_object() else { return String::new() };
    let mut rows = String::new();
    for (name, value) in settings {
        let plain = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        rows += &format!("<tr><td>{}</td><td>{}</td></tr>\n", escape(name), escape(&plain));
    }
    format!("<section>\n<h2>Settings</h2>\n<table class=\"settings\">\n{rows}</table>\n</section>\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_name_holds_stays_text() {
        assert_eq!(escape("<a href=\"x\">&"), "&lt;a href=&quot;x&quot;&gt;&amp;");
    }
}
