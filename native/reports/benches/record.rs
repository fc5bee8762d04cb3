//! What recording costs in the core, beside what a lock or a plain histogram would cost; and what
//! reading costs. `cargo bench -p telemetry_reports`.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a failure ends the benchmark")]

use std::collections::HashMap;
use std::hint::black_box;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Barrier, Mutex};
use std::time::{Duration, Instant};

use criterion::measurement::WallTime;
use criterion::{BenchmarkGroup, BenchmarkId, Criterion, criterion_group, criterion_main};
use hdrhistogram::Histogram;
use serde_json::json;
use telemetry_common::moment::Moment;
use telemetry_instance::instance::{Definition, Instance};
use telemetry_recording::local;
use telemetry_recording::plan::PlanId;
use telemetry_reports::report::Report;
use telemetry_windows::window::Window;

/// The catalogue's `call_method` family, with its stop event and the binding of references.
fn start() -> (Instance, PlanId, PlanId) {
    let booleans = json!(["true", "false"]);
    let measurement = |required: bool| {
        json!({"measurement": {
            "scale": {"numerator": 1, "denominator": 1},
            "required": required,
            "metadata": false,
        }})
    };
    let text = |required: bool| json!({"text": {"required": required}});
    let bounds: Vec<u64> = (0..14).map(|power| 500_000 << power).collect();
    let definition: Definition = serde_json::from_value(json!({
        "families": [{
            "name": "dspex.bridge.call_method",
            "role": "calls",
            "labels": ["method", "python_class"],
            "counters": [{"name": "total", "dimensions": [
                {"name": "success", "values": booleans},
                {"name": "cached", "values": booleans},
            ]}],
            "histograms": [
                {"name": "duration", "unit": "nanosecond", "bounds": bounds},
                {"name": "result_size", "unit": "byte", "bounds": [64, 256, 1_024, 4_096]},
            ],
            "digits": 2,
            "series_limit": 20_000,
        }],
        "plans": [
            {
                "event": "stop",
                "fields": [measurement(true), measurement(false), text(false), text(true),
                    {"flag": {"default": null}}, {"flag": {"default": false}}, text(false)],
                "steps": [{"feed": {
                    "family": "dspex.bridge.call_method",
                    "labels": [{"field": 3}, {"class_of": {"reference": 2, "class": 6}}],
                    "counts": [
                        {"counter": "total", "dimensions": [{"field": 4}, {"field": 5}]},
                    ],
                    "observes": [
                        {"histogram": "duration", "field": 0},
                        {"histogram": "result_size", "field": 1},
                    ],
                }}],
            },
            {
                "event": "create",
                "fields": [text(true), text(true)],
                "steps": [{"bind": {"reference": 0, "class": 1}}],
            },
        ],
        "ref_limit": 100_000,
        "worker_limit": 1,
        "usage_capacity": 1_000,
        "alerts": {
            "signal_limit": 10,
            "spikes": {"threshold": 5, "window_ms": 10_000, "key_limit": 2_000},
            "anomalies": null,
            "queue_wait_interval_ms": 1_000,
            "queue_wait_commands": 1_000,
            "anomaly_silence_ms": 60_000,
            "anomaly_forget_ms": 3_600_000,
        },
        "windows": {"slice_ms": 10_000, "history_ms": 3_600_000, "memory_limit": 1 << 30},
    }))
    .unwrap();
    let instance = Instance::start(definition, Arc::new(|| Moment { ms: 0, unix_ms: 0 })).unwrap();
    let plans: Vec<_> = instance.plan_ids().collect();
    (instance, plans[0], plans[1])
}

struct Event {
    duration: u64,
    size: u64,
    reference: String,
    method: String,
    class: String,
}

/// Durations are log-uniform over three decades, in an order that repeats.
fn events(series: usize) -> Vec<Event> {
    let count = series.max(128).next_power_of_two();
    let event = |index: usize| {
        let number = index * 7_919 % series;
        let decade = (index * 2_654_435_761 % 1_000) as f64 / 1_000.0;
        Event {
            duration: (1e6 * 1_000f64.powf(decade)) as u64,
            size: 100 + index as u64 % 2_000,
            reference: format!("ref-{number}"),
            method: format!("method_{}", number % 100),
            class: format!("Class{}", number / 100),
        }
    };
    (0..count).map(event).collect()
}

#[derive(Clone, Copy)]
enum Naming {
    Class,
    Reference,
}

fn record(plan: PlanId, event: &Event, naming: Naming) {
    let outcome = local::record(
        plan,
        || 0,
        |inputs, fields| {
            for input in &inputs.measurements {
                let value = if input.at == 0 { event.duration } else { event.size };
                fields.set_number(input.at, value, &input.scale)?;
            }
            for input in &inputs.texts {
                match (input.at, naming) {
                    (3, _) => fields.set_text(3, event.method.as_bytes()),
                    (6, Naming::Class) => fields.set_text(6, event.class.as_bytes()),
                    (2, Naming::Reference) => fields.set_text(2, event.reference.as_bytes()),
                    _ => {}
                }
            }
            for input in &inputs.flags {
                fields.set_flag(input, input.at == 4);
            }
            Ok(())
        },
    );
    black_box(outcome);
}

/// Measures what a call costs on each of so many threads that call at once. All have made `warm_up`
/// calls before, so that their caches are full.
fn bench_on_threads(
    group: &mut BenchmarkGroup<'_, WallTime>,
    id: BenchmarkId,
    threads: usize,
    warm_up: usize,
    call: impl Fn(usize) + Sync,
) {
    let barrier = Barrier::new(threads);
    let work = |orders: Receiver<u64>, times: Sender<Duration>| {
        (0..warm_up).for_each(&call);
        for calls in orders {
            barrier.wait();
            let started = Instant::now();
            (0..calls as usize).for_each(&call);
            times.send(started.elapsed()).unwrap();
        }
    };
    std::thread::scope(|scope| {
        let work = &work;
        let threads: Vec<_> = (0..threads)
            .map(|_| {
                let (order, orders) = channel();
                let (time, times) = channel();
                scope.spawn(move || work(orders, time));
                (order, times)
            })
            .collect();
        group.bench_function(id, |bencher| {
            bencher.iter_custom(|calls| {
                threads.iter().for_each(|(order, _)| order.send(calls).unwrap());
                threads.iter().map(|(_, times)| times.recv().unwrap()).max().unwrap()
            });
        });
    });
}

/// A group whose benchmarks take a second and a half each.
fn group<'c>(criterion: &'c mut Criterion, name: &str) -> BenchmarkGroup<'c, WallTime> {
    let mut group = criterion.benchmark_group(name);
    group.sample_size(20);
    group.warm_up_time(Duration::from_millis(300)).measurement_time(Duration::from_secs(1));
    group
}

fn recording(criterion: &mut Criterion) {
    let mut group = group(criterion, "record");
    for series in [1, 100, 10_000] {
        for threads in [1, 2] {
            let events = events(series);
            let at = |index: usize| &events[index & (events.len() - 1)];
            let (_instance, stop, create) = start();
            for event in &events {
                local::record(
                    create,
                    || 0,
                    |_, fields| {
                        fields.set_text(0, event.reference.as_bytes());
                        fields.set_text(1, event.class.as_bytes());
                        Ok(())
                    },
                );
                record(stop, event, Naming::Class);
            }
            for (name, naming) in [("class", Naming::Class), ("reference", Naming::Reference)] {
                let id = BenchmarkId::new(format!("by_{name}/{threads}_threads"), series);
                bench_on_threads(&mut group, id, threads, events.len(), |index| {
                    record(stop, at(index), naming);
                });
            }
        }
    }
    group.finish();
}

/// What the same events cost with less, or with other means.
fn baselines(criterion: &mut Criterion) {
    let mut group = group(criterion, "baseline");
    let events = events(100);
    let at = |index: usize| &events[index & (events.len() - 1)];
    for threads in [1, 2] {
        let counter = AtomicU64::new(0);
        let id = BenchmarkId::new("atomic_fetch_add", threads);
        bench_on_threads(&mut group, id, threads, events.len(), |index| {
            counter.fetch_add(at(index).duration, Relaxed);
        });

        let table: Mutex<HashMap<(&str, &str), Histogram<u64>>> = Mutex::default();
        let id = BenchmarkId::new("mutex_of_hdrhistograms", threads);
        bench_on_threads(&mut group, id, threads, events.len(), |index| {
            let event = at(index);
            let mut table = table.lock().unwrap();
            let histogram = table
                .entry((&event.method, &event.class))
                .or_insert_with(|| Histogram::new(2).unwrap());
            histogram.record(event.duration).unwrap();
        });
    }
    let mut histogram = Histogram::<u64>::new(2).unwrap();
    let mut index = 0;
    group.bench_function("hdrhistogram_record", |bencher| {
        bencher.iter(|| {
            index += 1;
            histogram.record(at(index).duration).unwrap();
        });
    });
    group.finish();
}

fn reading(criterion: &mut Criterion) {
    let mut group = group(criterion, "read");
    for series in [100, 2_000] {
        let (instance, stop, _create) = start();
        // Ten samples for each series, every one in another power of two.
        let mut events = events(series);
        for _ in 0..10 {
            for event in &mut events {
                record(stop, event, Naming::Class);
                event.duration /= 2;
            }
        }
        assert_eq!(instance.families()[0].series_count(), series);
        group.bench_function(BenchmarkId::new("report", series), |bencher| {
            bencher
                .iter(|| Report::new(&instance, Window::SinceStart, Moment { ms: 0, unix_ms: 0 }));
        });
        let family = &instance.families()[0];
        let one = &family.series()[0];
        group.bench_function(BenchmarkId::new("snapshot_and_quantiles", series), |bencher| {
            bencher.iter(|| {
                let snapshot = one.snapshot(0);
                [0.5, 0.9, 0.95, 0.99, 0.999].map(|quantile| snapshot.value_at_quantile(quantile))
            });
        });
    }
    group.finish();
}

criterion_group!(benches, recording, baselines, reading);
criterion_main!(benches);
