//! What the integration tests share: instances from JSON, and events sent by a plan's inputs.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a failure is a failed test")]

pub mod allocator;
pub mod measured;

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, mpsc};
use std::thread::JoinHandle;

use proptest::test_runner::Config;
use serde_json::{Value, json};
use telemetry_common::moment::Moment;
use telemetry_instance::instance::{Definition, Instance};
use telemetry_recording::details::Details;
use telemetry_recording::family::Family;
use telemetry_recording::field::{Fields, Inputs, Reject};
use telemetry_recording::local::{RecordOutcome, keep, record};
use telemetry_recording::metric::Counter;
use telemetry_recording::plan::PlanId;
use telemetry_recording::series::Series;

/// How often a property is tried. Failures are not written to files: cargo prints them, and the
/// boundaries that matter are tried every time.
pub fn cases(cases: u32) -> Config {
    Config { cases, failure_persistence: None, ..Config::default() }
}

/// The time in tests to which time does not matter.
pub const NOW: Moment = Moment { ms: 0, unix_ms: 0 };

/// An instance with the ids of its plans, in the definition's order.
pub struct Running {
    pub instance: Instance,
    pub plans: Vec<PlanId>,
    /// What the instance's clock says, in milliseconds.
    pub time: Arc<AtomicU64>,
}

/// A time of the tests' clock: the calendar is a million milliseconds ahead.
pub fn moment(ms: u64) -> Moment {
    Moment { ms, unix_ms: ms as i64 + 1_000_000 }
}

/// Alerts as an instance has them by default, without anomalies.
pub fn alerts() -> Value {
    json!({
        "signal_limit": 1_000,
        "spikes": {"threshold": 5, "window_ms": 10_000, "key_limit": 2_000},
        "anomalies": null,
        "queue_wait_interval_ms": 1_000,
        "queue_wait_commands": 1_000,
        "anomaly_silence_ms": 60_000,
        "anomaly_forget_ms": 3_600_000,
    })
}

/// The role of a family of this name in the catalogue.
pub fn role(family: &str) -> Value {
    match family {
        "dspex.bridge.call_method" => json!("calls"),
        "dspex.bridge.call_method.python" => json!("python_times"),
        "dspex.bridge.call_method.error" => json!("call_errors"),
        "dspex.bridge.error" => json!("errors"),
        "dspex.tools.call" => json!("tools"),
        "dspex.session.created" => json!("created_sessions"),
        "snakepit.pool.queue_time" => json!("queue_waits"),
        _ => Value::Null,
    }
}

/// Metrics about the instance itself: every counter, and gauges of each shape that samples have.
pub fn self_metrics() -> Value {
    let metric = |name: &str, kind: &str, survives_reset: bool, of: &str| json!({"name": name, "help": "", "kind": kind, "survives_reset": survives_reset, "of": of});
    json!([
        metric("dspex_router_decisions_total", "counter", false, "router_decisions"),
        metric("dspex_router_in_flight", "gauge", true, "router_in_flight"),
        metric("dspex_router_ejections_total", "counter", false, "router_ejections"),
        metric("dspex_router_workers", "gauge", true, "router_workers"),
        metric("dspex_telemetry_series", "gauge", false, "series"),
        metric("dspex_telemetry_overflow_total", "counter", false, "overflow"),
        metric("dspex_telemetry_rejected_total", "counter", false, "rejected"),
        metric("dspex_telemetry_metric_rejected_total", "counter", false, "metrics_rejected"),
        metric("dspex_telemetry_signals_dropped_total", "counter", true, "signals_dropped"),
        metric("dspex_telemetry_spikes_untracked_total", "counter", true, "spikes_untracked"),
        metric("dspex_telemetry_workers_overflow_total", "counter", true, "workers_overflow"),
        metric("dspex_telemetry_slices_merged_total", "counter", false, "slices_merged"),
        metric("dspex_telemetry_slices_dropped_total", "counter", false, "slices_dropped"),
        metric("dspex_telemetry_memory_bytes", "gauge", false, "memory_bytes"),
        metric("dspex_telemetry_samples_left_out", "gauge", false, "samples_left_out"),
    ])
}

impl Running {
    /// Starts what a definition in JSON describes, at time 0. What it does not say of windows, alerts
    /// and metrics about itself is what an instance has by default.
    pub fn start(mut definition: Value) -> Self {
        let windows =
            json!({"slice_ms": 10_000, "history_ms": 3_600_000, "memory_limit": 64 << 20});
        let fields = definition.as_object_mut().unwrap();
        fields.entry("windows").or_insert(windows);
        fields.entry("alerts").or_insert_with(alerts);
        fields.entry("self_metrics").or_insert_with(self_metrics);
        fields.entry("usage_capacity").or_insert(json!(10_000));
        let definition: Definition = serde_json::from_value(definition).unwrap();
        let time = Arc::new(AtomicU64::new(0));
        let clock = Arc::clone(&time);
        let instance =
            Instance::start(definition, Arc::new(move || moment(clock.load(Relaxed)))).unwrap();
        let plans = instance.plan_ids().collect();
        Self { instance, plans, time }
    }

    pub fn family(&self, name: &str) -> &Arc<Family> {
        self.instance.family(name).unwrap()
    }
}

/// A definition with one family, `calls`, and one plan, by which an event of a duration and a
/// method counts in `calls_total` and in the histogram `duration`.
pub struct Calls {
    pub digits: u8,
    pub series_limit: usize,
    pub bounds: Vec<u64>,
}

impl Default for Calls {
    fn default() -> Self {
        Self { digits: 2, series_limit: 2_000, bounds: vec![1_000, 1_000_000] }
    }
}

impl Calls {
    pub fn start(self) -> RunningCalls {
        self.start_with(Value::Null)
    }

    /// Starts with slices of time as these windows say.
    pub fn start_with(self, windows: Value) -> RunningCalls {
        let mut definition = json!({
            "families": [{
                "name": "calls",
                "labels": ["method"],
                "counters": [{"name": "calls_total", "dimensions": []}],
                "histograms": [{"name": "duration", "unit": "nanosecond", "bounds": self.bounds}],
                "digits": self.digits,
                "series_limit": self.series_limit,
            }],
            "plans": [{
                "event": "call.stop",
                "fields": [measurement(true), text(true)],
                "steps": [{"feed": {
                    "family": "calls",
                    "labels": [{"field": 1}],
                    "counts": [{"counter": "calls_total", "dimensions": []}],
                    "observes": [{"histogram": "duration", "field": 0}],
                }}],
            }],
            "ref_limit": 0,
            "worker_limit": 0,
        });
        if !windows.is_null() {
            definition["windows"] = windows;
        }
        RunningCalls(Running::start(definition))
    }
}

/// A running instance of [`Calls`].
pub struct RunningCalls(Running);

impl std::ops::Deref for RunningCalls {
    type Target = Running;

    fn deref(&self) -> &Running {
        &self.0
    }
}

impl RunningCalls {
    pub fn call(&self, method: &str, duration: u64) -> RecordOutcome {
        send(self.plans[0], &[Given::Number(duration), Given::Text(method)])
    }

    pub fn calls(&self) -> &Arc<Family> {
        self.family("calls")
    }

    /// The series of a method and the place of its histogram.
    pub fn find(&self, method: &str) -> Option<(Arc<Series>, usize)> {
        self.instance.find_histogram("duration", &[method.as_bytes()])
    }

    /// What `calls_total` and the histogram say of a series, which is the same when nothing records.
    pub fn count(&self, series: &Series) -> u64 {
        let count = counted(series, &self.calls().layout().counters()[0], &[]);
        assert_eq!(series.sample_count(0), count, "counter and histogram differ");
        count
    }

    /// The count of a method, 0 if it has no series.
    pub fn count_of(&self, method: &str) -> u64 {
        self.find(method).map_or(0, |(series, _)| self.count(&series))
    }

    /// The count over all series.
    pub fn total(&self) -> u64 {
        self.calls().series_with_overflow().iter().map(|series| self.count(series)).sum()
    }
}

/// An unscaled measurement among the fields of a plan.
pub fn measurement(required: bool) -> Value {
    json!({"measurement": {
        "scale": {"numerator": 1, "denominator": 1},
        "required": required,
        "metadata": false,
    }})
}

/// A text among the fields of a plan.
pub fn text(required: bool) -> Value {
    json!({"text": {"required": required}})
}

/// A field of an event as an emitter gives it.
#[derive(Clone, Copy, Debug)]
pub enum Given<'a> {
    Absent,
    Number(u64),
    Negative,
    Text(&'a str),
    Bytes(&'a [u8]),
    Flag(bool),
    Process(u64),
}

/// Sends an event, its fields decoded as the plan demands.
pub fn send(plan: PlanId, given: &[Given<'_>]) -> RecordOutcome {
    record(plan, || 0, |inputs, fields| decode(given, inputs, fields))
}

/// Sends an event as [`send`] does from a process, and once more with its details if something is noted of it.
pub fn send_with(
    plan: PlanId,
    process: u64,
    given: &[Given<'_>],
    details: &Details<'_>,
) -> RecordOutcome {
    let outcome = record(plan, || process, |inputs, fields| decode(given, inputs, fields));
    if let RecordOutcome::Noted(notes) = outcome {
        keep(plan, notes, |inputs, fields| decode(given, inputs, fields), details);
    }
    outcome
}

pub fn decode<'a>(
    given: &[Given<'a>],
    inputs: &Inputs,
    fields: &mut Fields<'a>,
) -> Result<(), Reject> {
    for input in &inputs.measurements {
        match given[input.at] {
            Given::Number(number) => fields.set_number(input.at, number, &input.scale)?,
            Given::Absent => input.absent?,
            Given::Negative => return Err(Reject::NegativeMeasurement),
            _ => return Err(Reject::InvalidMeasurement),
        }
    }
    for input in &inputs.texts {
        if input.unless.is_some_and(|other| fields.is_given(other)) {
            continue;
        }
        match given[input.at] {
            Given::Text(text) => fields.set_text(input.at, text.as_bytes()),
            Given::Bytes(bytes) => fields.set_text(input.at, bytes),
            Given::Absent => input.absent?,
            _ => return Err(Reject::InvalidMetadata),
        }
    }
    for input in &inputs.flags {
        match given[input.at] {
            Given::Flag(flag) => fields.set_flag(input, flag),
            Given::Absent => fields.set_flag(input, input.absent?),
            _ => return Err(Reject::InvalidMetadata),
        }
    }
    for input in &inputs.choices {
        match given[input.at] {
            Given::Text(text) => fields.set_choice(input.at, text.as_bytes(), &input.words),
            Given::Absent => return Err(Reject::MissingMetadata),
            _ => return Err(Reject::InvalidMetadata),
        }
    }
    for &at in &inputs.processes {
        if let Given::Process(process) = given[at] {
            fields.set_process(at, process);
        }
    }
    Ok(())
}

/// What a counter of a series says for one value of each of its dimensions.
pub fn counted(series: &Series, counter: &Counter, values: &[&str]) -> u64 {
    let mut cells: Vec<_> = counter.cells().collect();
    for (dimension, value) in counter.dimensions.iter().zip(values) {
        let with_value: Vec<_> = counter.cells_where(&dimension.name, value).collect();
        cells.retain(|cell| with_value.contains(cell));
    }
    let [cell] = cells[..] else {
        panic!("{values:?} select {} cells of {}", cells.len(), counter.name);
    };
    series.lanes().sum(cell)
}

/// The label values of a series.
pub fn labels(series: &Series) -> Vec<String> {
    series.labels().values().map(str::to_owned).collect()
}

type Job = Box<dyn FnOnce() + Send>;

/// Threads that run what they are told to and sleep in between, their caches warm.
pub struct Crew {
    threads: Vec<(mpsc::Sender<Job>, JoinHandle<()>)>,
}

impl Crew {
    pub fn new(threads: usize) -> Self {
        let threads = (0..threads).map(|_| {
            let (sender, jobs) = mpsc::channel::<Job>();
            let thread = std::thread::spawn(move || jobs.into_iter().for_each(|job| job()));
            (sender, thread)
        });
        Self { threads: threads.collect() }
    }

    pub fn size(&self) -> usize {
        self.threads.len()
    }

    /// Runs a job on a thread and waits for what it returns.
    pub fn run<R: Send + 'static>(
        &self,
        thread: usize,
        job: impl FnOnce() -> R + Send + 'static,
    ) -> R {
        self.start(thread, job).recv().unwrap()
    }

    /// Starts a job on a thread; what it returns will be in the channel.
    pub fn start<R: Send + 'static>(
        &self,
        thread: usize,
        job: impl FnOnce() -> R + Send + 'static,
    ) -> mpsc::Receiver<R> {
        let (sender, result) = mpsc::channel();
        let job = move || drop(sender.send(job()));
        self.threads[thread].0.send(Box::new(job)).unwrap();
        result
    }

    /// Waits for the threads to end, which gives their numbers and caches back.
    pub fn end(self) {
        for (sender, thread) in self.threads {
            drop(sender);
            thread.join().unwrap();
        }
    }
}
