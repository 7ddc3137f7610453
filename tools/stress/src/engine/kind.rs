//! One kind of operation as it was measured: a histogram of latencies, throughput over time, and what failed.

use super::series::Series;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hdrhistogram::Histogram;
use hdrhistogram::serialization::{Deserializer as HdrReader, Serializer as _, V2Serializer};
use serde::de::Error as _;
use serde::ser::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::time::Duration;

/// The percentiles that every report gives.
pub(crate) const PERCENTILES: [f64; 8] = [50.0, 75.0, 90.0, 95.0, 99.0, 99.9, 99.95, 99.99];

/// How many operations there must be for one of them to lie beyond a percentile; with fewer it is only the maximum again.
pub(crate) fn needed(percent: f64) -> u64 {
    (100.0 / (100.0 - percent)).round() as u64
}

/// Latencies above it count as so long.
const LATENCY_MAX: Duration = Duration::from_secs(3600);
/// Decimal digits that a latency keeps in the histogram.
const DIGITS: u8 = 3;

/// What was measured of one kind of operation.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Kind {
    /// In nanoseconds; of the operations that succeeded.
    #[serde(with = "hdr_v2")]
    latency: Histogram<u64>,
    /// Bytes moved by those.
    bytes: u64,
    /// Operations that failed.
    errors: u64,
    /// What the first failure said.
    first_error: Option<String>,
    series: Series,
}

impl Default for Kind {
    fn default() -> Self {
        let latency = Histogram::new_with_max(LATENCY_MAX.as_nanos() as u64, DIGITS);
        Self {
            latency: latency.expect("the bounds are constants that the tests record with"),
            bytes: 0,
            errors: 0,
            first_error: None,
            series: Series::default(),
        }
    }
}

impl Kind {
    /// Counts an operation that took `took` and ended `at` after the start of the measurement.
    pub(crate) fn record(&mut self, took: Duration, at: Duration, bytes: u64) {
        self.latency.saturating_record(took.as_nanos().min(LATENCY_MAX.as_nanos()) as u64);
        self.bytes += bytes;
        self.series.record(at, bytes);
    }

    /// Counts an operation that failed.
    pub(crate) fn fail(&mut self, why: impl std::fmt::Display) {
        self.errors += 1;
        self.first_error.get_or_insert_with(|| why.to_string());
    }

    /// Adds what another lane or node measured.
    pub(crate) fn merge(&mut self, other: Self) {
        self.latency.add(&other.latency).expect("both histograms have the same bounds");
        self.bytes += other.bytes;
        self.errors += other.errors;
        self.first_error = self.first_error.take().or(other.first_error);
        self.series.merge(other.series);
    }

    /// Operations that succeeded.
    pub(crate) fn ops(&self) -> u64 {
        self.latency.len()
    }

    /// The bytes they moved.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Operations that failed.
    pub(crate) fn errors(&self) -> u64 {
        self.errors
    }

    /// What the first failure said.
    pub(crate) fn first_error(&self) -> Option<&str> {
        self.first_error.as_deref()
    }

    /// The latency that `percent` of the operations did not exceed, in nanoseconds.
    pub(crate) fn percentile(&self, percent: f64) -> u64 {
        self.latency.value_at_percentile(percent)
    }

    /// The longest latency, in nanoseconds.
    pub(crate) fn max(&self) -> u64 {
        self.latency.max()
    }

    /// The shortest latency, in nanoseconds.
    pub(crate) fn min(&self) -> u64 {
        self.latency.min()
    }

    /// The mean latency, in nanoseconds.
    pub(crate) fn mean(&self) -> f64 {
        self.latency.mean()
    }

    /// Throughput over time.
    pub(crate) fn series(&self) -> &Series {
        &self.series
    }
}

/// A histogram in JSON: the bytes of HdrHistogram's V2 encoding, in base64, as other tools of HdrHistogram read it.
mod hdr_v2 {
    use super::*;

    pub(super) fn serialize<S: Serializer>(histogram: &Histogram<u64>, to: S) -> Result<S::Ok, S::Error> {
        let mut bytes = Vec::new();
        V2Serializer::new().serialize(histogram, &mut bytes).map_err(S::Error::custom)?;
        to.serialize_str(&STANDARD.encode(bytes))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Histogram<u64>, D::Error> {
        let text = String::deserialize(from)?;
        let bytes = STANDARD.decode(text).map_err(D::Error::custom)?;
        let read: Histogram<u64> = HdrReader::new()
            .deserialize(&mut bytes.as_slice())
            .map_err(|error| D::Error::custom(format!("{error:?}")))?;
        // What another node sends is added to ours, whose bounds it must fit.
        if read.sigfig() != DIGITS || read.high() > 2 * LATENCY_MAX.as_nanos() as u64 {
            return Err(D::Error::custom("the histogram has other bounds"));
        }
        Ok(read)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn of(latencies: &[u64]) -> Kind {
        let mut kind = Kind::default();
        for nanos in latencies {
            kind.record(Duration::from_nanos(*nanos), Duration::from_nanos(*nanos), 1);
        }
        kind
    }

    proptest! {
        #[test]
        fn a_kind_comes_over_the_wire_as_it_was(latencies in proptest::collection::vec(1u64..4_000_000_000_000, 1..200)) {
            let mut kind = of(&latencies);
            kind.fail("no space");
            let text = serde_json::to_string(&kind).unwrap();
            let read: Kind = serde_json::from_str(&text).unwrap();
            for percent in PERCENTILES {
                prop_assert_eq!(read.percentile(percent), kind.percentile(percent));
            }
            prop_assert_eq!((read.ops(), read.bytes(), read.errors()), (kind.ops(), kind.bytes(), 1));
            prop_assert_eq!(read.first_error(), Some("no space"));
            prop_assert_eq!(read.series(), kind.series());
        }

        #[test]
        fn merged_is_as_if_measured_by_one(a in proptest::collection::vec(1u64..10_000_000_000, 0..100), b in proptest::collection::vec(1u64..10_000_000_000, 0..100)) {
            let mut merged = of(&a);
            merged.merge(serde_json::from_str(&serde_json::to_string(&of(&b)).unwrap()).unwrap());
            let one = of(&[a, b].concat());
            prop_assert_eq!(merged.ops(), one.ops());
            for pair in PERCENTILES.windows(2) {
                prop_assert!(merged.percentile(pair[0]) <= merged.percentile(pair[1]));
                prop_assert_eq!(merged.percentile(pair[0]), one.percentile(pair[0]));
            }
        }

        #[test]
        fn garbage_is_refused(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let text = serde_json::json!({
                "latency": STANDARD.encode(bytes), "bytes": 0, "errors": 0, "first_error": null,
                "series": { "slot_ms": 100, "slots": [] },
            });
            prop_assert!(serde_json::from_value::<Kind>(text).is_err());
        }
    }
}
