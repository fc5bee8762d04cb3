//! Measures, written from what each series of a family has of them.

use super::encoder::{
    Bound, DistributionSample, Encoder, Header, MetricKind, SummarySample, Value,
};
use telemetry_common::scalar::Kind;
use telemetry_recording::measure::{Exposed, Measure, QUANTILES, Reading, Total};

/// What a series has of a measure.
pub(crate) struct Measured {
    pub(crate) reading: Reading,
    /// Since when, in milliseconds since 1970.
    pub(crate) created_unix_ms: i64,
}

impl From<Total> for Value {
    fn from(total: Total) -> Self {
        match total {
            Total::Integer(value) => Self::Signed(value),
            Total::Float(value) => Self::Float(value),
        }
    }
}

pub(crate) fn kind(measure: &Measure) -> MetricKind {
    match measure.exposed() {
        Exposed::Counter => MetricKind::Scalar(Kind::Counter),
        Exposed::Gauge => MetricKind::Scalar(Kind::Gauge),
        Exposed::Histogram => MetricKind::Histogram,
        Exposed::Summary => MetricKind::Summary,
    }
}

/// Whether it is told as it stands where others are told as deltas: OpenTelemetry has deltas neither of
/// gauges nor of summaries, whose count and sum are cumulative.
pub(crate) fn is_told_whole(measure: &Measure) -> bool {
    matches!(kind(measure), MetricKind::Scalar(Kind::Gauge) | MetricKind::Summary)
}

/// Writes a measure: what there is of it, with encoded labels.
pub(crate) fn write<'a, E: Encoder>(
    encoder: &E,
    measure: &Measure,
    all: impl Iterator<Item = (&'a [u8], &'a Measured)>,
    created: bool,
    out: &mut Vec<u8>,
) {
    let kind = kind(measure);
    let header = Header { name: &measure.name, help: &measure.help, kind, stored_unit: None };
    let bounds =
        measure.bounds().iter().map(|bound| Bound { value: bound.value, text: Some(&bound.text) });
    let above_all = matches!(kind, MetricKind::Histogram).then_some(f64::INFINITY.into());
    let bounds: Vec<_> = bounds.chain(above_all).collect();
    encoder.metric(header, &bounds, out, |metric, out| {
        for (labels, Measured { reading, created_unix_ms }) in all {
            let created_unix_ms = created.then_some(*created_unix_ms);
            match reading {
                Reading::Count(count) => {
                    encoder.counter(metric, labels, Value::Integer(*count), created_unix_ms, out);
                }
                Reading::Sum(total) if matches!(kind, MetricKind::Scalar(Kind::Gauge)) => {
                    encoder.gauge(metric, labels, (*total).into(), out);
                }
                Reading::Sum(total) => {
                    encoder.counter(metric, labels, (*total).into(), created_unix_ms, out);
                }
                Reading::Last(value) => encoder.gauge(metric, labels, (*value).into(), out),
                Reading::Distribution(buckets) => {
                    let (counts, sum) = (&*buckets.counts, buckets.sum.into());
                    let sample = DistributionSample { counts, sum, created_unix_ms };
                    encoder.distribution(metric, labels, &sample, out);
                }
                Reading::Summary(summary) => {
                    let sample = SummarySample {
                        count: summary.count,
                        sum: summary.sum.into(),
                        quantiles: QUANTILES.into_iter().zip(summary.quantiles).collect(),
                        created_unix_ms,
                    };
                    encoder.summary(metric, labels, &sample, out);
                }
            }
        }
    });
}
