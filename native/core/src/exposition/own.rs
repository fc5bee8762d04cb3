//! Metrics about the instance itself.

use crate::info::Info;
use crate::scalar::{Kind, Scalar};

/// What a scrape lacks, by metric.
pub(crate) fn left_out(samples: &[(String, u64)]) -> Scalar {
    let scalar = Scalar::new(
        "dspex_telemetry_samples_left_out",
        "Samples that this scrape lacks because OpenMetrics does not allow them, by metric.",
        Kind::Gauge,
    );
    samples
        .iter()
        .fold(scalar, |scalar, (metric, count)| scalar.with(&[("metric", metric)], *count as f64))
}

/// What an instance tells of itself.
pub(crate) fn scalars(info: &Info) -> impl Iterator<Item = Scalar> {
    let by_family = |name: &str, help: &str, kind, value: fn(&crate::info::FamilyInfo) -> f64| {
        let families = info.series.iter();
        families.fold(Scalar::new(name, help, kind), |scalar, family| {
            scalar.with(&[("event", &family.event)], value(family))
        })
    };
    let rejected = Scalar::new(
        "dspex_telemetry_rejected_total",
        "Events that were dropped because something in them was missing or wrong.",
        Kind::Counter,
    );
    let rejected = info.rejected.iter().fold(rejected, |scalar, rejected| {
        let labels = [("event", &*rejected.event), ("reason", rejected.reason)];
        scalar.with(&labels, rejected.count as f64)
    });
    let metric_rejected = Scalar::new(
        "dspex_telemetry_metric_rejected_total",
        "Events that a metric of option :metrics got nothing of, by metric and reason.",
        Kind::Counter,
    );
    let metric_rejected = info.metrics_rejected.iter().fold(metric_rejected, |scalar, rejected| {
        let labels = [("metric", &*rejected.metric), ("reason", rejected.reason)];
        scalar.with(&labels, rejected.count as f64)
    });
    let one = |name, help, kind, value: f64| Scalar::new(name, help, kind).with(&[], value);
    let counter = |name, help, value: u64| one(name, help, Kind::Counter, value as f64);
    let gauge = |name, help, value: usize| one(name, help, Kind::Gauge, value as f64);
    [
        by_family(
            "dspex_telemetry_series",
            "Series by event or span, the overflow series not counted.",
            Kind::Gauge,
            |family| family.series as f64,
        ),
        by_family(
            "dspex_telemetry_series_limit",
            "Most series that an event or span may have.",
            Kind::Gauge,
            |family| family.limit as f64,
        ),
        by_family(
            "dspex_telemetry_overflow_total",
            "Events whose labels found no room for a series and went to the overflow series.",
            Kind::Counter,
            |family| family.overflow as f64,
        ),
        rejected,
        metric_rejected,
        counter(
            "dspex_telemetry_signals_dropped_total",
            "Alerts for which there was no room in the channel.",
            info.signals_dropped,
        ),
        counter(
            "dspex_telemetry_spikes_untracked_total",
            "Errors of methods for which there was no room when spikes were looked for.",
            info.spikes_untracked,
        ),
        counter(
            "dspex_telemetry_workers_overflow_total",
            "Workers that found no room in the set of living ones.",
            info.workers_overflow,
        ),
        counter(
            "dspex_telemetry_slices_merged_total",
            "Slices of time that were merged because of the memory limit.",
            info.windows.merged,
        ),
        counter(
            "dspex_telemetry_slices_dropped_total",
            "Slices of time that were dropped because of the memory limit.",
            info.windows.dropped,
        ),
        gauge("dspex_telemetry_refs", "References whose class is known.", info.refs),
        gauge(
            "dspex_telemetry_memory_bytes",
            "Bytes that series, slices and maps of the instance take.",
            info.memory_bytes,
        ),
        gauge(
            "dspex_telemetry_window_memory_bytes",
            "Bytes that slices of time take.",
            info.windows.memory_bytes,
        ),
    ]
    .into_iter()
}
