//! Scalars as an encoder writes them.

use super::encoder::{Encoder, Header, MetricKind, Value};
use crate::scalar::{Kind, Scalar};

impl Scalar {
    pub(crate) fn write<E: Encoder>(&self, encoder: &E, out: &mut Vec<u8>) {
        self.write_since(encoder, None, out);
    }

    /// Writes it, with the time since when it counts if that is known.
    pub(crate) fn write_since<E: Encoder>(
        &self,
        encoder: &E,
        created_unix_ms: Option<i64>,
        out: &mut Vec<u8>,
    ) {
        let kind = MetricKind::Scalar(self.kind);
        let header = Header { name: &self.name, help: &self.help, kind, stored_unit: None };
        encoder.metric(header, &[], out, |metric, out| {
            for sample in &self.samples {
                let mut labels = Vec::new();
                for [name, value] in &sample.labels {
                    encoder.label(name, value, &mut labels);
                }
                let value = Value::Float(sample.value);
                match self.kind {
                    Kind::Counter => {
                        encoder.counter(metric, &labels, value, created_unix_ms, out);
                    }
                    Kind::Gauge => encoder.gauge(metric, &labels, value, out),
                }
            }
        });
    }
}
