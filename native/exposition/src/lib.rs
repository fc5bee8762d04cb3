//! What a scrape gets: all counters, histograms and gauges of an instance in a format of Prometheus.
//!
//! Every series of a family is read once. Then its metrics are written one after the other. Metrics
//! come in the definition's order, series in that of their labels. Reading needs no lock that recording
//! takes. A scrape that runs while events come in may have some numbers of an event and not yet the
//! others, but no counter ever goes down: each is a sum of cells that only grow.
#![warn(missing_docs)]

mod encoder;
mod measured;
pub mod message;
mod names;
mod native;
mod number;
pub mod otlp;
mod protobuf;
mod scalar;
mod self_metrics;
mod table;
mod text;

use serde::Deserialize;

use encoder::Encoder;
use names::WholeNames;
use protobuf::Protobuf;
use table::{FamilyTable, Reading};
use telemetry_cache::report;
use telemetry_common::scalar::Scalar;
use telemetry_instance::info::Info;
use telemetry_instance::instance::Instance;
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

/// Renders an instance while it goes on recording, at the end of `out`. There may be megabytes of it, so
/// whoever scrapes often had better give the same memory each time.
pub fn render(instance: &Instance, scrape: &Scrape, out: &mut Vec<u8>) {
    match scrape.format {
        Format::Text => render_with(&Text::PROMETHEUS, instance, scrape, out),
        Format::OpenMetrics => {
            let text = Text::open_metrics(WholeNames::of(instance));
            render_with(&text, instance, scrape, out);
        }
        Format::Protobuf => render_with(&Protobuf, instance, scrape, out),
    }
}

fn render_with<E: Encoder>(encoder: &E, instance: &Instance, scrape: &Scrape, out: &mut Vec<u8>) {
    // Until it is dropped, no series leaves its family.
    let reader = instance.read();
    let mut memory_bytes = Vec::with_capacity(instance.families().len());
    for family in instance.families() {
        let table = FamilyTable::read(encoder, family, Reading::Counts);
        memory_bytes.push(family.memory_bytes_beside_series() + table.series_memory_bytes());
        table.write(scrape.created, out);
    }
    let info = instance.info_with(memory_bytes.into_iter(), reader.windows().info());
    let left_out = encoder.left_out();
    scalars(instance, &info, &left_out).for_each(|scalar| scalar::write(&scalar, encoder, out));
    scrape.scalars.iter().for_each(|scalar| scalar::write(scalar, encoder, out));
    encoder.end(out);
}

/// The metrics of an instance that belong to no series, with what a scrape lacks by metric.
fn scalars(
    instance: &Instance,
    info: &Info,
    left_out: &[(String, u64)],
) -> impl Iterator<Item = Scalar> {
    let workers = info.workers;
    let gauges = instance.gauges().iter().map(move |gauge| gauge.scalar(workers));
    let cache = instance.cache().map(|cache| report::scalars(cache)).into_iter().flatten();
    let event_gauges = instance.event_gauges().scalars();
    gauges.chain(event_gauges).chain(cache).chain(self_metrics::scalars(instance, info, left_out))
}
