//! Metrics about the instance itself.

use telemetry_common::scalar::{Sample, Scalar};
use telemetry_instance::info::{FamilyInfo, Info, SelfQuantity};
use telemetry_instance::instance::Instance;
use telemetry_router::{Reason, Tally, WorkerTally};

/// What an instance tells of itself, and what a scrape lacks by metric.
pub(crate) fn scalars(
    instance: &Instance,
    info: &Info,
    left_out: &[(String, u64)],
) -> impl Iterator<Item = Scalar> {
    let tally = instance.router().tally(instance.router_now());
    instance.self_metrics().iter().map(move |metric| {
        metric.with(match metric.of {
            SelfQuantity::RouterDecisions => by_worker(&tally, decisions),
            SelfQuantity::RouterInFlight => by_worker(&tally, |worker| {
                worker.in_flight.map(|requests| of_worker(worker, requests)).into_iter().collect()
            }),
            SelfQuantity::RouterEjections => {
                by_worker(&tally, |worker| vec![of_worker(worker, worker.ejections as f64)])
            }
            SelfQuantity::RouterWorkers => states(&tally),
            SelfQuantity::Series => by_family(info, |family| family.series as f64),
            SelfQuantity::SeriesLimit => by_family(info, |family| family.limit as f64),
            SelfQuantity::Overflow => by_family(info, |family| family.overflow as f64),
            SelfQuantity::Rejected => samples(&info.rejected, |rejected| {
                let labels = [("event", &*rejected.event), ("reason", rejected.reason)];
                Sample::new(&labels, rejected.count as f64)
            }),
            SelfQuantity::MetricsRejected => samples(&info.metrics_rejected, |refused| {
                let labels = [("metric", &*refused.metric), ("reason", refused.reason)];
                Sample::new(&labels, refused.count as f64)
            }),
            SelfQuantity::SignalsDropped => one(info.signals_dropped),
            SelfQuantity::SpikesUntracked => one(info.spikes_untracked),
            SelfQuantity::WorkersOverflow => one(info.workers_overflow),
            SelfQuantity::SlicesMerged => one(info.windows.merged),
            SelfQuantity::SlicesDropped => one(info.windows.dropped),
            SelfQuantity::Refs => one(info.refs as u64),
            SelfQuantity::MemoryBytes => one(info.memory_bytes as u64),
            SelfQuantity::WindowMemoryBytes => one(info.windows.memory_bytes as u64),
            SelfQuantity::SamplesLeftOut => samples(left_out, |(metric, count)| {
                Sample::new(&[("metric", metric)], *count as f64)
            }),
        })
    })
}

fn one(value: u64) -> Vec<Sample> {
    vec![Sample::new(&[], value as f64)]
}

fn samples<T>(of: &[T], sample: impl Fn(&T) -> Sample) -> Vec<Sample> {
    of.iter().map(sample).collect()
}

fn by_family(info: &Info, value: fn(&FamilyInfo) -> f64) -> Vec<Sample> {
    samples(&info.series, |family| Sample::new(&[("event", &family.event)], value(family)))
}

/// Of each worker up to a limit, of those that have left lately what was counted, and of all others
/// together. No counter goes down, and none begins with what another had told.
fn by_worker(tally: &Tally, samples: fn(&WorkerTally) -> Vec<Sample>) -> Vec<Sample> {
    tally.workers.iter().chain(&tally.others).flat_map(samples).collect()
}

fn of_worker(worker: &WorkerTally, value: f64) -> Sample {
    Sample::new(&[("worker_id", &worker.id)], value)
}

fn decisions(worker: &WorkerTally) -> Vec<Sample> {
    let counts = Reason::ALL.into_iter().zip(worker.decisions);
    let sample = |(reason, count): (Reason, u64)| {
        let labels = [("worker_id", &*worker.id), ("reason", reason.name())];
        Sample::new(&labels, count as f64)
    };
    counts.map(sample).collect()
}

fn states(tally: &Tally) -> Vec<Sample> {
    if tally.workers.is_empty() && tally.others.is_none() {
        return Vec::new();
    }
    let states =
        [("healthy", tally.healthy), ("starting", tally.starting), ("ejected", tally.ejected)];
    samples(&states, |(state, count)| Sample::new(&[("state", state)], *count as f64))
}
