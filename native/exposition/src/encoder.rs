//! What all formats have in common.

use telemetry_recording::exemplar::Exemplar;
use telemetry_recording::histogram::Location;
use telemetry_recording::metric::{HistogramMetric, Unit};

use telemetry_common::scalar::Kind;

/// A metric as it is announced in front of its samples.
pub(crate) struct Header<'a> {
    pub(crate) name: &'a str,
    pub(crate) help: &'a str,
    pub(crate) kind: MetricKind,
    /// The unit in which a histogram's samples are stored.
    pub(crate) stored_unit: Option<Unit>,
}

impl Header<'_> {
    /// The base unit that its name ends in.
    pub(crate) fn unit(&self) -> Option<&'static str> {
        let mut units = ["bytes", "seconds"].into_iter();
        units.find(|unit| self.name.strip_suffix(unit).is_some_and(|rest| rest.ends_with('_')))
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum MetricKind {
    Scalar(Kind),
    Histogram,
    Summary,
}

/// The upper bound of a bucket.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bound<'a> {
    pub(crate) value: f64,
    /// How it is written in Prometheus' text format, if not as other exporters would.
    pub(crate) text: Option<&'a str>,
}

impl From<f64> for Bound<'_> {
    fn from(value: f64) -> Self {
        Self { value, text: None }
    }
}

/// The samples of one series of a distribution, of which nothing but buckets is known.
pub(crate) struct DistributionSample<'a> {
    /// Not cumulated, the one above all bounds last.
    pub(crate) counts: &'a [u64],
    pub(crate) sum: Value,
    pub(crate) created_unix_ms: Option<i64>,
}

/// The samples of one series of a summary.
pub(crate) struct SummarySample {
    pub(crate) count: u64,
    pub(crate) sum: Value,
    /// Quantiles and their values.
    pub(crate) quantiles: Vec<(f64, f64)>,
    pub(crate) created_unix_ms: Option<i64>,
}

/// The samples of one histogram series.
pub(crate) struct HistogramSample<'a> {
    pub(crate) metric: &'a HistogramMetric,
    /// The HDR counts in order of value, if [`Encoder::HAS_COUNTS`] says so.
    pub(crate) counts: &'a [(Location, u64)],
    /// Counts of the explicit buckets, not cumulated, the one above all bounds last.
    pub(crate) buckets: &'a [u64],
    /// In stored units.
    pub(crate) sum: u64,
    /// The smallest and the largest sample, in stored units, where they have been read.
    pub(crate) extremes: Option<(u64, u64)>,
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
    type Metric: ?Sized;

    /// Writes a metric whose samples `write` appends; nothing if there are none.
    fn metric(
        &self,
        header: Header<'_>,
        bounds: &[Bound<'_>],
        out: &mut Vec<u8>,
        write: impl FnOnce(&Self::Metric, &mut Vec<u8>),
    );

    /// Appends a label to labels that were encoded before, or to none.
    fn label(&self, name: &str, value: &str, labels: &mut Vec<u8>);

    /// Appends labels to others, both of which were encoded before.
    fn join(&self, labels: &mut Vec<u8>, more: &[u8]) {
        labels.extend_from_slice(more);
    }

    /// Appends a sample of a metric.
    fn counter(
        &self,
        metric: &Self::Metric,
        labels: &[u8],
        value: Value,
        created_unix_ms: Option<i64>,
        out: &mut Vec<u8>,
    );

    fn gauge(&self, metric: &Self::Metric, labels: &[u8], value: Value, out: &mut Vec<u8>);

    fn histogram(
        &self,
        metric: &Self::Metric,
        labels: &[u8],
        sample: &HistogramSample<'_>,
        out: &mut Vec<u8>,
    );

    fn distribution(
        &self,
        metric: &Self::Metric,
        labels: &[u8],
        sample: &DistributionSample<'_>,
        out: &mut Vec<u8>,
    );

    fn summary(
        &self,
        metric: &Self::Metric,
        labels: &[u8],
        sample: &SummarySample,
        out: &mut Vec<u8>,
    );

    /// How many samples of which metrics, whose names these are, the format did not allow so far.
    fn left_out(&self) -> Vec<(String, u64)> {
        Vec::new()
    }

    /// Appends what follows the last metric.
    fn end(&self, out: &mut Vec<u8>);
}

/// The value of a sample.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Value {
    Integer(u64),
    Signed(i64),
    Float(f64),
}

impl Value {
    pub(crate) fn as_f64(self) -> f64 {
        match self {
            Self::Integer(value) => value as f64,
            Self::Signed(value) => value as f64,
            Self::Float(value) => value,
        }
    }
}
