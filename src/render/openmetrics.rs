//! Numbers of the moment as OpenMetrics text, version 1.0.0; node_exporter's textfile collector reads
//! it too.

use std::fmt::Write;

/// Whether a number only grows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MetricKind {
    /// It may go up and down.
    Gauge,
    /// It grows from 0, from when the program was started.
    Counter,
}

/// One number.
#[derive(Clone, Copy, Debug)]
pub struct Metric {
    /// Its name, with its unit; without the `_total` that a counter gets.
    pub name: &'static str,
    /// Whether it only grows.
    pub kind: MetricKind,
    /// What it is, in a line.
    pub help: &'static str,
    /// The number; `None` where it is not known: then nothing is written of it.
    pub value: Option<f64>,
}

/// The text of these numbers.
pub fn openmetrics(metrics: &[Metric]) -> String {
    let mut text = String::new();
    for Metric { name, kind, help, value } in metrics {
        let Some(value) = value else { continue };
        let (kind, suffix) = match kind {
            MetricKind::Gauge => ("gauge", ""),
            MetricKind::Counter => ("counter", "_total"),
        };
        // Writing to a String cannot fail.
        let _ =
            write!(text, "# TYPE {name} {kind}\n# HELP {name} {help}\n{name}{suffix} {value}\n");
    }
    text.push_str("# EOF\n");
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_are_totals_and_what_is_not_known_is_left_out() {
        let metric = |name, kind, value| Metric { name, kind, help: "So many.", value };
        let text = openmetrics(&[
            metric("a_bytes", MetricKind::Gauge, Some(1.5)),
            metric("b", MetricKind::Counter, Some(12_345_678_901.0)),
            metric("c", MetricKind::Counter, None),
        ]);
        assert_eq!(
            text,
            "# TYPE a_bytes gauge\n# HELP a_bytes So many.\na_bytes 1.5\n\
             # TYPE b counter\n# HELP b So many.\nb_total 12345678901\n# EOF\n"
        );
    }
}
