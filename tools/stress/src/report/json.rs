//! The report for scripts: one object; every latency in nanoseconds.

use super::{Fact, Report, Search};
use crate::engine::{Kind, PERCENTILES, Phase, Slot};
use serde_json::{Map, Value, json};

/// Grows when a key changes its meaning.
const VERSION: u32 = 1;

/// The whole report.
pub(super) fn render(report: &Report) -> Value {
    json!({
        "forebay_bench": VERSION,
        "forebay": env!("CARGO_PKG_VERSION"),
        "workload": report.workload,
        "settings": report.settings,
        "place": report.place,
        "nodes": report.systems,
        "begun": report.begun,
        "interrupted": report.interrupted,
        "errors": report.errors(),
        "phases": report.phases.iter().map(phase).collect::<Vec<_>>(),
        "searches": report.searches.iter().map(search).collect::<Vec<_>>(),
        "facts": report.facts.iter().map(fact).collect::<Vec<_>>(),
        "notes": report.notes,
    })
}

fn phase(phase: &Phase) -> Value {
    let kinds: Map<_, _> = phase.kinds.iter().map(|(name, of)| (name.clone(), kind(phase, of))).collect();
    json!({
        "name": phase.name,
        "lanes": phase.lanes,
        "seconds": phase.seconds(),
        "target_rate": phase.target,
        "not_begun": phase.not_begun,
        "operations": kinds,
    })
}

fn kind(phase: &Phase, kind: &Kind) -> Value {
    let series = kind.series();
    let of = |get: fn(&Slot) -> u64| series.slots().iter().map(get).collect::<Vec<_>>();
    json!({
        "count": kind.ops(),
        "bytes": kind.bytes(),
        "errors": kind.errors(),
        "first_error": kind.first_error(),
        "rate": phase.rate(kind),
        "bytes_per_second": phase.throughput(kind),
        "latency_ns": latency(kind),
        "over_time": { "slot_ms": series.slot().as_millis() as u64, "count": of(|slot| slot.ops), "bytes": of(|slot| slot.bytes) },
    })
}

fn latency(kind: &Kind) -> Value {
    if kind.ops() == 0 {
        return Value::Null;
    }
    let percentiles =
        PERCENTILES.iter().map(|percent| (format!("p{percent}"), kind.percentile(*percent).into()));
    let mut all: Map<String, Value> = percentiles.collect();
    all.insert("min".into(), kind.min().into());
    all.insert("mean".into(), kind.mean().into());
    all.insert("max".into(), kind.max().into());
    Value::Object(all)
}

fn search(search: &Search) -> Value {
    json!({ "operation": search.operation, "highest_rate": search.found, "trials": search.trials })
}

fn fact(fact: &Fact) -> Value {
    json!({ "name": fact.name, "value": fact.value, "unit": fact.unit.name() })
}
