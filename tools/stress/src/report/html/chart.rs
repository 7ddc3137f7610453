//! A line chart as SVG: two axes with their ticks, lines with a legend. What the numbers are is the caller's business.

use super::escape;
use std::fmt::Write;

/// The drawing, in its own units.
const WIDTH: f64 = 560.0;
const HEIGHT: f64 = 260.0;
/// The room around the lines, for the ticks and the legend.
const LEFT: f64 = 74.0;
const RIGHT: f64 = 30.0;
const TOP: f64 = 42.0;
const BOTTOM: f64 = 30.0;
/// Lines have so many colours; then they begin again.
const COLOURS: usize = 6;
/// The room of a letter of the legend.
const LETTER: f64 = 6.4;

/// One direction of a chart.
#[derive(Clone, Debug)]
pub(super) struct Axis {
    /// The number at its beginning and at its end.
    pub(super) span: (f64, f64),
    /// Numbers to be marked, and how they are written.
    pub(super) ticks: Vec<(f64, String)>,
}

impl Axis {
    /// From 0 to at least `max`, with ticks at round numbers of `unit`.
    pub(super) fn round(max: f64, unit: f64, write: impl Fn(f64) -> String) -> Self {
        let step = step(max / unit) * unit;
        let count = (max / step).ceil().max(1.0) as u32;
        let ticks = (0..=count).map(|n| f64::from(n) * step).map(|at| (at, write(at))).collect();
        Self { span: (0.0, f64::from(count) * step), ticks }
    }

    /// Where a number lies, from 0 to 1.
    fn place(&self, at: f64) -> f64 {
        ((at - self.span.0) / (self.span.1 - self.span.0)).clamp(0.0, 1.0)
    }
}

/// The step between ticks: 1, 2 or 5 times a power of ten, so that there are four or five up to `max`.
fn step(max: f64) -> f64 {
    let rough = (max / 5.0).max(f64::MIN_POSITIVE);
    let power = 10f64.powf(rough.log10().floor());
    let times = [1.0, 2.0, 5.0, 10.0].into_iter().find(|times| rough <= times * power * 1.0001);
    times.unwrap_or(10.0) * power
}

/// A line with its name.
#[derive(Clone, Debug)]
pub(super) struct Line {
    pub(super) name: String,
    pub(super) points: Vec<(f64, f64)>,
}

/// The chart.
pub(super) fn draw(title: &str, x: &Axis, y: &Axis, lines: &[Line]) -> String {
    let mut svg = format!(
        "<svg viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\" aria-label=\"{0}\">\n\
         <text class=\"title\" x=\"0\" y=\"12\">{0}</text>\n",
        escape(title)
    );
    svg += &legend(lines);
    svg += &grid(x, y);
    for (index, line) in lines.iter().enumerate() {
        svg += &polyline(x, y, line, index % COLOURS);
    }
    svg + "</svg>\n"
}

fn across(x: &Axis, at: f64) -> f64 {
    LEFT + x.place(at) * (WIDTH - LEFT - RIGHT)
}

fn down(y: &Axis, at: f64) -> f64 {
    HEIGHT - BOTTOM - y.place(at) * (HEIGHT - TOP - BOTTOM)
}

fn grid(x: &Axis, y: &Axis) -> String {
    let mut svg = String::new();
    let (right, bottom) = (WIDTH - RIGHT, HEIGHT - BOTTOM);
    let mut put = |line: String| svg += &line;
    for (at, text) in &y.ticks {
        let at = down(y, *at);
        put(format!("<line class=\"grid\" x1=\"{LEFT}\" x2=\"{right}\" y1=\"{at:.1}\" y2=\"{at:.1}\"/>\n"));
        put(format!(
            "<text x=\"{}\" y=\"{:.1}\" text-anchor=\"end\">{}</text>\n",
            LEFT - 6.0,
            at + 4.0,
            escape(text)
        ));
    }
    for (at, text) in &x.ticks {
        let at = across(x, *at);
        put(format!("<line class=\"grid\" x1=\"{at:.1}\" x2=\"{at:.1}\" y1=\"{TOP}\" y2=\"{bottom}\"/>\n"));
        put(format!(
            "<text x=\"{at:.1}\" y=\"{}\" text-anchor=\"middle\">{}</text>\n",
            bottom + 16.0,
            escape(text)
        ));
    }
    svg
}

fn polyline(x: &Axis, y: &Axis, line: &Line, colour: usize) -> String {
    let mut points = String::new();
    for (at, value) in &line.points {
        // Writing to a string cannot fail.
        let _ = write!(points, "{:.1},{:.1} ", across(x, *at), down(y, *value));
    }
    format!(
        "<polyline class=\"s{colour}\" points=\"{}\"><title>{}</title></polyline>\n",
        points.trim_end(),
        escape(&line.name)
    )
}

fn legend(lines: &[Line]) -> String {
    let mut svg = String::new();
    let mut at = LEFT;
    for (index, line) in lines.iter().enumerate() {
        let (colour, end) = (index % COLOURS, at + 14.0);
        svg += &format!(
            "<line class=\"s{colour}\" x1=\"{at:.0}\" x2=\"{end:.0}\" y1=\"27\" y2=\"27\" stroke-width=\"3\"/>\n"
        );
        svg += &format!("<text x=\"{:.0}\" y=\"31\">{}</text>\n", end + 4.0, escape(&line.name));
        at = end + 18.0 + LETTER * line.name.chars().count() as f64;
    }
    svg
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_are_round_and_hold_the_largest_number() {
        for (max, last, count) in
            [(0.9, 1.0, 6), (7.3, 8.0, 5), (23.0, 25.0, 6), (1000.0, 1000.0, 6), (0.0, 0.0, 2)]
        {
            let axis = Axis::round(max, 1.0, |at| format!("{at}"));
            assert_eq!(axis.ticks.len(), count, "{max}: {axis:?}");
            assert!((axis.span.1 - last).abs() < 1e-9 && axis.span.1 >= max, "{max}: {axis:?}");
        }
    }

    #[test]
    fn lines_stay_within_the_chart() {
        let axis = Axis::round(10.0, 1.0, |at| format!("{at}"));
        let line = Line {
            name: "<b>".to_owned(),
            points: vec![(-5.0, -5.0), (0.0, 0.0), (10.0, 10.0), (50.0, 50.0)],
        };
        let svg = draw("t", &axis, &axis, &[line]);
        assert!(svg.contains("points=\"74.0,230.0 74.0,230.0 530.0,42.0 530.0,42.0\""), "{svg}");
        assert!(svg.contains("&lt;b&gt;") && !svg.contains("<b>"));
    }
}
