//! The two charts of a phase: throughput over time, and latency by percentile.

use super::chart::{Axis, Line, draw};
use crate::engine::{Kind, Phase, needed};
use crate::units;

/// The percentiles that the axis marks.
const MARKS: [f64; 6] = [0.0, 50.0, 90.0, 99.0, 99.9, 99.99];
/// Points of a latency curve for each power of ten of the share that is beyond.
const POINTS: u32 = 25;
/// Powers of ten up to 99.99.
const DECADES: u32 = 4;

/// Throughput over time: bytes where there are any, else operations.
pub(super) fn over_time(phase: &Phase) -> String {
    let bytes = phase.kinds.iter().any(|(_, kind)| kind.bytes() > 0);
    let shown = phase.kinds.iter().filter(|(_, kind)| kind.ops() > 0 && (!bytes || kind.bytes() > 0));
    let lines: Vec<_> = shown
        .map(|(name, kind)| Line { name: name.clone(), points: steps(phase.seconds(), kind, bytes) })
        .collect();
    if lines.is_empty() {
        return String::new();
    }
    let max = lines.iter().flat_map(|line| &line.points).map(|point| point.1).fold(0.0, f64::max);
    let (title, y) = if bytes {
        let unit =
            [1024f64.powi(3), 1024f64.powi(2), 1024.0].into_iter().find(|unit| max >= *unit).unwrap_or(1.0);
        ("bytes per second over time", Axis::round(max, unit, |at| format!("{}/s", units::bytes(at))))
    } else {
        ("operations per second over time", Axis::round(max, 1.0, |at| format!("{}/s", units::count(at))))
    };
    let x = Axis::round(phase.seconds(), 1.0, |at| units::time(at * 1e9));
    draw(title, &Axis { span: (0.0, phase.seconds()), ticks: within(x.ticks, phase.seconds()) }, &y, &lines)
}

fn within(ticks: Vec<(f64, String)>, end: f64) -> Vec<(f64, String)> {
    ticks.into_iter().filter(|(at, _)| *at <= end).collect()
}

/// The rate of each slot as a level line. The last slot is as long as the phase went on within it; a rest of less than half
/// a slot says too little to be drawn.
fn steps(seconds: f64, kind: &Kind, bytes: bool) -> Vec<(f64, f64)> {
    let (slot, slots) = (kind.series().slot().as_secs_f64(), kind.series().slots());
    let count = ((seconds / slot).round() as usize).max(1);
    let mut points = Vec::with_capacity(2 * count);
    for index in 0..count {
        let (from, to) = (index as f64 * slot, ((index + 1) as f64 * slot).min(seconds));
        let of = slots.get(index).copied().unwrap_or_default();
        let rate = if bytes { of.bytes } else { of.ops } as f64 / (to - from).max(1e-9);
        points.extend([(from, rate), (to, rate)]);
    }
    points
}

/// Latency by percentile, both on logarithmic scales.
pub(super) fn latency(phase: &Phase) -> String {
    let shown = phase.kinds.iter().filter(|(_, kind)| kind.ops() > 0);
    let lines: Vec<_> = shown.map(|(name, kind)| Line { name: name.clone(), points: curve(kind) }).collect();
    let all = || lines.iter().flat_map(|line| &line.points).map(|point| point.1);
    let (low, high) = (all().fold(f64::INFINITY, f64::min).floor(), all().fold(0.0, f64::max).ceil());
    if lines.is_empty() {
        return String::new();
    }
    let high = high.max(low + 1.0);
    let decades = (low as i32..=high as i32).map(f64::from);
    let y = Axis { span: (low, high), ticks: decades.map(|at| (at, units::time(10f64.powf(at)))).collect() };
    let x = Axis {
        span: (0.0, f64::from(DECADES)),
        ticks: MARKS.map(|percent| (beyond(percent), format!("{percent} %"))).to_vec(),
    };
    draw("latency that so many per cent of the operations did not exceed", &x, &y, &lines)
}

/// Where a percentile lies on the axis: the power of ten of the share beyond it.
fn beyond(percent: f64) -> f64 {
    (100.0 / (100.0 - percent)).log10()
}

/// The curve as far as there are operations beyond it.
fn curve(kind: &Kind) -> Vec<(f64, f64)> {
    let places = (0..=POINTS * DECADES).map(|point| f64::from(point) / f64::from(POINTS));
    let percents = places.map(|at| (at, 100.0 - 100.0 / 10f64.powf(at)));
    let known = percents.filter(|(_, percent)| kind.ops() >= needed(*percent));
    known.map(|(at, percent)| (at, (kind.percentile(percent).max(1) as f64).log10())).collect()
}
