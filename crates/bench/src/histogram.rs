//! Latencies in logarithmic buckets: constant memory, no sorting, an error below 1 %.
//!
//! Values are nanoseconds. Each power of two is cut into 128 equal buckets, so a percentile is at
//! most 1/128 above the truth at any scale, and recording is a shift and an increment.

use std::fmt;
use std::time::Duration;

/// log2 of the number of buckets in a power of two.
const RESOLUTION: u32 = 7;
const PER_OCTAVE: u64 = 1 << RESOLUTION;
/// Every `u64` has a bucket: the linear part, then 57 octaves.
const BUCKETS: usize = (PER_OCTAVE as usize) * (64 - RESOLUTION as usize + 1);

/// How often each latency was seen.
#[derive(Clone)]
pub(crate) struct Histogram {
    buckets: Box<[u64]>,
    count: u64,
    max: u64,
}

impl Histogram {
    /// An empty histogram (59 KiB).
    pub(crate) fn new() -> Self {
        Self { buckets: vec![0; BUCKETS].into_boxed_slice(), count: 0, max: 0 }
    }

    /// Counts one latency.
    pub(crate) fn record(&mut self, latency: Duration) {
        let nanos = u64::try_from(latency.as_nanos()).unwrap_or(u64::MAX);
        self.buckets[bucket_of(nanos)] += 1;
        self.count += 1;
        self.max = self.max.max(nanos);
    }

    /// How many latencies were counted.
    #[cfg(test)]
    pub(crate) fn count(&self) -> u64 {
        self.count
    }

    /// The latency that the given share (0 to 1) of all does not exceed.
    ///
    /// Zero when nothing was counted; never above the greatest value seen.
    pub(crate) fn percentile(&self, share: f64) -> Duration {
        let wanted = ((self.count as f64 * share).ceil() as u64).max(1);
        let mut seen = 0;
        for (index, &count) in self.buckets.iter().enumerate() {
            seen += count;
            if seen >= wanted {
                return Duration::from_nanos(upper_edge(index).min(self.max));
            }
        }
        Duration::ZERO
    }
}

impl fmt::Display for Histogram {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let micros = |share| self.percentile(share).as_nanos() as f64 / 1000.0;
        write!(
            f,
            "p50 {:.1} us, p99 {:.1} us, p999 {:.1} us, max {:.1} us",
            micros(0.5),
            micros(0.99),
            micros(0.999),
            self.max as f64 / 1000.0
        )
    }
}

fn bucket_of(nanos: u64) -> usize {
    if nanos < PER_OCTAVE {
        return nanos as usize;
    }
    let shift = 63 - nanos.leading_zeros() - RESOLUTION;
    let within = (nanos >> shift) - PER_OCTAVE;
    ((u64::from(shift) + 1) * PER_OCTAVE + within) as usize
}

/// The greatest value that falls into the bucket.
fn upper_edge(index: usize) -> u64 {
    let index = index as u64;
    if index < PER_OCTAVE {
        return index;
    }
    let shift = index / PER_OCTAVE - 1;
    let lower = (PER_OCTAVE + index % PER_OCTAVE) << shift;
    lower + ((1_u64 << shift) - 1)
}

#[cfg(test)]
mod tests {
    use super::{BUCKETS, Histogram, bucket_of, upper_edge};
    use std::time::Duration;

    #[test]
    fn buckets_are_consecutive_and_cover_every_value() {
        assert_eq!(bucket_of(0), 0);
        assert_eq!(bucket_of(u64::MAX), BUCKETS - 1);
        assert_eq!(upper_edge(BUCKETS - 1), u64::MAX);
        for index in 0..BUCKETS - 1 {
            assert_eq!(bucket_of(upper_edge(index)), index);
            assert_eq!(bucket_of(upper_edge(index) + 1), index + 1);
        }
    }

    #[test]
    fn bucket_is_within_one_percent() {
        for exponent in 0..63 {
            for step in 0..50_u64 {
                let value = (1_u64 << exponent) + (1_u64 << exponent) / 50 * step;
                let edge = upper_edge(bucket_of(value));
                assert!(edge >= value);
                assert!((edge - value) as f64 <= value as f64 / 128.0, "{value} became {edge}");
            }
        }
    }

    #[test]
    fn percentiles_of_a_uniform_ramp() {
        let mut histogram = Histogram::new();
        for micros in 1..=1000 {
            histogram.record(Duration::from_micros(micros));
        }
        let micros = |share| histogram.percentile(share).as_secs_f64() * 1e6;
        assert_eq!(histogram.count(), 1000);
        assert!((micros(0.5) - 500.0).abs() < 5.0);
        assert!((micros(0.99) - 990.0).abs() < 8.0);
        assert_eq!(histogram.percentile(1.0), Duration::from_micros(1000));
    }

    #[test]
    fn one_outlier_in_a_thousand_is_not_in_p99_but_is_the_maximum() {
        let mut histogram = Histogram::new();
        for _ in 0..999 {
            histogram.record(Duration::from_micros(10));
        }
        histogram.record(Duration::from_secs(1));
        assert!(histogram.percentile(0.99) < Duration::from_micros(11));
        assert_eq!(histogram.percentile(1.0), Duration::from_secs(1));
    }

    #[test]
    fn empty_histogram_has_zero_percentiles() {
        assert_eq!(Histogram::new().percentile(0.99), Duration::ZERO);
    }
}
