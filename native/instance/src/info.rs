//! The state of an instance, as it is told.

use serde::{Deserialize, Serialize};

use telemetry_windows::window::WindowsInfo;

/// The state of an instance.
#[derive(Clone, Debug, Serialize)]
pub struct Info {
    /// Each family.
    pub series: Vec<FamilyInfo>,
    /// Rejected events by event and reason, where there are any.
    pub rejected: Vec<Rejected>,
    /// Events that metrics of other definitions than the catalogue's got nothing of, by metric and reason.
    pub metrics_rejected: Vec<Refused>,
    /// References whose class is known.
    pub refs: usize,
    /// Workers that are alive.
    pub workers: usize,
    /// Workers that found no room in the set.
    pub workers_overflow: u64,
    /// The slices of time.
    pub windows: WindowsInfo,
    /// Signals for which there was no room.
    pub signals_dropped: u64,
    /// Errors of keys for which there was no room when spikes were looked for.
    pub spikes_untracked: u64,
    /// Bytes allocated by series, slices and maps.
    pub memory_bytes: usize,
}

/// The state of a family.
#[derive(Clone, Debug, Serialize)]
pub struct FamilyInfo {
    /// The event or span whose series these are.
    pub event: String,
    /// How many series there are.
    pub series: usize,
    /// How many there may be.
    pub limit: usize,
    /// How many events went to the overflow series.
    pub overflow: u64,
    /// Bytes allocated.
    pub memory_bytes: usize,
}

/// How many events a metric got nothing of.
#[derive(Clone, Debug, Serialize)]
pub struct Refused {
    /// The metric.
    pub metric: String,
    /// Why.
    pub reason: &'static str,
    /// How many.
    pub count: u64,
}

/// How many events were rejected.
#[derive(Clone, Debug, Serialize)]
pub struct Rejected {
    /// The event.
    pub event: String,
    /// Why.
    pub reason: &'static str,
    /// How many.
    pub count: u64,
}

/// A number that a scrape tells of the instance itself.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SelfQuantity {
    /// Requests that were routed, by worker and reason.
    RouterDecisions,
    /// Requests in flight, by worker.
    RouterInFlight,
    /// Ejections, by worker.
    RouterEjections,
    /// Workers of the router, by how they fare.
    RouterWorkers,
    /// See [`FamilyInfo::series`].
    Series,
    /// See [`FamilyInfo::limit`].
    SeriesLimit,
    /// See [`FamilyInfo::overflow`].
    Overflow,
    /// See [`Info::rejected`].
    Rejected,
    /// See [`Info::metrics_rejected`].
    MetricsRejected,
    /// See [`Info::signals_dropped`].
    SignalsDropped,
    /// See [`Info::spikes_untracked`].
    SpikesUntracked,
    /// See [`Info::workers_overflow`].
    WorkersOverflow,
    /// See [`WindowsInfo::merged`].
    SlicesMerged,
    /// See [`WindowsInfo::dropped`].
    SlicesDropped,
    /// See [`Info::refs`].
    Refs,
    /// See [`Info::memory_bytes`].
    MemoryBytes,
    /// See [`WindowsInfo::memory_bytes`].
    WindowMemoryBytes,
    /// Samples that a scrape lacks because its format does not allow them, by metric.
    SamplesLeftOut,
}
