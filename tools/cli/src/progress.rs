//! How far a long request is: a bar on a terminal, a line now and then elsewhere.

use crate::admin::Progress;
use indicatif::{HumanBytes, HumanDuration, ProgressBar, ProgressStyle};
use std::io::IsTerminal;
use std::time::{Duration, Instant};

/// The time between two lines where there is no terminal.
const LINE_EVERY: Duration = Duration::from_secs(2);

/// Shows the progress of one request on standard error.
pub(crate) struct Meter {
    what: &'static str,
    begun: Instant,
    shown: Shown,
}

enum Shown {
    Bar(ProgressBar),
    Lines { last: Instant },
    Nothing,
}

impl Meter {
    /// A meter for `what`, like `load`; `quiet` where a script reads the result.
    pub(crate) fn new(what: &'static str, quiet: bool) -> Self {
        let begun = Instant::now();
        let shown = match quiet {
            true => Shown::Nothing,
            false if std::io::stderr().is_terminal() => Shown::Bar(bar(what)),
            false => Shown::Lines { last: begun },
        };
        Self { what, begun, shown }
    }

    /// Shows how far it is.
    pub(crate) fn show(&mut self, progress: Progress) {
        match &mut self.shown {
            Shown::Bar(bar) => {
                bar.set_length(progress.bytes_total);
                bar.set_position(progress.bytes);
                bar.set_message(format!("{}/{} files", progress.files, progress.files_total));
            }
            Shown::Lines { last } if last.elapsed() >= LINE_EVERY => {
                *last = Instant::now();
                eprintln!("{}", line(self.what, progress, self.begun.elapsed()));
            }
            Shown::Lines { .. } | Shown::Nothing => {}
        }
    }
}

impl Drop for Meter {
    fn drop(&mut self) {
        if let Shown::Bar(bar) = &self.shown {
            bar.finish_and_clear();
        }
    }
}

fn bar(what: &'static str) -> ProgressBar {
    let template = "{prefix} [{bar:30}] {bytes}/{total_bytes}, {msg}, {bytes_per_sec}, {eta} left";
    let style = ProgressStyle::with_template(template).expect("the template is a constant that a test draws");
    ProgressBar::new(0).with_style(style).with_prefix(what)
}

/// `load: 3/10 files, 1.00 GiB of 4.00 GiB, 512.00 MiB/s, 6 seconds left`.
fn line(what: &str, progress: Progress, elapsed: Duration) -> String {
    let rate = progress.bytes as f64 / elapsed.as_secs_f64().max(0.001);
    let rest = progress.bytes_total.saturating_sub(progress.bytes);
    let left = match rate {
        rate if rate >= 1.0 => HumanDuration(Duration::from_secs_f64(rest as f64 / rate)).to_string(),
        _ => "an unknown time".to_owned(),
    };
    format!(
        "{what}: {}/{} files, {} of {}, {}/s, {left} left",
        progress.files,
        progress.files_total,
        HumanBytes(progress.bytes),
        HumanBytes(progress.bytes_total),
        HumanBytes(rate as u64),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_says_bytes_files_rate_and_time_left() {
        let progress = Progress { bytes: 1 << 30, bytes_total: 4 << 30, files: 3, files_total: 10 };
        let said = line("load", progress, Duration::from_secs(2));
        assert_eq!(said, "load: 3/10 files, 1.00 GiB of 4.00 GiB, 512.00 MiB/s, 6 seconds left");
        assert!(line("load", Progress::default(), Duration::ZERO).contains("an unknown time left"));
    }

    #[test]
    fn the_bar_can_be_drawn() {
        bar("load").set_message("1/2 files");
    }
}
