//! OpenTelemetry's metrics: the request of an OTLP exporter, in protobuf.
//!
//! It says what a scrape says, under the same names: a counter is a monotonic sum, and a histogram is an
//! exponential one, or has the explicit buckets.

mod exponential;
pub mod message;
mod response;

use std::cell::Cell;

use prost::Message;
use prost::encoding::{self, WireType};
use serde::Deserialize;

pub use response::{Accepted, accepted, refused};

use super::encoder::{
    Bound, DistributionSample, Encoder, Header, HistogramSample, MetricKind, SummarySample, Value,
};
use super::scalar;
use super::table::{FamilyTable, Reading};
use exponential::Exponential;
use message::{
    AggregationTemporality, AnyValue, Exemplar, ExponentialHistogram,
    ExponentialHistogramDataPoint, Gauge, Histogram, HistogramDataPoint, InstrumentationScope,
    KeyValue, Metric, NumberDataPoint, Resource, Sum, Summary, SummaryDataPoint, ValueAtQuantile,
    any_value, exemplar, number,
};
use telemetry_common::moment::Moment;
use telemetry_common::scalar::{Kind, Scalar};
use telemetry_instance::instance::Instance;
use telemetry_recording::metric::Unit;

/// Since when sums and histograms count.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Temporality {
    /// Since the start of the instance or its last reset.
    Cumulative,
    /// Since the last export. For instances whose definition says so.
    Delta,
    /// What belongs to series since the last export, what the instance tells of itself since the start.
    LowMemory,
}

/// What a histogram is exported as.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum HistogramKind {
    /// With buckets whose bounds grow exponentially, made from the HDR counts.
    Exponential,
    /// With the explicit buckets.
    Explicit,
}

/// The value of an attribute.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(untagged)]
pub enum Attribute {
    /// `true` or `false`.
    Bool(bool),
    /// An integer.
    Int(i64),
    /// Another number.
    Double(f64),
    /// A text.
    String(String),
}

/// What is wanted.
#[derive(Clone, Debug, Deserialize)]
pub struct Export {
    /// Since when sums and histograms count.
    pub temporality: Temporality,
    /// What histograms are exported as.
    pub histogram: HistogramKind,
    /// Most buckets of an exponential histogram beside the one of zero, at least two.
    pub max_buckets: usize,
    /// What the metrics are of.
    pub resource: Vec<(String, Attribute)>,
    /// Name of what has made the metrics.
    pub scope: String,
    /// Its version.
    pub version: String,
    /// Metrics that only the caller knows the values of. They come last.
    pub scalars: Vec<Scalar>,
}

/// Renders the request of an exporter while the instance goes on recording, at the end of `out`.
/// Returns how many data points it has.
///
/// With deltas, what a request says has been told then: whoever gets it has to deliver it.
pub fn export(instance: &Instance, export: &Export, now: Moment, out: &mut Vec<u8>) -> u64 {
    // Until it is dropped, no series leaves its family.
    let reader = instance.read();
    let mut exporter = instance.exporter();
    let are_deltas = export.temporality != Temporality::Cumulative && exporter.has_deltas();
    // Where the clock was set back, nothing is told of a time before it began to be counted.
    let told = instance.families().iter().map(|family| family.told_unix_ms()).max();
    let known = exporter.exported_unix_ms().max(exporter.reset_unix_ms());
    let now_unix_ms = now.unix_ms.max(known).max(told.unwrap_or(known));
    let encoder = |are_deltas| Otlp { export, are_deltas, now_unix_ms, points: Cell::new(0) };

    let of_series = encoder(are_deltas);
    let mut metrics = Vec::new();
    let mut memory_bytes = Vec::with_capacity(instance.families().len());
    for (index, family) in instance.families().iter().enumerate() {
        let reading = if are_deltas {
            let left = exporter.take_left(index);
            Reading::Deltas { left, since_unix_ms: exporter.exported_unix_ms() }
        } else {
            Reading::Points { since_unix_ms: exporter.reset_unix_ms() }
        };
        let table = FamilyTable::read(&of_series, family, reading);
        memory_bytes.push(family.memory_bytes_beside_series() + table.series_memory_bytes());
        table.write(true, &mut metrics);
    }

    let are_deltas = are_deltas && export.temporality == Temporality::Delta;
    let of_instance = encoder(are_deltas);
    let info = instance.info_with(memory_bytes.into_iter(), reader.windows().info());
    let scalars = super::scalars(instance, &info, &[]);
    for mut scalar in scalars.chain(export.scalars.iter().cloned()) {
        let start =
            if scalar.survives_reset { exporter.start_unix_ms() } else { exporter.reset_unix_ms() };
        let mut since = start;
        if are_deltas && scalar.kind == Kind::Counter {
            scalar = exporter.delta(&scalar);
            since = start.max(exporter.exported_unix_ms());
        }
        scalar::write_since(&scalar, &of_instance, Some(since), &mut metrics);
    }
    exporter.exported(now_unix_ms);
    write_request(export, &metrics, out);
    of_series.points.get() + of_instance.points.get()
}

/// Numbers of the fields that are written one by one.
mod tag {
    pub(super) const REQUEST_RESOURCE_METRICS: u32 = 1;
    pub(super) const RESOURCE: u32 = 1;
    pub(super) const RESOURCE_SCOPE_METRICS: u32 = 2;
    pub(super) const SCOPE: u32 = 1;
    pub(super) const SCOPE_METRICS: u32 = 2;
    pub(super) const METRIC_GAUGE: u32 = 5;
    pub(super) const METRIC_SUM: u32 = 7;
    pub(super) const METRIC_HISTOGRAM: u32 = 9;
    pub(super) const METRIC_EXPONENTIAL_HISTOGRAM: u32 = 10;
    pub(super) const METRIC_SUMMARY: u32 = 11;
    pub(super) const DATA_POINTS: u32 = 1;
    pub(super) const NUMBER_ATTRIBUTES: u32 = 7;
    pub(super) const HISTOGRAM_ATTRIBUTES: u32 = 9;
    pub(super) const EXPONENTIAL_HISTOGRAM_ATTRIBUTES: u32 = 1;
}

/// Writes metrics, with what they are of in front. Lengths come first, so it is done at the end.
fn write_request(export: &Export, metrics: &[u8], out: &mut Vec<u8>) {
    let attributes = export.resource.iter().map(|(name, value)| attribute(name, value.into()));
    let resource = Resource { attributes: attributes.collect() };
    let scope =
        InstrumentationScope { name: export.scope.clone(), version: export.version.clone() };
    let mut of_scope = Vec::new();
    encoding::message::encode(tag::SCOPE, &scope, &mut of_scope);
    let mut of_resource = Vec::new();
    encoding::message::encode(tag::RESOURCE, &resource, &mut of_resource);
    let scope_length = of_scope.len() + metrics.len();
    put_key(tag::RESOURCE_SCOPE_METRICS, scope_length, &mut of_resource);
    of_resource.extend_from_slice(&of_scope);
    out.reserve(of_resource.len() + metrics.len() + 16);
    put_key(tag::REQUEST_RESOURCE_METRICS, of_resource.len() + metrics.len(), out);
    out.extend_from_slice(&of_resource);
    out.extend_from_slice(metrics);
}

/// Announces a message of some length.
fn put_key(tag: u32, length: usize, out: &mut Vec<u8>) {
    encoding::encode_key(tag, WireType::LengthDelimited, out);
    encoding::encode_varint(length as u64, out);
}

fn attribute(name: &str, value: any_value::Value) -> KeyValue {
    KeyValue { key: name.to_owned(), value: Some(AnyValue { value: Some(value) }) }
}

fn text(name: &str, value: &str) -> KeyValue {
    attribute(name, any_value::Value::String(value.to_owned()))
}

impl From<&Attribute> for any_value::Value {
    fn from(attribute: &Attribute) -> Self {
        match attribute {
            Attribute::Bool(value) => Self::Bool(*value),
            Attribute::Int(value) => Self::Int(*value),
            Attribute::Double(value) => Self::Double(*value),
            Attribute::String(value) => Self::String(value.clone()),
        }
    }
}

fn nanoseconds(unix_ms: i64) -> u64 {
    u64::try_from(unix_ms).unwrap_or(0).saturating_mul(1_000_000)
}

/// Writes the metrics of a request.
struct Otlp<'a> {
    export: &'a Export,
    are_deltas: bool,
    now_unix_ms: i64,
    /// How many data points have been written.
    points: Cell<u64>,
}

impl Otlp<'_> {
    /// Appends a data point, whose attributes are encoded already.
    fn append(&self, attributes: &[u8], tag: u32, point: &impl Message, out: &mut Vec<u8>) {
        self.points.set(self.points.get() + 1);
        // Before its length, which would have to be found twice otherwise.
        let point = point.encode_to_vec();
        put_key(tag::DATA_POINTS, attributes.len() + point.len(), out);
        let start = out.len();
        out.extend_from_slice(attributes);
        retag(&mut out[start..], tag);
        out.extend_from_slice(&point);
    }

    fn temporality(&self) -> i32 {
        let temporality = if self.are_deltas {
            AggregationTemporality::Delta
        } else {
            AggregationTemporality::Cumulative
        };
        temporality.into()
    }

    fn number(
        &self,
        attributes: &[u8],
        value: Value,
        start_unix_ms: Option<i64>,
        out: &mut Vec<u8>,
    ) {
        let value = match value {
            Value::Integer(value) => number::Value::Int(i64::try_from(value).unwrap_or(i64::MAX)),
            Value::Signed(value) => number::Value::Int(value),
            Value::Float(value) => number::Value::Double(value),
        };
        let point = NumberDataPoint {
            start_time_unix_nano: start_unix_ms.map_or(0, nanoseconds),
            time_unix_nano: nanoseconds(self.now_unix_ms),
            value: Some(value),
            attributes: Vec::new(),
        };
        self.append(attributes, tag::NUMBER_ATTRIBUTES, &point, out);
    }
}

/// Changes the number of the field that encoded attributes are in. All that there are take one byte.
fn retag(attributes: &mut [u8], tag: u32) {
    let mut rest = attributes;
    while let [key, more @ ..] = rest {
        *key = (tag << 3) as u8 | WireType::LengthDelimited as u8;
        let mut encoded: &[u8] = more;
        let length = encoding::decode_varint(&mut encoded).unwrap_or(0) as usize;
        let end = more.len() - encoded.len() + length;
        rest = &mut more[end..];
    }
}

/// The unit by UCUM, as OpenTelemetry names units.
fn unit(header: &Header<'_>) -> &'static str {
    match (header.stored_unit, header.unit()) {
        (Some(Unit::Nanosecond), _) => "us",
        (Some(Unit::Millisecond), _) | (None, Some("seconds")) => "s",
        (Some(Unit::Byte), _) | (None, Some("bytes")) => "By",
        (Some(Unit::One), _) => "1",
        (None, _) => "",
    }
}

fn exemplar_of(exemplar: &telemetry_recording::exemplar::Exemplar, divisor: f64) -> Exemplar {
    let mut message = Exemplar {
        time_unix_nano: nanoseconds(exemplar.unix_ms),
        value: Some(exemplar::Value::Double(exemplar.value as f64 / divisor)),
        ..Exemplar::default()
    };
    for (name, value) in exemplar.labels() {
        match (name, id(value)) {
            ("trace_id", Some(id)) if id.len() == 16 => message.trace_id = id,
            ("span_id", Some(id)) if id.len() == 8 => message.span_id = id,
            _ => message.filtered_attributes.push(text(name, value)),
        }
    }
    message
}

/// An identifier that was written in hexadecimal digits.
fn id(text: &str) -> Option<Vec<u8>> {
    let digits: Option<Vec<_>> = text.chars().map(|digit| digit.to_digit(16)).collect();
    let digits = digits?;
    let (pairs, []) = digits.as_chunks::<2>() else {
        return None;
    };
    Some(pairs.iter().map(|[high, low]| (high << 4 | low) as u8).collect())
}

impl Encoder for Otlp<'_> {
    const HAS_COUNTS: bool = true;

    /// The upper bounds of its explicit buckets.
    type Metric = [f64];

    fn metric(
        &self,
        header: Header<'_>,
        bounds: &[Bound<'_>],
        out: &mut Vec<u8>,
        write: impl FnOnce(&[f64], &mut Vec<u8>),
    ) {
        let mut points = Vec::new();
        let bounds: Vec<_> = bounds.iter().map(|bound| bound.value).collect();
        write(&bounds, &mut points);
        if points.is_empty() {
            return;
        }
        let aggregation_temporality = self.temporality();
        // Of measures nothing but buckets is known.
        let kind = match header.stored_unit {
            Some(_) => self.export.histogram,
            None => HistogramKind::Explicit,
        };
        let (tag, data) = match (header.kind, kind) {
            (MetricKind::Scalar(Kind::Counter), _) => {
                let sum = Sum { is_monotonic: true, aggregation_temporality, ..Sum::default() };
                (tag::METRIC_SUM, sum.encode_to_vec())
            }
            (MetricKind::Scalar(Kind::Gauge), _) => {
                (tag::METRIC_GAUGE, Gauge::default().encode_to_vec())
            }
            (MetricKind::Summary, _) => (tag::METRIC_SUMMARY, Summary::default().encode_to_vec()),
            (MetricKind::Histogram, HistogramKind::Explicit) => {
                let histogram = Histogram { aggregation_temporality, ..Histogram::default() };
                (tag::METRIC_HISTOGRAM, histogram.encode_to_vec())
            }
            (MetricKind::Histogram, HistogramKind::Exponential) => {
                let histogram = ExponentialHistogram {
                    aggregation_temporality,
                    ..ExponentialHistogram::default()
                };
                (tag::METRIC_EXPONENTIAL_HISTOGRAM, histogram.encode_to_vec())
            }
        };
        let metric = Metric {
            name: header.name.to_owned(),
            description: header.help.to_owned(),
            unit: unit(&header).to_owned(),
            data: None,
        };
        let mut announcement = metric.encode_to_vec();
        put_key(tag, points.len() + data.len(), &mut announcement);
        put_key(tag::SCOPE_METRICS, announcement.len() + points.len() + data.len(), out);
        out.extend_from_slice(&announcement);
        out.extend_from_slice(&points);
        out.extend_from_slice(&data);
    }

    fn label(&self, name: &str, value: &str, labels: &mut Vec<u8>) {
        encoding::message::encode(tag::NUMBER_ATTRIBUTES, &text(name, value), labels);
    }

    fn counter(
        &self,
        _bounds: &[f64],
        labels: &[u8],
        value: Value,
        created_unix_ms: Option<i64>,
        out: &mut Vec<u8>,
    ) {
        // A delta of nothing is not told.
        if !self.are_deltas || value.as_f64() != 0.0 {
            self.number(labels, value, created_unix_ms, out);
        }
    }

    fn gauge(&self, _bounds: &[f64], labels: &[u8], value: Value, out: &mut Vec<u8>) {
        self.number(labels, value, None, out);
    }

    fn histogram(
        &self,
        bounds: &[f64],
        labels: &[u8],
        sample: &HistogramSample<'_>,
        out: &mut Vec<u8>,
    ) {
        let (precision, unit) = (sample.metric.precision, sample.metric.unit);
        let exposed = |value: u64| value as f64 / unit.divisor();
        let start_time_unix_nano = sample.created_unix_ms.map_or(0, nanoseconds);
        let time_unix_nano = nanoseconds(self.now_unix_ms);
        let count = sample.buckets.iter().sum();
        let sum = Some(exposed(sample.sum));
        let min = sample.extremes.map(|(min, _)| exposed(min));
        let max = sample.extremes.map(|(_, max)| exposed(max));
        let exemplars = sample.exemplars.iter().flatten();
        let exemplars = exemplars.map(|exemplar| exemplar_of(exemplar, unit.divisor())).collect();
        let attributes = Vec::new();
        match self.export.histogram {
            HistogramKind::Explicit => {
                let point = HistogramDataPoint {
                    start_time_unix_nano,
                    time_unix_nano,
                    count,
                    sum,
                    bucket_counts: sample.buckets.to_vec(),
                    // The last one is implied.
                    explicit_bounds: bounds[..bounds.len() - 1].to_vec(),
                    exemplars,
                    attributes,
                    min,
                    max,
                };
                self.append(labels, tag::HISTOGRAM_ATTRIBUTES, &point, out);
            }
            HistogramKind::Exponential => {
                let Exponential { scale, zero_count, positive } =
                    Exponential::new(sample.counts, precision, unit, self.export.max_buckets);
                let point = ExponentialHistogramDataPoint {
                    attributes,
                    start_time_unix_nano,
                    time_unix_nano,
                    count,
                    sum,
                    scale,
                    zero_count,
                    positive,
                    exemplars,
                    min,
                    max,
                };
                self.append(labels, tag::EXPONENTIAL_HISTOGRAM_ATTRIBUTES, &point, out);
            }
        }
    }

    fn distribution(
        &self,
        bounds: &[f64],
        labels: &[u8],
        sample: &DistributionSample<'_>,
        out: &mut Vec<u8>,
    ) {
        let point = HistogramDataPoint {
            start_time_unix_nano: sample.created_unix_ms.map_or(0, nanoseconds),
            time_unix_nano: nanoseconds(self.now_unix_ms),
            count: sample.counts.iter().sum(),
            // Not where numbers may be negative, by the protocol.
            sum: (bounds[0] >= 0.0).then(|| sample.sum.as_f64()),
            bucket_counts: sample.counts.to_vec(),
            explicit_bounds: bounds[..bounds.len() - 1].to_vec(),
            ..HistogramDataPoint::default()
        };
        self.append(labels, tag::HISTOGRAM_ATTRIBUTES, &point, out);
    }

    fn summary(&self, _bounds: &[f64], labels: &[u8], sample: &SummarySample, out: &mut Vec<u8>) {
        let quantile = |&(quantile, value): &(f64, f64)| ValueAtQuantile { quantile, value };
        let point = SummaryDataPoint {
            start_time_unix_nano: sample.created_unix_ms.map_or(0, nanoseconds),
            time_unix_nano: nanoseconds(self.now_unix_ms),
            count: sample.count,
            sum: sample.sum.as_f64(),
            quantile_values: sample.quantiles.iter().map(quantile).collect(),
            attributes: Vec::new(),
        };
        self.append(labels, tag::NUMBER_ATTRIBUTES, &point, out);
    }

    fn end(&self, _out: &mut Vec<u8>) {}
}
