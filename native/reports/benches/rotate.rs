//! What ending a slice of time costs, beside a plain sum over as many counters as the series have
//! allocated; what a report over windows costs; and what ticks cost those who record.
//! `cargo bench -p telemetry_reports --bench rotate`.
#![allow(clippy::unwrap_used, reason = "a failure ends the benchmark")]

mod common;

use std::cell::RefCell;
use std::hint::black_box;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::{Duration, Instant};

use criterion::measurement::WallTime;
use criterion::{BenchmarkGroup, BenchmarkId, Criterion};
use telemetry_instance::instance::Instance;
use telemetry_recording::plan::PlanId;
use telemetry_reports::report::Report;
use telemetry_windows::window::Window;

use common::{Emitter, SLICE_MS, at, start};

/// Emitters on threads of their own, each of which has a lane in every series.
struct Emitters(Vec<(Sender<usize>, Receiver<()>)>);

impl Emitters {
    fn new(plan: PlanId, series: usize, threads: usize) -> Self {
        let emitter = |_| {
            let (order, orders) = channel();
            let (done, dones) = channel();
            std::thread::spawn(move || {
                let mut emitter = Emitter::new(plan, series);
                for events in orders {
                    emitter.round(events);
                    let _ = done.send(());
                }
            });
            (order, dones)
        };
        Self((0..threads).map(emitter).collect())
    }

    /// So many events of every series from each thread.
    fn round(&mut self, events: usize) {
        self.0.iter().for_each(|(order, _)| order.send(events).unwrap());
        self.0.iter().for_each(|(_, done)| done.recv().unwrap());
    }
}

/// As many counters as series have, one beside the other.
struct Plain {
    counters: Vec<u32>,
    cells: Vec<u64>,
}

impl Plain {
    /// As many as the series of an instance have allocated in `lanes` lanes: chunks of 128 counters,
    /// and their cells.
    fn like(instance: &Instance, lanes: usize) -> Self {
        let family = &instance.families()[0];
        let mut plain = Self { counters: Vec::new(), cells: Vec::new() };
        for series in family.series() {
            for histogram in 0..3 {
                let counts = series.lanes().counts(histogram);
                let mut chunks: Vec<_> = counts.iter().map(|(at, _)| at.chunk).collect();
                chunks.dedup();
                plain.counters.extend((0..lanes * chunks.len() * 128).map(|at| at as u32 % 3));
            }
            let cells = family.layout().shape().cells.next_multiple_of(16);
            plain.cells.extend((0..lanes * cells).map(|at| at as u64));
        }
        plain
    }

    fn sum(&self) -> u64 {
        let counters = self.counters.iter().map(|count| u64::from(*count)).sum::<u64>();
        counters + self.cells.iter().sum::<u64>()
    }

    fn bytes(&self) -> usize {
        size_of_val(&*self.counters) + size_of_val(&*self.cells)
    }
}

/// The shortest of several times: what it takes when nothing else runs.
fn shortest(times: &mut Vec<Duration>) -> Duration {
    times.sort_unstable();
    times.drain(..).next().unwrap_or_default()
}

fn group<'c>(criterion: &'c mut Criterion, name: &str) -> BenchmarkGroup<'c, WallTime> {
    let mut group = criterion.benchmark_group(name);
    group.sample_size(20);
    group.warm_up_time(Duration::from_millis(500)).measurement_time(Duration::from_secs(2));
    group
}

/// A benchmark whose setup is not measured. Returns the median time of one run.
fn bench(
    group: &mut BenchmarkGroup<'_, WallTime>,
    id: BenchmarkId,
    mut setup: impl FnMut(),
    mut run: impl FnMut(),
) -> Duration {
    let times = RefCell::new(Vec::new());
    group.bench_function(id, |bencher| {
        bencher.iter_custom(|runs| {
            let one = |_| {
                setup();
                let started = Instant::now();
                run();
                let time = started.elapsed();
                times.borrow_mut().push(time);
                time
            };
            (0..runs).map(one).sum()
        });
    });
    let mut times = times.into_inner();
    times.sort_unstable();
    times.get(times.len() / 2).copied().unwrap_or_default()
}

/// Prints how ending a slice compares with a plain sum over the same counters.
fn rotating(criterion: &mut Criterion) -> Vec<String> {
    let mut group = group(criterion, "rotate");
    let mut lines = Vec::new();
    for (series, lanes) in [(2_000, 1), (2_000, 2), (20_000, 1), (20_000, 2)] {
        // With room enough that no slices merge.
        let (instance, plan) = start(4 << 30);
        let mut emitters = Emitters::new(plan, series, lanes);
        // Enough that both have written to every chunk.
        emitters.round(100);
        let now_ms = RefCell::new(0);
        let tick = || {
            *now_ms.borrow_mut() += SLICE_MS;
            instance.tick(at(*now_ms.borrow()));
        };
        tick();
        let plain = Plain::like(&instance, lanes);
        let mib = plain.bytes() as f64 / f64::from(1 << 20);
        let sum = bench(
            &mut group,
            BenchmarkId::new(format!("plain_sum/{lanes}_lanes"), series),
            || emitters.round(1),
            || {
                black_box(black_box(&plain).sum());
            },
        );
        let id = |name: &str| BenchmarkId::new(format!("{name}/{lanes}_lanes"), series);
        let active = bench(&mut group, id("active"), || emitters.round(3), tick);
        let idle = bench(&mut group, id("idle"), || (), tick);
        lines.push(format!(
            "rotate {series} active in {lanes} lanes / plain sum: {:.1} ({:.2} ms / {:.2} ms for {mib:.0} MiB)",
            active.as_secs_f64() / sum.as_secs_f64(),
            active.as_secs_f64() * 1e3,
            sum.as_secs_f64() * 1e3,
        ));
        let of_one = idle.as_secs_f64() * 1e9 / series as f64;
        lines.push(format!("rotate {series} idle in {lanes} lanes: {of_one:.0} ns per series"));
    }
    lines
}

fn reporting(criterion: &mut Criterion) {
    let mut group = group(criterion, "report");
    let (instance, plan) = start(1 << 30);
    let mut emitter = Emitter::new(plan, 2_000);
    let mut now_ms = 0;
    for _ in 0..360 {
        emitter.round(5);
        now_ms += SLICE_MS;
        instance.tick(at(now_ms));
    }
    emitter.round(5);
    let now = at(now_ms);
    for (name, window) in [
        ("since_start", Window::SinceStart),
        ("last_60_s", Window::Last(60_000)),
        ("last_1_h", Window::Last(3_600_000)),
    ] {
        group.bench_function(BenchmarkId::new(name, 2_000), |bencher| {
            bencher.iter(|| Report::new(&instance, window, now));
        });
    }
}

/// How much longer two producers take for their events while slices end every 10 ms. Rounds with
/// and without alternate, so that whatever else the machine does meets both.
/// How long the thread has run, without the time in which others had the core: with two producers on
/// two cores, whoever ticks takes it from one of them.
fn time_on_cpu() -> Duration {
    let told = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap();
    Duration::from_nanos(told.split(' ').next().unwrap().parse().unwrap())
}

fn recording_while_ticking() -> String {
    const SERIES: usize = 100;
    const EVENTS: usize = 400_000;
    const ROUNDS: usize = 15;
    let (instance, plan) = start(64 << 20);
    let done = AtomicBool::new(false);
    let mut now_ms = 0;
    let mut round = |ticking: bool| {
        done.store(false, Relaxed);
        std::thread::scope(|scope| {
            let producing: Vec<_> = (0..2)
                .map(|_| {
                    scope.spawn(|| {
                        let mut emitter = Emitter::new(plan, SERIES);
                        emitter.round(50);
                        let before = time_on_cpu();
                        (0..EVENTS).for_each(|event| emitter.emit(event % SERIES));
                        time_on_cpu() - before
                    })
                })
                .collect();
            let ticking = ticking.then(|| {
                scope.spawn(|| {
                    while !done.load(Relaxed) {
                        now_ms += SLICE_MS;
                        instance.tick(at(now_ms));
                        std::thread::sleep(Duration::from_millis(10));
                    }
                })
            });
            let times: Vec<_> =
                producing.into_iter().map(|thread| thread.join().unwrap()).collect();
            done.store(true, Relaxed);
            ticking.into_iter().for_each(|thread| thread.join().unwrap());
            times.into_iter().max().unwrap()
        })
    };
    let (mut with, mut without) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        without.push(round(false));
        with.push(round(true));
    }
    let (with, without) = (shortest(&mut with), shortest(&mut without));
    format!(
        "recording while ticking / without: {:.2} ({:.0} ns / {:.0} ns per event)",
        with.as_secs_f64() / without.as_secs_f64(),
        with.as_secs_f64() * 1e9 / EVENTS as f64,
        without.as_secs_f64() * 1e9 / EVENTS as f64,
    )
}

fn main() {
    let mut criterion = Criterion::default().configure_from_args();
    let mut lines = rotating(&mut criterion);
    reporting(&mut criterion);
    lines.push(recording_while_ticking());
    criterion.final_summary();
    lines.iter().for_each(|line| println!("{line}"));
}
