//! Spikes against a count of all errors.

use std::collections::BTreeMap;
use std::sync::{Arc, Barrier};

use proptest::collection::vec;
use proptest::prelude::*;
use telemetry_instance::spike::{
    Cause, CurrentSpike, ErrorSpike, SpikeChange, SpikeOver, SpikeRepeats, SpikeSpec, Spikes, Swept,
};

use crate::{ALLOCATIONS, Clock, KEY_LIMIT, MANY, START_MS, When, assert_bounded, key, when};
use telemetry_testing::cases;

const KINDS: [&str; 3] = ["error", "exit", "throw"];

fn cause_text(cause: usize) -> (&'static str, String) {
    (KINDS[cause % KINDS.len()], format!("reason {cause:02}"))
}

#[derive(Clone, Debug)]
enum SpikeStep {
    /// After so many calls that were completed; `None` if that is not known.
    Error {
        key: usize,
        cause: usize,
        calls: Option<u64>,
    },
    /// Calls of a key are counted from 0 again.
    Restart {
        key: usize,
    },
    Sweep,
    Current,
}

fn spike_steps() -> impl Strategy<Value = Vec<(When, SpikeStep)>> {
    let calls = prop_oneof![12 => (0..6_u64).prop_map(Some), 3 => Just(Some(40)), 1 => Just(None)];
    let error = (0..3_usize, 0..12_usize, calls);
    let step = prop_oneof![
        36 => error.prop_map(|(key, cause, calls)| SpikeStep::Error { key, cause, calls }),
        1 => (0..3_usize).prop_map(|key| SpikeStep::Restart { key }),
        3 => Just(SpikeStep::Sweep),
        3 => Just(SpikeStep::Current),
    ];
    vec((when(), step), 1..150)
}

/// All errors that ever came, and every question answered by counting them.
struct SpikeModel {
    spec: SpikeSpec,
    swept_ms: u64,
    keys: BTreeMap<usize, ModelErrors>,
    /// All spikes that are over, repeats summed up, the latest last.
    recent: Vec<SpikeOver>,
}

#[derive(Clone, Copy)]
struct ModelError {
    at_ms: u64,
    cause: usize,
    calls: Option<u64>,
}

#[derive(Default)]
struct ModelErrors {
    all: Vec<ModelError>,
    spike: Option<ModelSpike>,
    signalled_ms: Option<u64>,
    /// Spikes that were not signalled since.
    repeats: u64,
}

#[derive(Clone, Copy)]
struct ModelSpike {
    /// Index of its first error, and of the one that started it.
    first: usize,
    started: usize,
    is_repeat: bool,
}

fn tally(errors: &[ModelError]) -> Vec<Cause> {
    let mut counts = BTreeMap::<_, u64>::new();
    for error in errors {
        *counts.entry(cause_text(error.cause)).or_default() += 1;
    }
    let cause = |((kind, reason), count): ((&str, String), _)| Cause {
        kind: kind.to_owned(),
        reason,
        count,
    };
    most_frequent(counts.into_iter().map(cause).collect())
}

fn most_frequent(mut causes: Vec<Cause>) -> Vec<Cause> {
    let text = |cause: &Cause| (cause.kind.clone(), cause.reason.clone());
    causes.sort_by_key(|cause| (std::cmp::Reverse(cause.count), text(cause)));
    causes.truncate(8);
    causes
}

/// The causes of two spikes, of each as far as it told.
fn sum(one: &[Cause], other: &[Cause]) -> Vec<Cause> {
    let mut counts = BTreeMap::<_, u64>::new();
    for Cause { kind, reason, count } in one.iter().chain(other) {
        *counts.entry((kind.clone(), reason.clone())).or_default() += count;
    }
    let cause = |((kind, reason), count)| Cause { kind, reason, count };
    most_frequent(counts.into_iter().map(cause).collect())
}

impl ModelErrors {
    fn last_ms(&self) -> u64 {
        self.all.last().map_or(0, |error| error.at_ms)
    }

    fn of_spike(&self, spike: ModelSpike) -> &[ModelError] {
        &self.all[spike.first..]
    }
}

impl SpikeModel {
    fn new(spec: SpikeSpec) -> Self {
        Self { spec, swept_ms: 0, keys: BTreeMap::new(), recent: Vec::new() }
    }

    fn window<'a>(&self, errors: &'a [ModelError], now_ms: u64) -> &'a [ModelError] {
        let past = |error: &&ModelError| error.at_ms + self.spec.window_ms <= now_ms;
        &errors[errors.iter().take_while(past).count()..]
    }

    /// Whether the newest errors in the window of the last, up to the threshold, are so many percent of
    /// the calls.
    fn are_percent(&self, errors: &[ModelError], percent: f64) -> bool {
        let window = self.window(errors, errors[errors.len() - 1].at_ms);
        let kept = &window[window.len().saturating_sub(self.spec.threshold)..];
        let totals: Option<Vec<u64>> = kept.iter().map(|error| error.calls).collect();
        match totals {
            Some(totals) if totals.is_sorted() => {
                let calls = totals[totals.len() - 1] - totals[0] + 1;
                100.0 * kept.len() as f64 >= percent * calls as f64
            }
            _ => true,
        }
    }

    fn now(&self, errors: &ModelErrors, now_ms: u64) -> u64 {
        now_ms.max(self.swept_ms).max(errors.last_ms())
    }

    fn holds_back(&self, errors: &ModelErrors, now_ms: u64) -> bool {
        errors.signalled_ms.is_some_and(|at_ms| now_ms < at_ms + self.spec.repeat_ms)
    }

    /// The first moment when few errors were in the window, or few of the calls, looking at each.
    fn over_ms(&self, errors: &ModelErrors, now_ms: u64) -> Option<u64> {
        let (spike, half) = (errors.spike?, self.spec.percent as f64 / 2.0);
        let confirms = |&last: &usize| self.are_percent(&errors.all[..=last], half);
        let confirmed = (spike.started..errors.all.len()).rfind(confirms)?;
        let confirmed_ms = errors.all[confirmed].at_ms;
        (errors.last_ms()..=now_ms).find(|&moment_ms| {
            2 * self.window(&errors.all, moment_ms).len() < self.spec.threshold
                || confirmed_ms + self.spec.window_ms <= moment_ms
        })
    }

    fn end(&mut self, number: usize, now_ms: u64) -> Option<(SpikeOver, bool)> {
        let errors = &self.keys[&number];
        let over_ms = self.over_ms(errors, self.now(errors, now_ms))?;
        let errors = self.keys.get_mut(&number)?;
        let spike = errors.spike.take()?;
        let of_spike = errors.of_spike(spike);
        let first_ms = of_spike[0].at_ms;
        let over = SpikeOver {
            key: key(number),
            total: of_spike.len() as u64,
            first_ms,
            last_ms: errors.last_ms(),
            over_ms,
            duration_ms: over_ms - first_ms,
            causes: tally(of_spike),
            repeats: 0,
        };
        Some((over, spike.is_repeat))
    }

    /// What is signalled of a spike that is over.
    fn keep(&mut self, (over, is_repeat): (SpikeOver, bool)) -> Option<SpikeOver> {
        if !is_repeat {
            self.recent.push(over.clone());
            return Some(over);
        }
        let place = self.recent.iter().rposition(|earlier| earlier.key == over.key).unwrap();
        let first = self.recent.remove(place);
        self.recent.push(SpikeOver {
            total: first.total + over.total,
            first_ms: first.first_ms,
            duration_ms: over.over_ms - first.first_ms,
            causes: sum(&first.causes, &over.causes),
            repeats: first.repeats + 1,
            ..over
        });
        None
    }

    fn record(
        &mut self,
        number: usize,
        cause: usize,
        calls: Option<u64>,
        now_ms: u64,
    ) -> SpikeChange {
        self.keys.entry(number).or_default();
        let ended = self.end(number, now_ms);
        let now_ms = self.now(&self.keys[&number], now_ms);
        let mut errors = self.keys.remove(&number).unwrap();
        errors.all.push(ModelError { at_ms: now_ms, cause, calls });
        let window = self.window(&errors.all, now_ms);
        let started = errors.spike.is_none()
            && window.len() >= self.spec.threshold
            && self.are_percent(&errors.all, self.spec.percent as f64);
        let of_spike = &window[window.len().saturating_sub(self.spec.threshold)..];
        let mut spike = ErrorSpike {
            key: key(number),
            error_count: of_spike.len() as u64,
            causes: tally(of_spike),
            first_ms: of_spike[0].at_ms,
            last_ms: now_ms,
            repeats: 0,
        };
        let is_repeat = started && self.holds_back(&errors, now_ms);
        if started {
            let (first, started) = (errors.all.len() - of_spike.len(), errors.all.len() - 1);
            errors.spike = Some(ModelSpike { first, started, is_repeat });
        }
        if is_repeat {
            errors.repeats += 1;
        } else if started {
            errors.signalled_ms = Some(now_ms);
            spike.repeats = std::mem::take(&mut errors.repeats);
        }
        self.keys.insert(number, errors);
        SpikeChange {
            over: ended.and_then(|ended| self.keep(ended)),
            started,
            spike: (started && !is_repeat).then_some(spike),
        }
    }

    fn sweep(&mut self, now_ms: u64) -> Swept {
        self.swept_ms = self.swept_ms.max(now_ms);
        let numbers: Vec<_> = self.keys.keys().copied().collect();
        let mut ended: Vec<_> =
            numbers.iter().filter_map(|&number| self.end(number, now_ms)).collect();
        ended.sort_by_key(|(over, _)| over.over_ms);
        let over = ended.into_iter().filter_map(|ended| self.keep(ended)).collect();
        let mut swept = Swept { over, ..Swept::default() };
        for number in numbers {
            let mut errors = self.keys.remove(&number).unwrap();
            let now_ms = self.now(&errors, now_ms);
            if !self.holds_back(&errors, now_ms) && errors.repeats > 0 {
                let repeats = std::mem::take(&mut errors.repeats);
                match errors.spike {
                    Some(spike) => {
                        let of_spike = errors.of_spike(spike);
                        swept.spikes.push(ErrorSpike {
                            key: key(number),
                            error_count: of_spike.len() as u64,
                            causes: tally(of_spike),
                            first_ms: of_spike[0].at_ms,
                            last_ms: errors.last_ms(),
                            repeats: repeats - 1,
                        });
                        errors.spike = Some(ModelSpike { is_repeat: false, ..spike });
                        errors.signalled_ms = Some(now_ms);
                    }
                    None => swept.repeats.push(SpikeRepeats { key: key(number), repeats }),
                }
            }
            self.keys.insert(number, errors);
        }
        swept.spikes.sort_by_key(|spike| spike.first_ms);
        swept
    }

    fn current(&self, now_ms: u64) -> Vec<CurrentSpike> {
        let current = self.keys.iter().filter_map(|(number, errors)| {
            let now_ms = self.now(errors, now_ms);
            let spike = errors.spike?;
            let of_spike = errors.of_spike(spike);
            let in_window = self.window(&errors.all, now_ms).len().min(self.spec.threshold);
            self.over_ms(errors, now_ms).is_none().then(|| CurrentSpike {
                key: key(*number),
                error_count: in_window as u64,
                total: of_spike.len() as u64,
                first_ms: of_spike[0].at_ms,
                last_ms: errors.last_ms(),
                causes: tally(of_spike),
                repeats: errors.repeats - u64::from(spike.is_repeat),
            })
        });
        let mut current: Vec<_> = current.collect();
        current.sort_by_key(|spike| spike.first_ms);
        current
    }
}

fn spike_spec() -> impl Strategy<Value = SpikeSpec> {
    let percent = prop_oneof![1 => Just(0), 3 => 1..=100_u64];
    let repeat_ms = prop_oneof![1 => Just(0), 3 => 1..600_u64];
    (1..8_usize, 1..60_u64, percent, repeat_ms).prop_map(
        |(threshold, window_ms, percent, repeat_ms)| SpikeSpec {
            threshold,
            window_ms,
            percent,
            repeat_ms,
            key_limit: 4,
        },
    )
}

proptest! {
    #![proptest_config(cases(600))]

    #[test]
    fn spikes_are_those_found_by_counting_all_errors_and_calls(
        spec in spike_spec(),
        steps in spike_steps(),
    ) {
        let spikes = Spikes::new(spec.clone());
        let mut model = SpikeModel::new(spec);
        let mut clock = Clock(START_MS);
        let mut totals = [0; 3];
        let (mut started, mut signalled, mut told, mut ended) = (0, 0, 0, 0);
        let count = |swept: &Swept| {
            let of_spikes = swept.spikes.iter().map(|spike| spike.repeats + 1);
            let of_repeats = swept.repeats.iter().map(|repeats| repeats.repeats);
            (of_spikes.chain(of_repeats).sum::<u64>(), swept.spikes.len(), swept.over.len())
        };
        for (when, step) in steps {
            let now_ms = clock.read(when);
            match step {
                SpikeStep::Error { key: number, cause, calls } => {
                    let (kind, reason) = cause_text(cause);
                    totals[number] += 1 + calls.unwrap_or(0);
                    let total = calls.map(|_| totals[number]);
                    let change = spikes.record(&key(number), kind, &reason, now_ms, || total);
                    prop_assert_eq!(&change, &model.record(number, cause, total, now_ms));
                    started += u64::from(change.started);
                    signalled += usize::from(change.spike.is_some());
                    told += change.spike.map_or(0, |spike| spike.repeats + 1);
                    ended += usize::from(change.over.is_some());
                }
                SpikeStep::Restart { key } => totals[key] = 0,
                SpikeStep::Sweep => {
                    let swept = spikes.sweep(now_ms);
                    prop_assert_eq!(&swept, &model.sweep(now_ms));
                    let (spikes, more_signalled, over) = count(&swept);
                    (told, signalled, ended) =
                        (told + spikes, signalled + more_signalled, ended + over);
                }
                SpikeStep::Current => {
                    prop_assert_eq!(spikes.current(now_ms), model.current(now_ms));
                }
            }
        }
        let last = spikes.sweep(clock.0 + 1_000);
        prop_assert_eq!(&last, &model.sweep(clock.0 + 1_000));
        let (last_spikes, last_signalled, last_over) = count(&last);
        // Every spike is told of, by itself or as a repeat, and every one that was signalled ends.
        prop_assert_eq!(started, told + last_spikes);
        prop_assert_eq!(signalled + last_signalled, ended + last_over);
        prop_assert_eq!(spikes.untracked(), 0);
        prop_assert_eq!(spikes.current(clock.0 + 1_000), vec![]);
        model.recent.reverse();
        model.recent.truncate(100);
        prop_assert_eq!(spikes.recent(), model.recent);
    }
}

fn spikes(threshold: usize, window_ms: u64, key_limit: usize) -> Spikes {
    Spikes::new(SpikeSpec { threshold, window_ms, percent: 0, repeat_ms: 0, key_limit })
}

/// Of calls nothing is known, so that the threshold alone decides.
fn unknown() -> Option<u64> {
    None
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
            let change = spikes.record(&key(0), "error", "timeout", now_ms, unknown);
            started += usize::from(change.spike.is_some());
            assert_eq!(change.over, None);
        }
    }
    assert_eq!(started, 1);
    assert_eq!(spikes.sweep(u64::MAX).over[0].last_ms, now_ms);
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
            let record =
                |_: &u64| spikes.record(&key(0), "error", &reason, 7, unknown).spike.is_some();
            (0..ERRORS).filter(record).count()
        })
    });
    let threads: Vec<_> = threads.collect();
    let started: usize = threads.into_iter().map(|thread| thread.join().unwrap()).sum();
    assert_eq!(started, 1);
    let over = spikes.sweep(57).over;
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
    (0..200)
        .for_each(|at| drop(spikes.record(&key, "error", &reasons[at % 20], at as u64, unknown)));
    let before = ALLOCATIONS.get();
    (200..10_000)
        .for_each(|at| drop(spikes.record(&key, "error", &reasons[at % 20], at as u64, unknown)));
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
        spikes.record(&key(0), "error", reason, number, unknown);
    }
    let current = spikes.current(10_000);
    let cause = current[0].causes.iter().find(|cause| cause.reason == "frequent").unwrap();
    assert!((frequent..=frequent + current[0].total / 16).contains(&cause.count), "{cause:?}");
}

#[test]
fn a_cause_that_is_counted_stays_known_when_its_errors_are_no_longer_kept() {
    let spikes = spikes(10, 1_000, 1);
    (0..500).for_each(|_| drop(spikes.record(&key(0), "error", "frequent", 0, unknown)));
    (0..200)
        .for_each(|at| drop(spikes.record(&key(0), "error", &format!("rare {at}"), 0, unknown)));
    let current = spikes.current(0);
    let Cause { reason, count, .. } = &current[0].causes[0];
    assert_eq!((reason.as_str(), *count), ("frequent", 500));
}

#[test]
fn more_causes_than_a_key_knows_are_other() {
    let spikes = spikes(100, 1_000, 1);
    spikes.record(&key(0), "other", "other", 0, unknown);
    for number in 0..98 {
        spikes.record(&key(0), "error", &format!("reason {number:02}"), 0, unknown);
    }
    let spike = spikes.record(&key(0), "other", "other", 0, unknown).spike.unwrap();
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
            spikes.record(&key(0), "error", &reason, round * 2_000, unknown).spike
        };
        let spike = (0..32).find_map(record).unwrap();
        assert!(spike.causes.iter().all(|cause| cause.count == 1), "{spike:?}");
    }
}

#[test]
fn long_text_is_cut() {
    let spikes = spikes(1, 1_000, 1);
    let spike =
        spikes.record(&key(0), &"k".repeat(300), &"é".repeat(300), 0, unknown).spike.unwrap();
    assert_eq!((spike.causes[0].kind.len(), spike.causes[0].reason.len()), (256, 256));
}

#[test]
fn a_key_without_errors_in_the_window_makes_room() {
    let spikes = spikes(2, 160, 1);
    let record =
        |number, now_ms| drop(spikes.record(&key(number), "error", "timeout", now_ms, unknown));
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
    assert_eq!(spikes.sweep(1_000).over.len(), 1);
    record(0, 1_000);
    assert_eq!(spikes.untracked(), 3);
}

#[test]
fn a_specification_out_of_range_is_brought_into_range() {
    assert!(spikes(0, 0, 1).record(&key(0), "error", "timeout", 5, unknown).spike.is_some());
    let most = spikes(usize::MAX, 10, 1);
    let started =
        (0..1_000).filter_map(|_| most.record(&key(0), "error", "timeout", 5, unknown).spike);
    assert_eq!(started.map(|spike| spike.error_count).collect::<Vec<_>>(), [1_000]);
    let none = spikes(1, 10, 0);
    none.record(&key(0), "error", "timeout", 5, unknown);
    assert_eq!((none.untracked(), none.current(5).len()), (1, 0));
}

#[test]
fn clear_forgets_spikes_and_tells_nothing() {
    let spikes = spikes(1, 10, 1);
    spikes.record(&key(0), "error", "timeout", 5, unknown);
    spikes.sweep(50);
    spikes.record(&key(0), "error", "timeout", 60, unknown);
    spikes.record(&key(1), "error", "timeout", 60, unknown);
    spikes.clear();
    assert_eq!(
        (spikes.sweep(100), spikes.recent(), spikes.untracked()),
        (Swept::default(), vec![], 0)
    );
    assert_eq!(spikes.memory_bytes(), 0);
}

#[test]
fn spikes_are_readable_as_json() {
    let spikes = spikes(1, 10, 1);
    let json =
        serde_json::to_value(spikes.record(&key(7), "error", "timeout", 5, unknown)).unwrap();
    assert_eq!(json["spike"]["key"], serde_json::json!(["method-7", "Class"]));
}

#[test]
fn a_million_keys_with_errors_stay_within_bounds() {
    for keys_per_ms in [10, MANY] {
        let spikes = spikes(2, 50, KEY_LIMIT);
        let record = |number| {
            drop(spikes.record(
                &key(number),
                "error",
                "timeout",
                (number / keys_per_ms) as u64,
                unknown,
            ));
        };
        assert_bounded(KEY_LIMIT * 1_000, record, || spikes.memory_bytes());
    }
}

/// Independent calls, of which each fails with the same probability.
struct Calls<'s> {
    spikes: &'s Spikes,
    total: u64,
    started: u64,
    state: u64,
}

impl<'s> Calls<'s> {
    fn new(spikes: &'s Spikes) -> Self {
        Self { spikes, total: 0, started: 0, state: 0 }
    }

    /// SplitMix64 (Steele, Lea and Flood, "Fast splittable pseudorandom number generators", 2014).
    fn random(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mixed = (self.state ^ (self.state >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    /// At 100 calls a second for so long.
    fn fail(&mut self, seconds: u64, of_a_hundred: u64) -> u64 {
        let before = self.started;
        for _ in 0..100 * seconds {
            self.total += 1;
            if self.random() % 100 < of_a_hundred {
                let total = self.total;
                let (now_ms, total) = (total * 10, || Some(total));
                let change = self.spikes.record(&key(0), "error", "timeout", now_ms, total);
                self.started += u64::from(change.started);
            }
        }
        self.started - before
    }
}

/// As an instance has them by default.
fn default_spikes() -> Spikes {
    Spikes::new(SpikeSpec {
        threshold: 5,
        window_ms: 10_000,
        percent: 50,
        repeat_ms: 300_000,
        key_limit: 1,
    })
}

#[test]
fn of_a_hundred_calls_a_second_one_in_a_hundred_may_fail_for_hours() {
    let spikes = default_spikes();
    let mut calls = Calls::new(&spikes);
    assert_eq!(calls.fail(3 * 3_600, 1), 0);
}

#[test]
fn a_busy_method_that_breaks_spikes_at_once_and_is_over_it_when_it_works() {
    let spikes = default_spikes();
    let mut calls = Calls::new(&spikes);
    assert_eq!((calls.fail(60, 1), calls.fail(60, 100)), (0, 1));
    assert_eq!(spikes.current(120_000)[0].first_ms, 60_010);
    // One in a hundred are still as many as keep a spike going, but for their share.
    assert_eq!(calls.fail(60, 1), 0);
    assert_eq!((spikes.current(180_000), spikes.recent().len()), (vec![], 1));
    let over = &spikes.recent()[0];
    assert!((6_000..6_020).contains(&over.total) && over.over_ms <= 130_000, "{over:?}");
}

#[test]
fn fewer_calls_than_before_leave_the_threshold_to_decide() {
    let spikes = default_spikes();
    let record = |total| spikes.record(&key(0), "error", "timeout", 0, || Some(total)).started;
    let totals = [1_000, 2_000, 3_000, 4_000, 5_000, 1];
    assert_eq!(totals.map(record), [false, false, false, false, false, true]);
}

fn grouped(repeat_ms: u64, key_limit: usize) -> Spikes {
    Spikes::new(SpikeSpec { threshold: 1, window_ms: 10, percent: 0, repeat_ms, key_limit })
}

#[test]
fn repeats_are_one_entry_and_one_number() {
    let spikes = grouped(1_000, 2);
    let record = |reason, now_ms| spikes.record(&key(0), "error", reason, now_ms, unknown);
    assert_eq!(record("first", 0).spike.unwrap().repeats, 0);
    assert_eq!(spikes.sweep(50).over.len(), 1);
    for now_ms in (100..1_000).step_by(100) {
        let change = record("again", now_ms);
        assert_eq!((change.over, change.started, change.spike), (None, true, None));
        assert_eq!(spikes.current(now_ms)[0].repeats, now_ms / 100 - 1);
        assert_eq!(spikes.sweep(now_ms + 50), Swept::default());
    }
    let recent = spikes.recent();
    let [group] = &recent[..] else { panic!("{recent:?}") };
    assert_eq!((group.total, group.repeats, group.first_ms, group.last_ms), (10, 9, 0, 900));
    assert_eq!((group.over_ms, group.duration_ms), (910, 910));
    let causes: Vec<_> =
        group.causes.iter().map(|cause| (cause.reason.as_str(), cause.count)).collect();
    assert_eq!(causes, [("again", 9), ("first", 1)]);
    // The next one that is signalled tells of them, and is an entry of its own.
    assert_eq!(record("first", 1_000).spike.unwrap().repeats, 9);
    assert_eq!(spikes.sweep(1_010).over[0].repeats, 0);
    assert_eq!(spikes.recent().len(), 2);
}

#[test]
fn repeats_that_no_spike_follows_are_told_when_they_are_no_longer_held_back() {
    let spikes = grouped(1_000, 2);
    let record = |now_ms| drop(spikes.record(&key(0), "error", "timeout", now_ms, unknown));
    [0, 100, 200].into_iter().for_each(record);
    assert_eq!(spikes.sweep(999).repeats, []);
    assert_eq!(spikes.sweep(1_000).repeats, [SpikeRepeats { key: key(0), repeats: 2 }]);
    assert_eq!(spikes.sweep(2_000), Swept::default());
    assert_eq!(spikes.recent()[0].repeats, 2);
}

#[test]
fn a_repeat_that_lasts_is_signalled_and_so_is_its_end() {
    let spikes = grouped(1_000, 2);
    let record = |now_ms| spikes.record(&key(0), "error", "timeout", now_ms, unknown);
    record(0);
    (500..1_500).step_by(5).for_each(|now_ms| drop(record(now_ms)));
    let spike = spikes.sweep(1_500).spikes.remove(0);
    assert_eq!((spike.error_count, spike.first_ms, spike.repeats), (200, 500, 0));
    assert_eq!(spikes.sweep(1_600).over[0].total, 200);
    // From then on further ones are repeats of it.
    assert_eq!(record(2_499).spike, None);
    assert_eq!(record(2_511).spike.unwrap().repeats, 1);
}

#[test]
fn a_full_table_holds_no_place_for_repeats_that_did_not_come() {
    let spikes = grouped(1_000, 1);
    let record = |number, now_ms| spikes.record(&key(number), "error", "timeout", now_ms, unknown);
    record(0, 0);
    assert_eq!(spikes.sweep(50).over.len(), 1);
    assert!(record(1, 60).spike.is_some());
    spikes.sweep(100);
    // It was forgotten that the first one was signalled.
    assert!(record(0, 110).spike.is_some());
    // One that came holds the place until it was told.
    assert!(record(0, 130).started);
    assert_eq!(spikes.sweep(200), Swept::default());
    record(1, 900);
    assert_eq!(spikes.untracked(), 1);
    assert_eq!(spikes.sweep(1_110).repeats.len(), 1);
    assert!(record(1, 1_120).started);
}
