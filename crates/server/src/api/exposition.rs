//! The two text formats in which metrics are told: Prometheus' (0.0.4) and OpenMetrics 1.0.
//!
//! Why by hand: what is counted here are plain numbers of each worker, which are summed when
//! somebody asks. The crate prometheus-client (0.25) would bring registries of shared atomics that
//! nobody needs here, and it writes OpenMetrics only; what is left for it to do is this file. The
//! tests read both formats with Prometheus' own parsers.

use crate::worker::{BOUNDS_US, Distribution};
use std::fmt::{Display, Write};

/// What a metric is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// Only grows; starts with 0.
    Counter,
    /// Goes up and down.
    Gauge,
    /// Lengths of time in buckets.
    Histogram,
}

/// One metric; docs/operations.md has a row for each.
#[derive(Debug)]
pub(super) struct Metric {
    /// Ends in `_total` if, and only if, it is a counter.
    pub(super) name: &'static str,
    pub(super) kind: Kind,
    /// Seconds, bytes, or what is counted.
    pub(super) unit: &'static str,
    pub(super) labels: &'static [&'static str],
    pub(super) help: &'static str,
}

/// Which of the two.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Format {
    Prometheus,
    OpenMetrics,
}

impl Format {
    /// What a scraper that sends this `Accept` wants. OpenMetrics only if it says so: everybody
    /// understands the other one.
    pub(super) fn wanted(accept: &str) -> Self {
        let names = accept.split(',').map(|range| range.split(';').next().unwrap_or("").trim());
        let open = names.into_iter().any(|name| name.eq_ignore_ascii_case(OPEN_METRICS));
        if open { Self::OpenMetrics } else { Self::Prometheus }
    }

    pub(super) fn content_type(self) -> &'static str {
        match self {
            Self::Prometheus => "text/plain; version=0.0.4; charset=utf-8",
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
        }
    }
}

const OPEN_METRICS: &str = "application/openmetrics-text";

/// A page of metrics that grows. Writing to a string cannot fail.
#[derive(Debug)]
pub(super) struct Page {
    format: Format,
    text: String,
}

impl Page {
    pub(super) fn new(format: Format) -> Self {
        Self { format, text: String::with_capacity(16 << 10) }
    }

    /// The whole page.
    pub(super) fn end(mut self) -> String {
        if self.format == Format::OpenMetrics {
            self.text.push_str("# EOF\n");
        }
        self.text
    }

    fn head(&mut self, metric: &Metric) {
        let Metric { name, kind, unit, help, .. } = metric;
        // In OpenMetrics `_total` belongs to the sample and not to the metric.
        let open = self.format == Format::OpenMetrics;
        let family = if open { name.strip_suffix("_total").unwrap_or(name) } else { name };
        let kind = match kind {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
            Kind::Histogram => "histogram",
        };
        let _ = writeln!(self.text, "# HELP {family} {help}\n# TYPE {family} {kind}");
        // There a unit has to be a part of the name.
        if open && family.strip_suffix(unit).is_some_and(|rest| rest.ends_with('_')) {
            let _ = writeln!(self.text, "# UNIT {family} {unit}");
        }
    }

    /// A metric without labels.
    pub(super) fn one(&mut self, metric: &Metric, value: impl Display) {
        self.head(metric);
        let _ = writeln!(self.text, "{} {value}", metric.name);
    }

    /// A metric with one sample for each value of its labels, which contain nothing that has to be
    /// escaped: they are names of ours, and numbers.
    pub(super) fn many<const N: usize, V: Display>(
        &mut self,
        metric: &Metric,
        samples: impl IntoIterator<Item = ([String; N], V)>,
    ) {
        self.head(metric);
        for (values, value) in samples {
            self.text.push_str(metric.name);
            for (index, (label, text)) in metric.labels.iter().zip(&values).enumerate() {
                let before = if index == 0 { '{' } else { ',' };
                let _ = write!(self.text, "{before}{label}=\"{text}\"");
            }
            let _ = writeln!(self.text, "}} {value}");
        }
    }

    /// A metric that is a histogram, with the value of its only label for each.
    pub(super) fn histogram(&mut self, metric: &Metric, all: &[(&str, Distribution)]) {
        self.head(metric);
        let name = metric.name;
        for (value, distribution) in all {
            let (label, alone) = match metric.labels.first() {
                Some(label) => {
                    (format!("{label}=\"{value}\","), format!("{{{label}=\"{value}\"}}"))
                }
                None => (String::new(), String::new()),
            };
            let mut sum = 0;
            for (index, count) in distribution.buckets.iter().enumerate() {
                sum += count;
                let _ = match BOUNDS_US.get(index) {
                    Some(us) => {
                        let bound = *us as f64 / 1e6;
                        // As OpenMetrics wants it: 0.25, and 1.0 for a whole number.
                        let dot = if bound.fract() == 0.0 { ".0" } else { "" };
                        writeln!(self.text, "{name}_bucket{{{label}le=\"{bound}{dot}\"}} {sum}")
                    }
                    None => writeln!(self.text, "{name}_bucket{{{label}le=\"+Inf\"}} {sum}"),
                };
            }
            let seconds = distribution.sum_ns as f64 / 1e9;
            let _ = writeln!(self.text, "{name}_sum{alone} {seconds}\n{name}_count{alone} {sum}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const COUNTER: Metric = Metric {
        name: "a_bytes_total",
        kind: Kind::Counter,
        unit: "bytes",
        labels: &["b", "c"],
        help: "Help.",
    };
    const HISTOGRAM: Metric = Metric {
        name: "d_seconds",
        kind: Kind::Histogram,
        unit: "seconds",
        labels: &[],
        help: "Help.",
    };

    #[test]
    fn the_formats_differ_in_where_total_belongs_and_in_the_end() {
        let page = |format| {
            let mut page = Page::new(format);
            page.many(&COUNTER, [(["x".to_owned(), "y".to_owned()], 3)]);
            page.end()
        };
        let sample = "a_bytes_total{b=\"x\",c=\"y\"} 3\n";
        assert_eq!(
            page(Format::Prometheus),
            format!("# HELP a_bytes_total Help.\n# TYPE a_bytes_total counter\n{sample}")
        );
        assert_eq!(
            page(Format::OpenMetrics),
            format!(
                "# HELP a_bytes Help.\n# TYPE a_bytes counter\n# UNIT a_bytes bytes\n{sample}# EOF\n"
            )
        );
    }

    #[test]
    fn buckets_hold_all_that_is_not_longer() {
        let mut distribution = Distribution::default();
        (distribution.buckets[0], distribution.buckets[2], distribution.buckets[19]) = (1, 2, 4);
        distribution.sum_ns = 1_500_000_000;
        let mut page = Page::new(Format::Prometheus);
        page.histogram(&HISTOGRAM, &[("", distribution)]);
        let text = page.end();
        for line in [
            "d_seconds_bucket{le=\"0.00001\"} 1",
            "d_seconds_bucket{le=\"0.000025\"} 1",
            "d_seconds_bucket{le=\"0.00005\"} 3",
            "d_seconds_bucket{le=\"10.0\"} 3",
            "d_seconds_bucket{le=\"+Inf\"} 7",
            "d_seconds_sum 1.5",
            "d_seconds_count 7",
        ] {
            assert!(text.contains(&format!("{line}\n")), "{line}\n{text}");
        }
    }

    #[test]
    fn open_metrics_is_for_whoever_asks_for_it() {
        let prometheus = "application/openmetrics-text;version=1.0.0;q=0.5,text/plain;q=0.1";
        assert_eq!(Format::wanted(prometheus), Format::OpenMetrics);
        for accept in ["", "*/*", "text/plain", "text/html,application/xml;q=0.9"] {
            assert_eq!(Format::wanted(accept), Format::Prometheus, "{accept}");
        }
    }
}
