//! The protobuf format: `io.prometheus.client.MetricFamily` messages, each with its length in front.

use prost::Message;
use prost::encoding::{self, WireType};

use super::encoder::{
    Bound, DistributionSample, Encoder, Header, HistogramSample, MetricKind, SummarySample, Value,
};
use super::message::{
    Bucket, BucketSpan, Counter, Exemplar, Gauge, Histogram, LabelPair, MetricFamily, MetricType,
    Quantile, Summary, Timestamp,
};
use super::native::{Buckets, ZERO_THRESHOLD, schema};
use telemetry_common::scalar::Kind;

/// Writes messages.
pub(crate) struct Protobuf;

/// Numbers of the fields that are written one by one.
mod tag {
    pub(super) const FAMILY_METRIC: u32 = 4;
    pub(super) const METRIC_LABEL: u32 = 1;
    pub(super) const METRIC_GAUGE: u32 = 2;
    pub(super) const METRIC_COUNTER: u32 = 3;
    pub(super) const METRIC_SUMMARY: u32 = 4;
    pub(super) const METRIC_HISTOGRAM: u32 = 7;
}

/// Appends a sample, whose labels are encoded already.
fn append(labels: &[u8], tag: u32, value: &impl Message, out: &mut Vec<u8>) {
    // Before its length, which would have to be found twice otherwise.
    let value = value.encode_to_vec();
    let length =
        encoding::key_len(tag) + encoding::encoded_len_varint(value.len() as u64) + value.len();
    encoding::encode_key(tag::FAMILY_METRIC, WireType::LengthDelimited, out);
    encoding::encode_varint((labels.len() + length) as u64, out);
    out.extend_from_slice(labels);
    encoding::encode_key(tag, WireType::LengthDelimited, out);
    encoding::encode_varint(value.len() as u64, out);
    out.extend_from_slice(&value);
}

fn label_pair(name: &str, value: &str) -> LabelPair {
    LabelPair { name: Some(name.to_owned()), value: Some(value.to_owned()) }
}

fn timestamp(unix_ms: i64) -> Timestamp {
    let nanos = unix_ms.rem_euclid(1_000) as i32 * 1_000_000;
    Timestamp { seconds: unix_ms.div_euclid(1_000), nanos }
}

fn message_of(exemplar: &telemetry_recording::exemplar::Exemplar, divisor: f64) -> Exemplar {
    Exemplar {
        label: exemplar.labels().map(|(name, value)| label_pair(name, value)).collect(),
        value: Some(exemplar.value as f64 / divisor),
        timestamp: Some(timestamp(exemplar.unix_ms)),
    }
}

impl Encoder for Protobuf {
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
        let kind = match header.kind {
            MetricKind::Scalar(Kind::Counter) => MetricType::Counter,
            MetricKind::Scalar(Kind::Gauge) => MetricType::Gauge,
            MetricKind::Histogram => MetricType::Histogram,
            MetricKind::Summary => MetricType::Summary,
        };
        let family = MetricFamily {
            name: Some(header.name.to_owned()),
            help: Some(header.help.to_owned()),
            r#type: Some(kind.into()),
            metric: Vec::new(),
            unit: header.unit().map(str::to_owned),
        };
        // The length comes first, so the samples have to wait.
        let mut samples = Vec::new();
        let bounds: Vec<_> = bounds.iter().map(|bound| bound.value).collect();
        write(&bounds, &mut samples);
        if !samples.is_empty() {
            let announcement = family.encode_to_vec();
            encoding::encode_varint((announcement.len() + samples.len()) as u64, out);
            out.extend_from_slice(&announcement);
            out.extend_from_slice(&samples);
        }
    }

    fn label(&self, name: &str, value: &str, labels: &mut Vec<u8>) {
        encoding::message::encode(tag::METRIC_LABEL, &label_pair(name, value), labels);
    }

    fn counter(
        &self,
        _bounds: &[f64],
        labels: &[u8],
        value: Value,
        created_unix_ms: Option<i64>,
        out: &mut Vec<u8>,
    ) {
        let counter = Counter {
            value: Some(value.as_f64()),
            created_timestamp: created_unix_ms.map(timestamp),
        };
        append(labels, tag::METRIC_COUNTER, &counter, out);
    }

    fn gauge(&self, _bounds: &[f64], labels: &[u8], value: Value, out: &mut Vec<u8>) {
        append(labels, tag::METRIC_GAUGE, &Gauge { value: Some(value.as_f64()) }, out);
    }

    fn histogram(
        &self,
        bounds: &[f64],
        labels: &[u8],
        sample: &HistogramSample<'_>,
        out: &mut Vec<u8>,
    ) {
        let (precision, divisor) = (sample.metric.precision, sample.metric.unit.divisor());
        let native = Buckets::new(sample.counts, precision, sample.metric.unit);
        let mut count = 0;
        let buckets = bounds.iter().zip(sample.buckets).enumerate();
        let bucket = buckets.map(|(at, (bound, in_bucket))| {
            count += in_bucket;
            let exemplar = sample.exemplars.get(at).and_then(Option::as_ref);
            Bucket {
                cumulative_count: Some(count),
                upper_bound: Some(*bound),
                exemplar: exemplar.map(|exemplar| message_of(exemplar, divisor)),
            }
        });
        let bucket = bucket.collect();
        let span = |(offset, length)| BucketSpan { offset: Some(offset), length: Some(length) };
        let histogram = Histogram {
            sample_count: Some(count),
            sample_sum: Some(sample.sum as f64 / divisor),
            bucket,
            schema: Some(schema(precision)),
            zero_threshold: Some(ZERO_THRESHOLD),
            zero_count: Some(native.zero_count),
            positive_span: native.spans.into_iter().map(span).collect(),
            positive_delta: native.deltas,
            created_timestamp: sample.created_unix_ms.map(timestamp),
        };
        append(labels, tag::METRIC_HISTOGRAM, &histogram, out);
    }

    fn distribution(
        &self,
        bounds: &[f64],
        labels: &[u8],
        sample: &DistributionSample<'_>,
        out: &mut Vec<u8>,
    ) {
        let mut count = 0;
        let bucket = bounds.iter().zip(sample.counts).map(|(bound, in_bucket)| {
            count += in_bucket;
            let (cumulative_count, upper_bound) = (Some(count), Some(*bound));
            Bucket { cumulative_count, upper_bound, exemplar: None }
        });
        let bucket = bucket.collect();
        let histogram = Histogram {
            sample_count: Some(count),
            sample_sum: Some(sample.sum.as_f64()),
            bucket,
            created_timestamp: sample.created_unix_ms.map(timestamp),
            ..Histogram::default()
        };
        append(labels, tag::METRIC_HISTOGRAM, &histogram, out);
    }

    fn summary(&self, _bounds: &[f64], labels: &[u8], sample: &SummarySample, out: &mut Vec<u8>) {
        let quantile = |&(quantile, value): &(f64, f64)| Quantile {
            quantile: Some(quantile),
            value: Some(value),
        };
        let summary = Summary {
            sample_count: Some(sample.count),
            sample_sum: Some(sample.sum.as_f64()),
            quantile: sample.quantiles.iter().map(quantile).collect(),
            created_timestamp: sample.created_unix_ms.map(timestamp),
        };
        append(labels, tag::METRIC_SUMMARY, &summary, out);
    }

    fn end(&self, _out: &mut Vec<u8>) {}
}
