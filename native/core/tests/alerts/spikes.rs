//! Spikes against a count of all errors.

use std::collections::BTreeMap;
use std::sync::{Arc, Barrier};

use proptest::collection::vec;
use proptest::prelude::*;
use telemetry_core::spike::{
    Cause, CurrentSpike, ErrorSpike, SpikeChange, SpikeOver, SpikeSpec, Spikes,
};

use crate::common::cases;
use crate::{ALLOCATIONS, Clock, KEY_LIMIT, MANY, START_MS, When, assert_bounded, key, when};

const KINDS: [&str; 3] = ["error", "exit", "throw"];

fn cause_text(cause: usize) -> (&'static str, String) {
    (KINDS[cause % KINDS.len()], format!("reason {cause:02}"))
}

#[derive(Clone, Debug)]
enum SpikeStep {
    Error { key: usize, cause: usize },
    Sweep,
    Current,
}

fn spike_steps() -> impl Strategy<Value = Vec<(When, SpikeStep)>> {
    let step = prop_oneof![
        12 => (0..3_usize, 0..12_usize).prop_map(|(key, cause)| SpikeStep::Error { key, cause }),
        1 => Just(SpikeStep::Sweep),
        1 => Just(SpikeStep::Current),
    ];
    vec((when(), step), 1..150)
}

/// All errors that ever came, and every question answered by counting them.
struct SpikeModel {
    threshold: usize,
    window_ms: u64,
    swept_ms: u64,
    keys: BTreeMap<usize, ModelErrors>,
}

#[derive(Default)]
struct ModelErrors {
    /// Times and causes.
    all: Vec<(u64, usize)>,
    /// Index of the first error of the spike that is on.
    spike: Option<usize>,
}

fn tally(errors: &[(u64, usize)]) -> Vec<Cause> {
    let mut counts = BTreeMap::<_, u64>::new();
    for (_, cause) in errors {
        *counts.entry(cause_text(*cause)).or_default() += 1;
    }
    let cause = |((kind, reason), count): ((&str, String), _)| Cause {
        kind: kind.to_owned(),
        reason,
        count,
    };
    let mut causes: Vec<_> = counts.into_iter().map(cause).collect();
    // Stable: equal counts stay in the order of their text.
    causes.sort_by_key(|cause| std::cmp::Reverse(cause.count));
    causes.truncate(8);
    causes
}

impl SpikeModel {
    fn window<'a>(&self, errors: &'a [(u64, usize)], now_ms: u64) -> &'a [(u64, usize)] {
        let past = |&&(at_ms, _): &&(u64, usize)| at_ms + self.window_ms <= now_ms;
        &errors[errors.iter().take_while(past).count()..]
    }

    fn now(&self, errors: &ModelErrors, now_ms: u64) -> u64 {
        let newest_ms = errors.all.last().map_or(0, |error| error.0);
        now_ms.max(self.swept_ms).max(newest_ms)
    }

    /// The first moment with fewer than half the threshold in the window, looking at each.
    fn over_ms(&self, errors: &ModelErrors, now_ms: u64) -> Option<u64> {
        errors.spike?;
        let last_ms = errors.all.last()?.0;
        (last_ms..=now_ms)
            .find(|&moment_ms| 2 * self.window(&errors.all, moment_ms).len() < self.threshold)
    }

    fn end(&mut self, number: usize, now_ms: u64) -> Option<SpikeOver> {
        let errors = &self.keys[&number];
        let over_ms = self.over_ms(errors, self.now(errors, now_ms))?;
        let of_spike = &errors.all[errors.spike?..];
        let (first_ms, last_ms) = (of_spike.first()?.0, of_spike.last()?.0);
        let over = SpikeOver {
            key: key(number),
            total: of_spike.len() as u64,
            first_ms,
            last_ms,
            over_ms,
            duration_ms: over_ms - first_ms,
            causes: tally(of_spike),
        };
        self.keys.get_mut(&number)?.spike = None;
        Some(over)
    }

    fn record(&mut self, number: usize, cause: usize, now_ms: u64) -> SpikeChange {
        self.keys.entry(number).or_default();
        let over = self.end(number, now_ms);
        let now_ms = self.now(&self.keys[&number], now_ms);
        let mut errors = self.keys.remove(&number).unwrap();
        errors.all.push((now_ms, cause));
        let window = self.window(&errors.all, now_ms);
        let starts = errors.spike.is_none() && window.len() >= self.threshold;
        let spike = starts.then(|| ErrorSpike {
            key: key(number),
            error_count: window.len() as u64,
            causes: tally(window),
            first_ms: window[0].0,
            last_ms: now_ms,
        });
        if starts {
            errors.spike = Some(errors.all.len() - window.len());
        }
        self.keys.insert(number, errors);
        SpikeChange { over, spike }
    }

    fn sweep(&mut self, now_ms: u64) -> Vec<SpikeOver> {
        self.swept_ms = self.swept_ms.max(now_ms);
        let numbers: Vec<_> = self.keys.keys().copied().collect();
        let mut ended: Vec<_> =
            numbers.into_iter().filter_map(|number| self.end(number, now_ms)).collect();
        ended.sort_by_key(|over| over.over_ms);
        ended
    }

    fn current(&self, now_ms: u64) -> Vec<CurrentSpike> {
        let current = self.keys.iter().filter_map(|(number, errors)| {
            let now_ms = self.now(errors, now_ms);
            let of_spike = &errors.all[errors.spike?..];
            let in_window = self.window(&errors.all, now_ms).len().min(self.threshold);
            self.over_ms(errors, now_ms).is_none().then(|| CurrentSpike {
                key: key(*number),
                error_count: in_window as u64,
                total: of_spike.len() as u64,
                first_ms: of_spike[0].0,
                last_ms: of_spike[of_spike.len() - 1].0,
                causes: tally(of_spike),
            })
        });
        let mut current: Vec<_> = current.collect();
        current.sort_by_key(|spike| spike.first_ms);
        current
    }
}

proptest! {
    #![proptest_config(cases(300))]

    #[test]
    fn spikes_are_those_found_by_counting_all_errors(
        threshold in 1..8_usize,
        window_ms in 1..60_u64,
        steps in spike_steps(),
    ) {
        let spikes = Spikes::new(SpikeSpec { threshold, window_ms, key_limit: 3 });
        let mut model =
            SpikeModel { threshold, window_ms, swept_ms: 0, keys: BTreeMap::new() };
        let mut clock = Clock(START_MS);
        let (mut started, mut ended) = (0, Vec::new());
        for (when, step) in steps {
            let now_ms = clock.read(when);
            match step {
                SpikeStep::Error { key: number, cause } => {
                    let (kind, reason) = cause_text(cause);
                    let change = spikes.record(&key(number), kind, &reason, now_ms);
                    prop_assert_eq!(&change, &model.record(number, cause, now_ms));
                    started += usize::from(change.spike.is_some());
                    ended.extend(change.over);
                }
                SpikeStep::Sweep => {
                    let over = spikes.sweep(now_ms);
                    prop_assert_eq!(&over, &model.sweep(now_ms));
                    ended.extend(over);
                }
                SpikeStep::Current => {
                    prop_assert_eq!(spikes.current(now_ms), model.current(now_ms));
                }
            }
        }
        let last = spikes.sweep(clock.0 + 1_000);
        prop_assert_eq!(&last, &model.sweep(clock.0 + 1_000));
        ended.extend(last);
        prop_assert_eq!(started, ended.len());
        prop_assert_eq!(spikes.untracked(), 0);
        ended.reverse();
        ended.truncate(100);
        prop_assert_eq!(spikes.recent(), ended);
    }
}

fn spikes(threshold: usize, window_ms: u64, key_limit: usize) -> Spikes {
    Spikes::new(SpikeSpec { threshold, window_ms, key_limit })
}

#[test]
fn a_rate_around_the_threshold_is_one_spike() {
    let spikes = spikes(10, 100, 1);
    let mut started = 0;
    // Alternately a little more and a little less than ten errors in 100 ms.
    let mut now_ms = 0;
    for round in 0..50 {
        for _ in 0..20 {
            now_ms += if round % 2 == 0 { 9 } else { 13 };
            let change = spikes.record(&key(0), "error", "timeout", now_ms);
            started += usize::from(change.spike.is_some());
            assert_eq!(change.over, None);
        }
    }
    assert_eq!(started, 1);
    assert_eq!(spikes.sweep(u64::MAX)[0].last_ms, now_ms);
}

#[test]
fn eight_threads_start_one_spike_and_no_error_is_lost() {
    const THREADS: u64 = 8;
    const ERRORS: u64 = 5_000;
    let spikes = Arc::new(spikes(1_000, 50, 10));
    let barrier = Arc::new(Barrier::new(THREADS as usize));
    let threads = (0..THREADS).map(|thread| {
        let (spikes, barrier) = (Arc::clone(&spikes), Arc::clone(&barrier));
        std::thread::spawn(move || {
            barrier.wait();
            let reason = format!("reason {thread}");
            let record = |_: &u64| spikes.record(&key(0), "error", &reason, 7).spike.is_some();
            (0..ERRORS).filter(record).count()
        })
    });
    let threads: Vec<_> = threads.collect();
    let started: usize = threads.into_iter().map(|thread| thread.join().unwrap()).sum();
    assert_eq!(started, 1);
    let over = spikes.sweep(57);
    assert_eq!((over.len(), over[0].total, over[0].over_ms), (1, THREADS * ERRORS, 57));
    assert!(over[0].causes.iter().all(|cause| cause.count == ERRORS));
    assert_eq!(over[0].causes.len(), THREADS as usize);
}

#[test]
fn a_known_key_and_cause_allocate_nothing() {
    let spikes = spikes(50, 100, 1);
    let key = key(0);
    let reasons: Vec<String> = (0..20).map(|number| format!("reason {number}")).collect();
    // Once around, with more causes than are counted, so that all that can grow has grown.
    (0..200).for_each(|at| drop(spikes.record(&key, "error", &reasons[at % 20], at as u64)));
    let before = ALLOCATIONS.get();
    (200..10_000).for_each(|at| drop(spikes.record(&key, "error", &reasons[at % 20], at as u64)));
    assert_eq!(ALLOCATIONS.get(), before);
    assert_eq!(spikes.current(10_000)[0].total, 10_000);
}

#[test]
fn a_frequent_cause_is_counted_however_many_rare_ones_there_are() {
    let spikes = spikes(40, 1_000, 1);
    let mut frequent = 0;
    for number in 0..10_000_u64 {
        let rare = format!("rare {number}");
        let is_frequent = number >= 2_000 && number % 4 == 0;
        frequent += u64::from(is_frequent);
        let reason = if is_frequent { "frequent" } else { &rare };
        spikes.record(&key(0), "error", reason, number);
    }
    let current = spikes.current(10_000);
    let cause = current[0].causes.iter().find(|cause| cause.reason == "frequent").unwrap();
    assert!((frequent..=frequent + current[0].total / 16).contains(&cause.count), "{cause:?}");
}

#[test]
fn a_cause_that_is_counted_stays_known_when_its_errors_are_no_longer_kept() {
    let spikes = spikes(10, 1_000, 1);
    (0..500).for_each(|_| drop(spikes.record(&key(0), "error", "frequent", 0)));
    (0..200).for_each(|at| drop(spikes.record(&key(0), "error", &format!("rare {at}"), 0)));
    let current = spikes.current(0);
    let Cause { reason, count, .. } = &current[0].causes[0];
    assert_eq!((reason.as_str(), *count), ("frequent", 500));
}

#[test]
fn more_causes_than_a_key_knows_are_other() {
    let spikes = spikes(100, 1_000, 1);
    spikes.record(&key(0), "other", "other", 0);
    for number in 0..98 {
        spikes.record(&key(0), "error", &format!("reason {number:02}"), 0);
    }
    let spike = spikes.record(&key(0), "other", "other", 0).spike.unwrap();
    let causes: Vec<_> =
        spike.causes.iter().map(|cause| (cause.reason.as_str(), cause.count)).collect();
    assert_eq!(causes[..2], [("other", 100 - 32), ("reason 00", 1)]);
    assert_eq!(causes.len(), 8);
}

#[test]
fn causes_of_earlier_spikes_make_room_for_others() {
    let spikes = spikes(32, 1_000, 1);
    for round in 0..10 {
        let record = |cause| {
            let reason = format!("reason {round}-{cause}");
            spikes.record(&key(0), "error", &reason, round * 2_000).spike
        };
        let spike = (0..32).find_map(record).unwrap();
        assert!(spike.causes.iter().all(|cause| cause.count == 1), "{spike:?}");
    }
}

#[test]
fn long_text_is_cut() {
    let spikes = spikes(1, 1_000, 1);
    let spike = spikes.record(&key(0), &"k".repeat(300), &"é".repeat(300), 0).spike.unwrap();
    assert_eq!((spike.causes[0].kind.len(), spike.causes[0].reason.len()), (256, 256));
}

#[test]
fn a_key_without_errors_in_the_window_makes_room() {
    let spikes = spikes(2, 160, 1);
    let record = |number, now_ms| drop(spikes.record(&key(number), "error", "timeout", now_ms));
    record(0, 0);
    record(1, 155);
    assert_eq!(spikes.untracked(), 1);
    // Searched 5 ms ago, and a 16th of the window is 10 ms.
    record(1, 160);
    assert_eq!(spikes.untracked(), 2);
    record(1, 165);
    record(1, 165);
    assert_eq!((spikes.untracked(), spikes.current(165).len()), (2, 1));
    // A spike that is over keeps its place until it was told.
    record(0, 1_000);
    assert_eq!(spikes.untracked(), 3);
    assert_eq!(spikes.sweep(1_000).len(), 1);
    record(0, 1_000);
    assert_eq!(spikes.untracked(), 3);
}

#[test]
fn a_specification_out_of_range_is_brought_into_range() {
    assert!(spikes(0, 0, 1).record(&key(0), "error", "timeout", 5).spike.is_some());
    let most = spikes(usize::MAX, 10, 1);
    let started = (0..1_000).filter_map(|_| most.record(&key(0), "error", "timeout", 5).spike);
    assert_eq!(started.map(|spike| spike.error_count).collect::<Vec<_>>(), [1_000]);
    let none = spikes(1, 10, 0);
    none.record(&key(0), "error", "timeout", 5);
    assert_eq!((none.untracked(), none.current(5).len()), (1, 0));
}

#[test]
fn clear_forgets_spikes_and_tells_nothing() {
    let spikes = spikes(1, 10, 1);
    spikes.record(&key(0), "error", "timeout", 5);
    spikes.sweep(50);
    spikes.record(&key(0), "error", "timeout", 60);
    spikes.record(&key(1), "error", "timeout", 60);
    spikes.clear();
    assert_eq!((spikes.sweep(100), spikes.recent(), spikes.untracked()), (vec![], vec![], 0));
    assert_eq!(spikes.memory_bytes(), 0);
}

#[test]
fn spikes_are_readable_as_json() {
    let spikes = spikes(1, 10, 1);
    let json = serde_json::to_value(spikes.record(&key(7), "error", "timeout", 5)).unwrap();
    assert_eq!(json["spike"]["key"], serde_json::json!(["method-7", "Class"]));
}

#[test]
fn a_million_keys_with_errors_stay_within_bounds() {
    for keys_per_ms in [10, MANY] {
        let spikes = spikes(2, 50, KEY_LIMIT);
        let record = |number| {
            drop(spikes.record(&key(number), "error", "timeout", (number / keys_per_ms) as u64));
        };
        assert_bounded(KEY_LIMIT * 750, record, || spikes.memory_bytes());
    }
}
