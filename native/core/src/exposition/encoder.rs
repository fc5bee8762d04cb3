//! What all formats have in common.

use crate::exemplar::Exemplar;
use crate::histogram::Location;
use crate::metric::HistogramMetric;

use super::scalar::Kind;

/// A metric as it is announced in front of its samples.
pub(crate) struct Header<'a> {
    pub(crate) name: &'a str,
    pub(crate) help: &'a str,
    pub(crate) kind: MetricKind,
    /// The unit that its name ends in.
    pub(crate) unit: Option<&'static str>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum MetricKind {
    Scalar(Kind),
    Histogram,
}

/// The samples of one histogram series.
pub(crate) struct HistogramSample<'a> {
    pub(crate) metric: &'a HistogramMetric,
    /// The HDR counts in order of value, if [`Encoder::HAS_COUNTS`] says so.
    pub(crate) counts: &'a [(Location, u64)],
    /// Counts of the explicit buckets, not cumulated, the one above all bounds last.
    pub(crate) buckets: &'a [u64],
    /// In the unit in which it is exposed.
    pub(crate) sum: f64,
    /// By bucket; the last ones may be missing.
    pub(crate) exemplars: &'a [Option<Exemplar>],
    /// Milliseconds since 1970 at which it had no samples.
    pub(crate) created_unix_ms: Option<i64>,
}

/// Writes metrics in one format.
pub(crate) trait Encoder {
    /// Whether it makes use of the HDR counts.
    const HAS_COUNTS: bool;

    /// What is prepared once for all samples of a metric.
    type Metric;

    fn metric(&self, header: Header<'_>, bounds: &[f64]) -> Self::Metric;

    /// Appends a label to labels that were encoded before, or to none.
    fn label(&self, name: &str, value: &str, labels: &mut Vec<u8>);

    /// Appends labels to others, both of which were encoded before.
    fn join(&self, labels: &mut Vec<u8>, more: &[u8]);

    /// Appends a sample to the text of a metric.
    fn counter(
        &self,
        metric: &Self::Metric,
        labels: &[u8],
        value: Value,
        created_unix_ms: Option<i64>,
        body: &mut Vec<u8>,
    );

    fn gauge(&self, metric: &Self::Metric, labels: &[u8], value: Value, body: &mut Vec<u8>);

    fn histogram(
        &self,
        metric: &Self::Metric,
        labels: &[u8],
        sample: &HistogramSample<'_>,
        body: &mut Vec<u8>,
    );

    /// What stands in front of the samples of a metric, which are all there.
    fn announcement(&self, metric: &Self::Metric, body: &[u8]) -> Vec<u8>;

    /// What follows the last metric.
    fn end(&self) -> Vec<u8>;
}

/// The value of a sample.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Value {
    Integer(u64),
    Float(f64),
}

impl Value {
    pub(crate) fn as_f64(self) -> f64 {
        match self {
            Self::Integer(value) => value as f64,
            Self::Float(value) => value,
        }
    }
}

/// A metric and what has been written of it.
pub(crate) struct Column<E: Encoder> {
    pub(crate) metric: E::Metric,
    pub(crate) body: Vec<u8>,
}

impl<E: Encoder> Column<E> {
    pub(crate) fn new(encoder: &E, header: Header<'_>, bounds: &[f64]) -> Self {
        Self { metric: encoder.metric(header, bounds), body: Vec::new() }
    }

    /// Appends it, unless it has no sample.
    pub(crate) fn close(self, encoder: &E, out: &mut Vec<Vec<u8>>) {
        if !self.body.is_empty() {
            out.push(encoder.announcement(&self.metric, &self.body));
            out.push(self.body);
        }
    }
}
