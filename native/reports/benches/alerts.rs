//! What an error costs when somebody takes the signals out of their channel, and when nobody does
//! and it is full. `cargo bench -p telemetry_reports --bench alerts`.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a failure ends the benchmark")]

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use criterion::{Criterion, criterion_group, criterion_main};
use serde_json::json;
use telemetry_common::moment::Moment;
use telemetry_instance::instance::{Definition, Instance};
use telemetry_recording::local;
use telemetry_recording::plan::PlanId;

const THREADS: usize = 2;

/// An instance in which every error ends a spike and starts another, so that each sends two
/// signals: the worst that can be. Its clock moves with every event.
fn start() -> (Instance, PlanId) {
    let definition: Definition = serde_json::from_value(json!({
        "families": [{
            "name": "spikes",
            "labels": ["method"],
            "counters": [{"name": "spike_total", "dimensions": []}],
            "histograms": [],
            "digits": 2,
            "series_limit": 100,
        }],
        "plans": [{
            "event": "exception",
            "fields": [{"text": {"required": true}}],
            "steps": [{"failure": {
                "labels": [{"field": 0}],
                "kind": {"constant": "error"},
                "otherwise": "timeout",
                "spikes": "spikes",
            }}],
        }],
        "ref_limit": 0,
        "worker_limit": 0,
        "usage_capacity": 1,
        "alerts": {
            "signal_limit": 1_000,
            "spikes": {"threshold": 1, "window_ms": 1, "key_limit": 100},
            "anomalies": null,
            "queue_wait_interval_ms": 1_000,
            "queue_wait_commands": 1,
            "anomaly_silence_ms": 1,
            "anomaly_forget_ms": 1,
        },
        "windows": {"slice_ms": 10_000, "history_ms": 10_000, "memory_limit": 1 << 20},
    }))
    .unwrap();
    let time = AtomicU64::new(0);
    let clock = move || Moment { ms: time.fetch_add(1, Relaxed), unix_ms: 0 };
    let instance = Instance::start(definition, Arc::new(clock)).unwrap();
    let plan = instance.plan_ids().next().unwrap();
    (instance, plan)
}

/// How long it takes threads to record so many errors each, each thread of a method of its own.
fn fail(plan: PlanId, errors: u64) -> Duration {
    let started = Instant::now();
    std::thread::scope(|scope| {
        for thread in 0..THREADS {
            scope.spawn(move || {
                let method = format!("method_{thread}");
                for _ in 0..errors {
                    local::record(
                        plan,
                        || 0,
                        |_, fields| {
                            fields.set_text(0, method.as_bytes());
                            Ok(())
                        },
                    );
                }
            });
        }
    });
    started.elapsed()
}

fn failures(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("failure");
    group.sample_size(20);
    group.warm_up_time(Duration::from_millis(300)).measurement_time(Duration::from_secs(2));

    let (instance, plan) = start();
    let signals = instance.signals();
    let over = Arc::new(AtomicBool::new(false));
    let drain = std::thread::spawn({
        let over = Arc::clone(&over);
        move || {
            while !over.load(Relaxed) {
                let _ = signals.recv_timeout(Duration::from_millis(10));
            }
        }
    });
    group.bench_function("signals_taken", |bencher| {
        bencher.iter_custom(|errors| fail(plan, errors))
    });
    over.store(true, Relaxed);
    drain.join().unwrap();

    let (instance, plan) = start();
    group
        .bench_function("channel_full", |bencher| bencher.iter_custom(|errors| fail(plan, errors)));
    assert!(instance.info().signals_dropped > 0);
    group.finish();
}

criterion_group!(benches, failures);
criterion_main!(benches);
