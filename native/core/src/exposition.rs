//! What a scrape gets: all counters, histograms and gauges of an instance in a format of Prometheus.
//!
//! Every series is read once, and appended to the text of each of its metrics, which are put one
//! behind the other at the end. Metrics come in the definition's order, series in that of their
//! labels. Reading needs no lock that recording takes. A scrape that runs while events come in may
//! have some numbers of an event and not yet the others, but no counter ever goes down: each is a sum
//! of cells that only grow.

mod encoder;
pub mod message;
mod native;
mod number;
mod own;
mod protobuf;
mod scalar;
mod series;
mod text;

use serde::Deserialize;

pub use native::schema;
pub use scalar::{Kind, Sample, Scalar};

use crate::instance::Instance;
use encoder::Encoder;
use protobuf::Protobuf;
use text::Text;

/// A format of Prometheus.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// The text format 0.0.4.
    Text,
    /// OpenMetrics 1.0.0 text, with exemplars.
    OpenMetrics,
    /// Delimited `io.prometheus.client.MetricFamily` messages, with exemplars and with native
    /// histograms beside the explicit buckets.
    Protobuf,
}

/// What is wanted.
#[derive(Clone, Debug, Deserialize)]
pub struct Scrape {
    /// The format.
    pub format: Format,
    /// Whether to say since when counters and histograms count. Not in [`Format::Text`].
    pub created: bool,
    /// Metrics that only the caller knows the values of. They come last.
    pub scalars: Vec<Scalar>,
}

/// Renders an instance while it goes on recording. What is scraped is the parts one behind the other:
/// there may be megabytes of them, which the caller copies once, to where they are wanted.
pub fn render(instance: &Instance, scrape: &Scrape) -> Vec<Vec<u8>> {
    match scrape.format {
        Format::Text => render_with(&Text::PROMETHEUS, instance, scrape),
        Format::OpenMetrics => render_with(&Text::OPEN_METRICS, instance, scrape),
        Format::Protobuf => render_with(&Protobuf, instance, scrape),
    }
}

fn render_with<E: Encoder>(encoder: &E, instance: &Instance, scrape: &Scrape) -> Vec<Vec<u8>> {
    // Takes the same lock as the reader, so it has to come before.
    let info = instance.info();
    let mut out = Vec::new();
    // Until it is dropped, no series leaves its family.
    let _reader = instance.read();
    for family in instance.families() {
        series::append_family(encoder, family, scrape.created, &mut out);
    }
    let gauges = instance.gauges().iter().map(|gauge| Scalar::gauge(gauge, instance));
    for scalar in gauges.chain(own::scalars(&info)) {
        scalar.append(encoder, &mut out);
    }
    scrape.scalars.iter().for_each(|scalar| scalar.append(encoder, &mut out));
    out.push(encoder.end());
    out
}
