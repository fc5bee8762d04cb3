//! Scalars as an encoder writes them.

use super::encoder::{Encoder, Header, MetricKind, Value};
use telemetry_common::scalar::{Kind, Scalar};

pub(crate) fn write<E: Encoder>(scalar: &Scalar, encoder: &E, out: &mut Vec<u8>) {
    write_since(scalar, encoder, None, out);
}

/// Writes it, with the time since when it counts if that is known.
pub(crate) fn write_since<E: Encoder>(
    scalar: &Scalar,
    encoder: &E,
    created_unix_ms: Option<i64>,
    out: &mut Vec<u8>,
) {
    let kind = MetricKind::Scalar(scalar.kind);
    let header = Header { name: &scalar.name, help: &scalar.help, kind, stored_unit: None };
    encoder.metric(header, &[], out, |metric, out| {
        for sample in &scalar.samples {
            let mut labels = Vec::new();
            for [name, value] in &sample.labels {
                encoder.label(name, value, &mut labels);
            }
            let value = Value::Float(sample.value);
            match scalar.kind {
                Kind::Counter => {
                    encoder.counter(metric, &labels, value, created_unix_ms, out);
                }
                Kind::Gauge => encoder.gauge(metric, &labels, value, out),
            }
        }
    });
}
