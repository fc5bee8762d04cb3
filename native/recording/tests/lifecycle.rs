//! What leaves an instance by stop, reset or retirement is gone when the call returns, and nothing
//! else is.
#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::sync::{Arc, Barrier, Mutex, MutexGuard, PoisonError, Weak};

use telemetry_common::thread_number::set_exclusive_lanes;
use telemetry_recording::local::RecordOutcome;
use telemetry_recording::series::Series;
use telemetry_testing::{Calls, Crew, RunningCalls};

/// Held by each test: while one instance stops, its thread may for a moment hold what it took out
/// of the caches, series of other instances included.
static ALONE: Mutex<()> = Mutex::new(());

fn alone() -> MutexGuard<'static, ()> {
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// All series, without keeping them alive.
fn watch(running: &RunningCalls) -> Vec<Weak<Series>> {
    running.calls().series_with_overflow().iter().map(Arc::downgrade).collect()
}

fn alive(series: &[Weak<Series>]) -> usize {
    series.iter().filter(|series| series.strong_count() > 0).count()
}

fn wait_until(condition: impl Fn() -> bool) {
    while !condition() {
        std::thread::yield_now();
    }
}

/// Records two methods and one over the limit on every thread of a crew.
fn warm_up(crew: &Crew, running: &Arc<RunningCalls>) {
    for thread in 0..crew.size() {
        let running = Arc::clone(running);
        crew.run(thread, move || {
            for method in ["a", "b", "over the limit"] {
                assert_eq!(running.call(method, 1), RecordOutcome::Recorded);
            }
        });
    }
}

#[test]
fn stop_frees_the_series_that_sleeping_threads_have_cached_and_ends_recording() {
    let _alone = alone();
    let crew = Crew::new(4);
    let running = Arc::new(Calls { series_limit: 2, ..Calls::default() }.start());
    warm_up(&crew, &running);
    let series = watch(&running);
    assert_eq!(alive(&series), 3);

    running.instance.stop();

    assert_eq!(alive(&series), 0);
    for thread in 0..crew.size() {
        let on_thread = Arc::clone(&running);
        let outcome = crew.run(thread, move || on_thread.call("a", 1));
        assert_eq!(outcome, RecordOutcome::Stopped);
    }
    assert_eq!(running.total(), 0);
    assert_eq!(running.calls().series_count(), 0);
}

#[test]
fn dropping_an_instance_stops_it() {
    let _alone = alone();
    let running = Calls::default().start();
    running.call("a", 1);
    let (plan, series) = (running.plans[0], watch(&running));
    drop(running);
    assert_eq!(alive(&series), 0);
    assert_eq!(telemetry_testing::send(plan, &[]), RecordOutcome::Stopped);
}

#[test]
fn once_stop_has_returned_no_record_succeeds() {
    let _alone = alone();
    const THREADS: usize = 4;
    for _ in 0..8 {
        let running = Calls { series_limit: 2, ..Calls::default() }.start();
        let (recorded, stopped) = (AtomicU64::new(0), AtomicBool::new(false));
        let (before, after) = std::thread::scope(|scope| {
            for thread in 0..THREADS {
                let (running, recorded, stopped) = (&running, &recorded, &stopped);
                scope.spawn(move || {
                    let own = format!("own-{thread}");
                    loop {
                        let was_stopped = stopped.load(SeqCst);
                        let outcomes = [running.call("a", 1), running.call(&own, 1)];
                        if was_stopped {
                            assert_eq!(outcomes, [RecordOutcome::Stopped; 2]);
                            break;
                        }
                        recorded.fetch_add(1, SeqCst);
                        std::thread::yield_now();
                    }
                });
            }
            wait_until(|| recorded.load(SeqCst) >= 200);
            let series = watch(&running);
            let before = alive(&series);
            running.instance.stop();
            let after = alive(&series) + running.calls().series_with_overflow().len();
            stopped.store(true, SeqCst);
            (before, after)
        });
        assert!(before >= 2, "nothing was watched");
        assert_eq!(after, 0);
        assert_eq!(running.total(), 0);
    }
}

#[test]
fn a_stopped_instance_has_no_series_whatever_a_sweep_does_meanwhile() {
    let _alone = alone();
    let methods: Vec<_> = (0..100).map(|method| format!("m{method}")).collect();
    for _ in 0..30 {
        let running = Calls::default().start();
        let (events, stopped) = (AtomicU64::new(0), AtomicBool::new(false));
        std::thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| {
                    while !stopped.load(SeqCst) {
                        methods.iter().for_each(|method| {
                            running.call(method, 1);
                        });
                        events.fetch_add(methods.len() as u64, SeqCst);
                        std::thread::yield_now();
                    }
                });
            }
            scope.spawn(|| {
                let mut now_ms = 0;
                while !stopped.load(SeqCst) {
                    now_ms += 1;
                    running.instance.retire_idle(telemetry_testing::moment(now_ms), 0);
                }
            });
            wait_until(|| events.load(SeqCst) >= 1_000);
            running.instance.stop();
            stopped.store(true, SeqCst);
        });
        assert_eq!(running.calls().series_with_overflow().len(), 0);
        assert_eq!(running.calls().series_count(), 0);
    }
}

#[test]
fn stop_leaves_other_instances_alone() {
    let _alone = alone();
    let crew = Crew::new(2);
    let stopped = Arc::new(Calls::default().start());
    let other = Arc::new(Calls::default().start());
    for running in [&stopped, &other] {
        warm_up(&crew, running);
    }
    stopped.instance.stop();
    warm_up(&crew, &other);
    for method in ["a", "b", "over the limit"] {
        assert_eq!(other.count_of(method), 4);
    }
}

/// More of them than a thread's cache of plans has places, one after the other and all at once.
#[test]
fn a_thread_tells_hundreds_of_instances_apart() {
    let _alone = alone();
    let instances: Vec<_> = (0..300).map(|_| Calls::default().start()).collect();
    for round in 0..3 {
        for (number, running) in instances.iter().enumerate() {
            if number % 3 == 0 && round == 1 {
                running.instance.stop();
            }
            for _ in 0..=number % 7 {
                running.call("m", number as u64);
            }
        }
    }
    for (number, running) in instances.iter().enumerate() {
        let rounds = if number % 3 == 0 { 0 } else { 3 };
        assert_eq!(running.total(), rounds * (number as u64 % 7 + 1));
    }
}

#[test]
fn reset_forgets_what_came_before_and_keeps_what_comes_after() {
    let _alone = alone();
    const THREADS: usize = 4;
    const EVENTS: u64 = 500;
    set_exclusive_lanes(2);
    for _ in 0..8 {
        let running = Calls { series_limit: 3, ..Calls::default() }.start();
        let [before, total, after] = [(); 3].map(|()| AtomicU64::new(0));
        let [resetting, reset, done] = [(); 3].map(|()| AtomicBool::new(false));
        let left = std::thread::scope(|scope| {
            for thread in 0..THREADS {
                let running = &running;
                let (before, total, after) = (&before, &total, &after);
                let (resetting, reset, done) = (&resetting, &reset, &done);
                scope.spawn(move || {
                    let methods = ["a".to_owned(), format!("own-{thread}"), "b".to_owned()];
                    for method in methods.iter().cycle() {
                        let was_reset = reset.load(SeqCst);
                        running.call(method, 1);
                        total.fetch_add(1, SeqCst);
                        if was_reset {
                            after.fetch_add(1, SeqCst);
                        }
                        if !resetting.load(SeqCst) {
                            before.fetch_add(1, SeqCst);
                        }
                        if done.load(SeqCst) {
                            break;
                        }
                        std::thread::yield_now();
                    }
                });
            }
            wait_until(|| before.load(SeqCst) >= EVENTS);
            let series = watch(&running);
            resetting.store(true, SeqCst);
            running.instance.reset(telemetry_testing::NOW);
            let left = alive(&series);
            reset.store(true, SeqCst);
            wait_until(|| after.load(SeqCst) >= EVENTS);
            done.store(true, SeqCst);
            left
        });
        assert_eq!(left, 0, "series from before the reset are alive");
        let [before, total, after] = [before, total, after].map(AtomicU64::into_inner);
        let reported = running.total();
        assert!(after <= reported, "{reported} reported, {after} came after the reset");
        assert!(reported <= total - before, "{reported} of {total} reported, {before} were before");
        let series = running.calls().series().len();
        assert_eq!(running.calls().series_count(), series, "slots were lost");
        assert!((1..=3).contains(&series));
    }
}

#[test]
fn a_series_retires_when_its_time_without_events_is_over_and_not_before() {
    let _alone = alone();
    const TIMEOUT: u64 = 1_000;
    let crew = Crew::new(3);
    let running = Arc::new(Calls { series_limit: 2, ..Calls::default() }.start());
    let retire = |now_ms| running.instance.retire_idle(telemetry_testing::moment(now_ms), TIMEOUT);
    warm_up(&crew, &running);
    let series = watch(&running);
    let live = running.find("b").unwrap().0;

    assert_eq!(retire(5_000), 0, "both had events before this sweep");
    running.call("b", 7);
    assert_eq!(retire(5_999), 0, "a millisecond is left");
    assert_eq!(retire(6_000), 1, "a is idle");
    assert_eq!(running.find("a").map(|_| ()), None);
    assert_eq!(alive(&series), 2, "b and the overflow series stay");
    assert_eq!(running.calls().series_count(), 1);
    let (same, _) = running.find("b").unwrap();
    assert!(Arc::ptr_eq(&same, &live));
    assert_eq!(running.count(&same), 4);

    running.call("newcomer", 1);
    assert_eq!(running.count_of("newcomer"), 1, "the slot is free again");
    for thread in 0..crew.size() {
        let on_thread = Arc::clone(&running);
        crew.run(thread, move || on_thread.call("b", 7));
    }
    assert_eq!(running.count(&live), 7, "caches that were dropped find the series again");

    assert_eq!(retire(7_000), 0);
    assert_eq!(retire(8_000), 2);
    assert_eq!(running.calls().series_count(), 0);
    assert_eq!(running.total(), 3, "what went to the overflow series stays there");
}

/// Sweeps race with events for the series that they retire. An event that came to a series on its
/// way out must be in its successor: of every method, what was recorded in this round is there in
/// any case, and what was there before either still is, or has gone with one of the retired series.
fn sweep_while_recording(spare_slots: usize) {
    const TIMEOUT: u64 = 1_000;
    const THREADS: usize = 3;
    const METHODS: usize = 400;
    const ROUNDS: u64 = 30;
    set_exclusive_lanes(2);
    let crew = Crew::new(THREADS);
    let running =
        Arc::new(Calls { series_limit: METHODS + 1 + spare_slots, ..Calls::default() }.start());
    let methods: Arc<Vec<_>> = Arc::new((0..METHODS).map(|method| format!("m{method}")).collect());
    running.call("live", 1);
    let live = running.find("live").unwrap().0;

    let mut now_ms = 0;
    let mut counts = [0; METHODS];
    let mut live_count = 1;
    for round in 0..ROUNDS {
        now_ms += 1;
        assert_eq!(running.instance.retire_idle(telemetry_testing::moment(now_ms), TIMEOUT), 0);
        now_ms += TIMEOUT;
        running.call("live", 1);

        // How many events differs by round, so that a lost one cannot look like one retired.
        let passes = round % 3 + 1;
        let barrier = Arc::new(Barrier::new(THREADS + 1));
        let events: Vec<_> = (0..THREADS)
            .map(|thread| {
                let (running, methods) = (Arc::clone(&running), Arc::clone(&methods));
                let barrier = Arc::clone(&barrier);
                crew.start(thread, move || {
                    barrier.wait();
                    for _ in 0..passes {
                        for step in 0..METHODS {
                            let method = &methods[(step + thread * METHODS / THREADS) % METHODS];
                            assert_eq!(running.call(method, round), RecordOutcome::Recorded);
                        }
                        running.call("live", 1);
                    }
                })
            })
            .collect();
        barrier.wait();
        let retired = running.instance.retire_idle(telemetry_testing::moment(now_ms), TIMEOUT);
        events.into_iter().for_each(|events| events.recv().unwrap());

        let new = THREADS as u64 * passes;
        let mut gone = 0;
        for (method, before) in methods.iter().zip(&mut counts) {
            let count = running.count_of(method);
            if count == new && *before > 0 {
                gone += 1;
            } else {
                assert_eq!(count, *before + new, "{method} in round {round}");
            }
            *before = count;
        }
        assert!(gone <= retired, "{gone} series began anew, {retired} were retired");
        live_count += new + 1;
        assert_eq!(running.count(&live), live_count);
        assert_eq!(running.calls().series_count(), METHODS + 1);
        assert_eq!(running.calls().series().len(), METHODS + 1);
    }
    assert!(Arc::ptr_eq(&live, &running.find("live").unwrap().0));
    assert_eq!(running.calls().overflow_total(), 0);
}

#[test]
fn no_event_is_lost_to_a_sweep() {
    let _alone = alone();
    sweep_while_recording(1_000);
}

#[test]
fn no_event_is_counted_as_overflow_because_of_a_sweep() {
    let _alone = alone();
    sweep_while_recording(0);
}
