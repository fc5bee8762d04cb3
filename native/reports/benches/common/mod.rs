//! What several benchmarks share: an instance with the catalogue's method calls, and their events.
#![allow(clippy::unwrap_used, reason = "a failure ends the benchmark")]
#![allow(dead_code, reason = "no benchmark uses all of it")]

use std::hint::black_box;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::json;
use telemetry_common::moment::Moment;
use telemetry_instance::instance::{Definition, Instance};
use telemetry_recording::local;
use telemetry_recording::plan::PlanId;

pub const SLICE_MS: u64 = 10_000;

pub fn at(ms: u64) -> Moment {
    Moment { ms, unix_ms: 0 }
}

/// The catalogue's `call_method` family with its stop event.
pub fn start(memory_limit: usize) -> (Instance, PlanId) {
    let booleans = json!(["true", "false"]);
    let measurement = json!({"measurement": {
        "scale": {"numerator": 1, "denominator": 1},
        "required": true,
        "metadata": false,
    }});
    let text = json!({"text": {"required": true}});
    let bounds: Vec<u64> = (0..14).map(|power| 500_000 << power).collect();
    let sizes = [64, 256, 1_024, 4_096];
    let definition: Definition = serde_json::from_value(json!({
        "families": [{
            "name": "dspex.bridge.call_method",
            "role": "calls",
            "labels": ["method", "python_class"],
            "counters": [
                {"name": "total", "dimensions": [
                    {"name": "success", "values": booleans},
                    {"name": "cached", "values": booleans},
                ]},
                {"name": "exceptions", "dimensions": [
                    {"name": "kind", "values": ["error", "exit", "throw", "other"]},
                ]},
                {"name": "starts", "dimensions": []},
            ],
            "histograms": [
                {"name": "duration", "unit": "nanosecond", "bounds": bounds},
                {"name": "args_size", "unit": "byte", "bounds": sizes},
                {"name": "result_size", "unit": "byte", "bounds": sizes},
            ],
            "digits": 2,
            "series_limit": 20_000,
        }],
        "plans": [{
            "event": "stop",
            "fields": [measurement, measurement, measurement, text, text],
            "steps": [{"feed": {
                "family": "dspex.bridge.call_method",
                "labels": [{"field": 3}, {"field": 4}],
                "counts": [{"counter": "total",
                    "dimensions": [{"constant": 0}, {"constant": 1}]}],
                "observes": [
                    {"histogram": "duration", "field": 0},
                    {"histogram": "args_size", "field": 1},
                    {"histogram": "result_size", "field": 2},
                ],
            }}],
        }],
        "ref_limit": 1,
        "worker_limit": 1,
        "usage_capacity": 1,
        "alerts": {
            "signal_limit": 1,
            "spikes": {"threshold": 5, "window_ms": 10_000, "key_limit": 1},
            "anomalies": null,
            "queue_wait_interval_ms": 1,
            "queue_wait_commands": 1,
            "anomaly_silence_ms": 1,
            "anomaly_forget_ms": 1,
        },
        "windows": {
            "slice_ms": SLICE_MS, "history_ms": 3_600_000, "memory_limit": memory_limit,
        },
    }))
    .unwrap();
    let instance = Instance::start(definition, Arc::new(|| at(0))).unwrap();
    let plan = instance.plan_ids().next().unwrap();
    (instance, plan)
}

const ROUNDS: usize = 15;

/// The shortest of several times: what it takes when nothing else runs.
pub fn shortest(mut run: impl FnMut()) -> Duration {
    let times = (0..ROUNDS).map(|_| {
        let started = Instant::now();
        run();
        started.elapsed()
    });
    times.min().unwrap_or_default()
}

/// Numbers that look random and repeat from run to run.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        self.0 >> 33
    }

    /// Log-uniform over two decades from a value on.
    fn decades(&mut self, from: f64) -> u64 {
        (from * 100f64.powf(self.next() as f64 / (1_u64 << 31) as f64)) as u64
    }
}

/// Sends events of so many series.
pub struct Emitter {
    plan: PlanId,
    names: Vec<(String, String)>,
    random: Random,
}

impl Emitter {
    pub fn new(plan: PlanId, series: usize) -> Self {
        let name = |series| (format!("method_{}", series % 100), format!("Class{}", series / 100));
        Self { plan, names: (0..series).map(name).collect(), random: Random(1) }
    }

    /// One event of a series.
    pub fn emit(&mut self, series: usize) {
        let (method, class) = &self.names[series];
        let numbers =
            [self.random.decades(1e6), self.random.decades(50.0), self.random.decades(100.0)];
        let outcome = local::record(
            self.plan,
            || 0,
            |inputs, fields| {
                for input in &inputs.measurements {
                    fields.set_number(input.at, numbers[input.at], &input.scale)?;
                }
                fields.set_text(3, method.as_bytes());
                fields.set_text(4, class.as_bytes());
                Ok(())
            },
        );
        black_box(outcome);
    }

    /// So many events of every series.
    pub fn round(&mut self, events: usize) {
        for series in 0..self.names.len() {
            (0..events).for_each(|_| self.emit(series));
        }
    }
}
