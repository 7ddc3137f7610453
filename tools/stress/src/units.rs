//! Numbers as people read them.

/// `1.23 GiB`.
pub(crate) fn bytes(bytes: f64) -> String {
    let units = ["B", "KiB", "MiB", "GiB", "TiB"];
    let step = power(bytes, 1024.0, units.len());
    format!("{} {}", short(bytes / 1024f64.powi(step as i32)), units[step])
}

/// `12.3k`.
pub(crate) fn count(count: f64) -> String {
    let units = ["", "k", "M", "G"];
    let step = power(count, 1000.0, units.len());
    format!("{}{}", short(count / 1000f64.powi(step as i32)), units[step])
}

/// `1.23 ms`, of nanoseconds.
pub(crate) fn time(nanos: f64) -> String {
    let units = ["ns", "us", "ms", "s"];
    if nanos == 0.0 {
        return "0 s".to_owned();
    }
    let step = power(nanos, 1000.0, units.len());
    format!("{} {}", short(nanos / 1000f64.powi(step as i32)), units[step])
}

/// How often `base` goes into `number`, less than `most` times.
fn power(number: f64, base: f64, most: usize) -> usize {
    (1..most).take_while(|step| number >= base.powi(*step as i32)).count()
}

/// Three digits, as far as there is a point among them.
fn short(number: f64) -> String {
    match number {
        n if n >= 99.95 || n == 0.0 => format!("{n:.0}"),
        n if n >= 9.995 => format!("{n:.1}"),
        n => format!("{n:.2}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn three_digits_and_a_unit() {
        assert_eq!(bytes(0.0), "0 B");
        assert_eq!(bytes(1536.0), "1.50 KiB");
        assert_eq!(bytes(250.0 * 1024.0 * 1024.0), "250 MiB");
        assert_eq!(count(18_234.0), "18.2k");
        assert_eq!(time(0.0), "0 s");
        assert_eq!(time(999.0), "999 ns");
        assert_eq!(time(1_234_567.0), "1.23 ms");
        assert_eq!(time(3.6e12), "3600 s");
    }
}
