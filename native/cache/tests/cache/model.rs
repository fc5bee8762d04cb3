//! Random calls, runs that take long, invalidations and time against a model that keeps everything in
//! plain lists.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::time::{Duration, Instant};

use proptest::prelude::*;
use telemetry_cache::call::{Call, CallOutcome, Kept, Target};
use telemetry_cache::front::Front;
use telemetry_cache::report::CacheReport;
use telemetry_cache::rule::{Inputs, RuleSpec};
use telemetry_cache::{Cache, CacheSpec, Declared};
use telemetry_common::refs::Refs;

pub fn spec() -> CacheSpec {
    CacheSpec {
        cacheable: vec![
            Declared { method: "embed".to_owned(), class: None },
            Declared { method: "score".to_owned(), class: Some("Index".to_owned()) },
        ],
        rule: RuleSpec {
            min_calls: 5,
            min_hit_rate: 0.3,
            ttl_ms: 60_000,
            calls_for_ttl: 20,
            max_ttl_factor: 2.0,
        },
        max_bytes: 64 << 20,
        max_result_bytes: 1 << 20,
        max_key_bytes: 1 << 16,
        ghost_keys: 1_000,
        method_limit: 100,
        waiter_limit: 100,
        error_ttl_ms: 0,
        ref_limit: 100,
        metrics: Vec::new(),
    }
}

pub fn start(spec: CacheSpec) -> Cache {
    Cache::new(spec, Arc::new(Refs::new(100)))
}

/// What a step of the test does.
#[derive(Clone, Debug)]
enum Op {
    /// Looks for a key, and calls if there is nothing. The call stays under way.
    Call {
        key: u8,
        worker: Option<u8>,
        /// Whether a thread looks that remembers what it has found, and which of two.
        thread: Option<bool>,
    },
    /// Ends the call that has been under way for the longest time, or the newest.
    End {
        newest: bool,
        result: Ending,
    },
    Wait {
        ms: u64,
    },
    InvalidateKey(u8),
    InvalidateReference(u8),
    InvalidateMethod(u8),
    InvalidateAll,
    WorkerDies(u8),
    Tick,
    Clear,
}

#[derive(Clone, Copy, Debug)]
enum Ending {
    /// What it always is.
    Usual,
    Other(u8),
    Error,
    Fails,
}

const METHODS: [(&str, Option<&str>); 4] =
    [("embed", Some("Model")), ("score", Some("Index")), ("score", Some("Other")), ("embed", None)];

fn op() -> impl Strategy<Value = Op> {
    let ending = prop_oneof![
        12 => Just(Ending::Usual),
        2 => (0..3_u8).prop_map(Ending::Other),
        1 => Just(Ending::Error),
        1 => Just(Ending::Fails),
    ];
    prop_oneof![
        20 => (0..12_u8, prop::option::of(0..2_u8), prop::option::weighted(0.8, any::<bool>()))
            .prop_map(|(key, worker, thread)| Op::Call { key, worker, thread }),
        20 => (any::<bool>(), ending).prop_map(|(newest, result)| Op::End { newest, result }),
        6 => (0..30_000_u64).prop_map(|ms| Op::Wait { ms }),
        1 => (0..12_u8).prop_map(Op::InvalidateKey),
        1 => (0..3_u8).prop_map(Op::InvalidateReference),
        1 => (0..4_u8).prop_map(Op::InvalidateMethod),
        1 => Just(Op::InvalidateAll),
        1 => (0..2_u8).prop_map(Op::WorkerDies),
        2 => Just(Op::Tick),
        1 => Just(Op::Clear),
    ]
}

/// Method, reference and argument of a key.
fn parts(key: u8) -> (usize, Option<u8>) {
    (usize::from(key % 4), (!key.is_multiple_of(3)).then_some(key % 3))
}

fn reference_name(reference: u8) -> String {
    format!("ref-{reference}")
}

fn worker_name(worker: u8) -> String {
    format!("worker-{worker}")
}

#[derive(Clone)]
struct ModelCall {
    key: u8,
    worker: Option<u8>,
    valid: bool,
    epoch: u32,
}

struct ModelEntry {
    call: ModelCall,
    value: Vec<u8>,
    stored_ms: u64,
    ttl_ms: u64,
}

/// Everything that ever happened to a method.
#[derive(Default)]
struct ModelMethod {
    /// For each call, whether a cache would have answered it.
    hits: Vec<bool>,
    /// For each repetition, whether the result had changed.
    changes: Vec<bool>,
    /// By key: when a cache would have stored its result, and the last one.
    ghosts: HashMap<u8, (u64, Vec<u8>)>,
    ttl_ms: Option<u64>,
}

/// The share of `true`, all counts halved whenever there are twice as many as `memory`.
fn share(all: &[bool], memory: u64) -> f64 {
    let (mut part, mut whole) = (0_u64, 0_u64);
    for &one in all {
        part += u64::from(one);
        whole += 1;
        if whole == 2 * memory {
            (part, whole) = (part / 2, whole / 2);
        }
    }
    if whole == 0 { 0.0 } else { part as f64 / whole as f64 }
}

impl ModelMethod {
    fn inputs(&self) -> Inputs {
        Inputs {
            calls: self.hits.len() as u64,
            hit_rate: share(&self.hits, 1_000),
            variance: share(&self.changes, 100),
        }
    }

    /// The formula of the specification, in its own words.
    fn ttl(&self, calls: u64, rule: &RuleSpec) -> u64 {
        let frequency = f64::min(calls as f64 / rule.calls_for_ttl as f64, rule.max_ttl_factor);
        (rule.ttl_ms as f64 * (1.0 - self.inputs().variance) * frequency).round() as u64
    }

    fn ended(&mut self, key: u8, value: Option<&[u8]>, now_ms: u64, rule: &RuleSpec) {
        let trial = self.ttl((self.hits.len() as u64).max(rule.min_calls + 1), rule);
        let hit = self.ghosts.get(&key).is_some_and(|(stored, _)| now_ms < stored + trial);
        let change = self.ghosts.get(&key).and_then(|(_, last)| value.map(|value| last != value));
        self.hits.push(hit);
        self.changes.extend(change);
        if let Some(value) = value {
            let ghost = self.ghosts.entry(key).or_insert((now_ms, Vec::new()));
            if !hit {
                ghost.0 = now_ms;
            }
            ghost.1 = value.to_vec();
        }
        self.ttl_ms = Some(self.ttl(self.hits.len() as u64, rule));
    }
}

#[derive(Default)]
struct Model {
    methods: [ModelMethod; 4],
    entries: HashMap<u8, ModelEntry>,
    under_way: Vec<(ModelCall, Call)>,
    workers: HashMap<u8, u8>,
    epoch: u32,
    /// Whether a place was invalidated, which others may share.
    places_invalidated: bool,
}

impl Model {
    fn invalidate(&mut self, meant: impl Fn(&ModelCall) -> bool) {
        self.entries.retain(|_, entry| !meant(&entry.call));
        for (call, _) in &mut self.under_way {
            call.valid &= !meant(call);
        }
    }

    fn get(&self, key: u8, now_ms: u64) -> Option<&[u8]> {
        let entry = self.entries.get(&key)?;
        let method = &self.methods[parts(key).0];
        let ttl_ms = entry.ttl_ms.min(method.ttl_ms.unwrap_or(u64::MAX));
        (now_ms < entry.stored_ms + ttl_ms).then_some(&*entry.value)
    }
}

fn run(ops: Vec<Op>) -> Result<(), TestCaseError> {
    let spec = spec();
    let rule = spec.rule.clone();
    let cache = start(spec);
    let mut model = Model::default();
    let mut fronts = [Front::default(), Front::default()];
    let mut now_ms = 0;
    for op in ops {
        match op {
            Op::Call { key, worker, thread } => {
                let front = thread.map(|thread| &mut fronts[usize::from(thread)]);
                call(&cache, &mut model, front, key, worker, now_ms)?;
            }
            Op::End { newest, result } => {
                if model.under_way.is_empty() {
                    continue;
                }
                let at = if newest { model.under_way.len() - 1 } else { 0 };
                let (ended, call) = model.under_way.remove(at);
                end(&cache, &mut model, &ended, &call, result, now_ms, &rule)?;
            }
            Op::Wait { ms } => now_ms += ms,
            Op::InvalidateKey(key) => {
                cache.invalidate_key(cache.key(&[key]));
                model.places_invalidated = true;
                model.invalidate(|call| call.key == key);
            }
            Op::InvalidateReference(reference) => {
                cache.invalidate_reference(&reference_name(reference));
                model.places_invalidated = true;
                model.invalidate(|call| parts(call.key).1 == Some(reference));
            }
            Op::InvalidateMethod(method) => {
                let (name, class) = METHODS[usize::from(method)];
                cache.invalidate_method(name, class);
                let meant = |call: &ModelCall| {
                    let (other, other_class) = METHODS[parts(call.key).0];
                    other == name && (class.is_none() || class == other_class)
                };
                model.invalidate(meant);
            }
            Op::InvalidateAll => {
                cache.invalidate_all();
                model.invalidate(|_| true);
            }
            Op::WorkerDies(worker) => {
                cache.worker_died(&worker_name(worker));
                model.places_invalidated = true;
                model.invalidate(|call| call.worker == Some(worker));
            }
            Op::Tick => cache.tick(now_ms),
            Op::Clear => {
                cache.clear();
                model.invalidate(|_| true);
                model.methods = Default::default();
                model.epoch += 1;
            }
        }
    }
    Ok(())
}

fn call(
    cache: &Cache,
    model: &mut Model,
    front: Option<&mut Front>,
    key: u8,
    worker: Option<u8>,
    now_ms: u64,
) -> Result<(), TestCaseError> {
    let bytes = [key];
    let key_ref = cache.key(&bytes);
    let found = match front {
        Some(front) => front.get(cache, key_ref, now_ms),
        None => cache.get(key_ref, now_ms),
    };
    let expected = model.get(key, now_ms);
    match (&found, expected) {
        (Some(found), Some(expected)) => prop_assert_eq!(found.result(), expected),
        (Some(_), None) => prop_assert!(false, "what is there should not be used"),
        (None, Some(_)) => prop_assert!(model.places_invalidated, "what should be there is not"),
        (None, None) => (),
    }
    let (method, reference) = parts(key);
    if found.is_some() {
        model.methods[method].hits.push(true);
        return Ok(());
    }
    let (name, class) = METHODS[method];
    let (reference_text, worker_text) = (reference.map(reference_name), worker.map(worker_name));
    let target = Target {
        method: name,
        class,
        reference: reference_text.as_deref(),
        worker: worker_text.as_deref(),
    };
    let made = cache.call(cache.key(&bytes), target, false);
    prop_assert_eq!(made.is_declared(), method != 2);
    if let (Some(reference), Some(worker)) = (reference, worker) {
        model.workers.insert(reference, worker);
    }
    let worker = worker.or_else(|| model.workers.get(&reference?).copied());
    if !made.is_declared() {
        cache.undeclared(&made, now_ms);
        return Ok(());
    }
    model.under_way.push((ModelCall { key, worker, valid: true, epoch: model.epoch }, made));
    Ok(())
}

fn end(
    cache: &Cache,
    model: &mut Model,
    ended: &ModelCall,
    call: &Call,
    result: Ending,
    now_ms: u64,
    rule: &RuleSpec,
) -> Result<(), TestCaseError> {
    let value = match result {
        Ending::Usual => vec![ended.key],
        Ending::Other(other) => vec![ended.key, other],
        Ending::Error | Ending::Fails => vec![],
    };
    let outcome = match result {
        Ending::Usual | Ending::Other(_) => CallOutcome::Value(&value),
        Ending::Error => CallOutcome::Error(b"error"),
        Ending::Fails => CallOutcome::Failed,
    };
    let kept = cache.computed(call, outcome, Some(1_000), now_ms);
    if ended.epoch != model.epoch {
        prop_assert!(!matches!(kept, Kept::For { .. }), "{kept:?} after a reset");
        return Ok(());
    }
    let has_value = !value.is_empty();
    let (method_at, reference) = parts(ended.key);
    let method = &mut model.methods[method_at];
    method.ended(ended.key, has_value.then_some(&*value), now_ms, rule);
    let inputs = method.inputs();
    let admits = inputs.calls > rule.min_calls && inputs.hit_rate > rule.min_hit_rate;
    let ttl_ms = method.ttl_ms.unwrap_or(0);
    match kept {
        Kept::For { ttl_ms: kept_ms } => {
            prop_assert!(has_value && admits && ended.valid);
            prop_assert_eq!(kept_ms, ttl_ms);
            let worker = ended.worker.or_else(|| model.workers.get(&reference?).copied());
            let call = ModelCall { worker, ..ended.clone() };
            model.entries.insert(ended.key, ModelEntry { call, value, stored_ms: now_ms, ttl_ms });
        }
        Kept::Refused(verdict) => {
            prop_assert!(has_value && !(admits && ttl_ms > 0), "{verdict} {inputs:?}");
        }
        Kept::Failed => prop_assert!(!has_value),
        Kept::Invalidated => prop_assert!(!ended.valid || model.places_invalidated),
        Kept::TooLarge => prop_assert!(false, "nothing is large here"),
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 400, failure_persistence: None, ..ProptestConfig::default()
    })]

    #[test]
    fn the_cache_does_what_the_model_does(ops in prop::collection::vec(op(), 1..400)) {
        run(ops)?;
    }

    #[test]
    fn bytes_stay_within_their_bound(
        sizes in prop::collection::vec((0..2_000_u32, 0..40_000_usize), 1..300),
        max_bytes in 1_u64..500_000,
    ) {
        let rule = RuleSpec { min_calls: 0, min_hit_rate: -1.0, ..spec().rule };
        let cache = start(CacheSpec { rule, max_bytes, max_result_bytes: 30_000, ..spec() });
        for (key, size) in sizes {
            let bytes = key.to_le_bytes();
            let target = Target { method: "embed", ..Target::default() };
            let call = cache.call(cache.key(&bytes), target, false);
            cache.computed(&call, CallOutcome::Value(&vec![0; size]), None, 0);
            // Before anything is done that was put off.
            prop_assert!(cache.methods()[0].bytes() <= max_bytes);
            let report = CacheReport::new(&cache);
            prop_assert!(report.bytes <= max_bytes);
            prop_assert_eq!(report.methods[0].bytes, report.bytes);
            prop_assert_eq!(report.methods[0].entries, report.entries);
        }
    }
}

#[test]
fn a_changed_result_shortens_the_life_of_what_is_kept() {
    let cache = start(spec());
    let call = |key: u8, value: &[u8], now_ms| {
        let target = Target { method: "embed", ..Target::default() };
        let call = cache.call(cache.key(&[key]), target, false);
        cache.computed(&call, CallOutcome::Value(value), None, now_ms)
    };
    let alive = |key: u8, now_ms| cache.get(cache.key(&[key]), now_ms).is_some();
    for _ in 0..40 {
        call(1, b"one", 0);
        call(2, b"two", 0);
    }
    assert!(alive(1, 119_999) && alive(2, 119_999));
    assert!(!alive(1, 120_000));
    // A fifth of what is repeated has changed.
    for round in 0..20_u8 {
        call(3, &[round], 0);
    }
    let ttl_ms = CacheReport::new(&cache).methods[0].ttl_ms.unwrap();
    assert!((90_000..100_000).contains(&ttl_ms), "{ttl_ms}");
    assert!(alive(2, ttl_ms - 1));
    assert!(!alive(2, ttl_ms));
}

/// moka tells the time itself, so that only time brings this about.
#[test]
fn a_tick_gives_back_what_is_past_its_time_though_nothing_is_stored() {
    const LONGEST: Duration = Duration::from_secs(30);
    let rule = RuleSpec {
        min_calls: 0,
        min_hit_rate: -1.0,
        ttl_ms: 50,
        calls_for_ttl: 1,
        max_ttl_factor: 1.0,
    };
    let cache = start(CacheSpec { rule, ..spec() });
    let empty = cache.memory_bytes();
    let target = Target { method: "embed", ..Target::default() };
    let call = cache.call(cache.key(b"k"), target, false);
    let kept = cache.computed(&call, CallOutcome::Value(&[0; 10_000]), None, 0);
    assert_eq!(kept, Kept::For { ttl_ms: 50 });
    assert!(cache.memory_bytes() > empty + 10_000);
    let begun = Instant::now();
    while cache.memory_bytes() > empty + 10_000 {
        assert!(begun.elapsed() < LONGEST, "{} bytes", cache.memory_bytes());
        cache.tick(0);
        std::thread::yield_now();
    }
}

#[test]
fn what_is_known_of_methods_is_counted() {
    let cache = start(CacheSpec { method_limit: 100, ..spec() });
    let empty = cache.memory_bytes();
    for number in 0..50 {
        let method = format!("{number:0100}");
        let target = Target { method: &method, ..Target::default() };
        let call = cache.call(cache.key(b"k"), target, false);
        cache.computed(&call, CallOutcome::Error(b"e"), None, 0);
    }
    let methods = cache.methods();
    assert_eq!(methods.len(), 50);
    let least = methods.iter().map(|method| size_of_val(&**method) + 100).sum::<usize>();
    let told = cache.memory_bytes() - empty;
    assert!((least..2 * least).contains(&told), "{told}, at least {least}");
}

#[test]
fn a_tick_gives_back_what_is_forgotten_by_its_key() {
    const LONGEST: Duration = Duration::from_secs(30);
    let cache = start(spec());
    let empty = cache.memory_bytes();
    let target = Target { method: "embed", ..Target::default() };
    let call = cache.call(cache.key(b"k"), target, false);
    for _ in 0..40 {
        cache.computed(&call, CallOutcome::Value(&[0; 10_000]), None, 0);
    }
    assert!(cache.memory_bytes() > empty + 10_000);
    cache.invalidate_key(cache.key(b"k"));
    let begun = Instant::now();
    while cache.memory_bytes() > empty + 10_000 {
        assert!(begun.elapsed() < LONGEST, "{} bytes", cache.memory_bytes());
        cache.tick(0);
        std::thread::yield_now();
    }
}

#[test]
fn an_error_is_kept_only_if_that_is_wanted_and_no_longer_than_wanted() {
    for (error_ttl_ms, kept) in [(0, Kept::Failed), (500, Kept::For { ttl_ms: 500 })] {
        let cache = start(CacheSpec { error_ttl_ms, ..spec() });
        let target = Target { method: "embed", ..Target::default() };
        let call = cache.call(cache.key(b"k"), target, false);
        for _ in 0..40 {
            cache.computed(&call, CallOutcome::Value(b"v"), None, 0);
        }
        let other = cache.call(cache.key(b"other"), target, false);
        assert_eq!(cache.computed(&other, CallOutcome::Error(b"e"), None, 0), kept);
        assert_eq!(cache.get(cache.key(b"other"), 499).is_some(), error_ttl_ms > 0);
        assert!(cache.get(cache.key(b"other"), 500).is_none());
    }
}

#[test]
fn methods_without_room_are_counted_together_and_not_cached() {
    let cache = start(CacheSpec { method_limit: 1, ..spec() });
    for (method, declared) in [("embed", true), ("score", false), ("other", false)] {
        let target = Target { method, class: Some("Index"), ..Target::default() };
        let call = cache.call(cache.key(method.as_bytes()), target, true);
        assert_eq!(call.is_declared(), declared);
        cache.undeclared(&call, 0);
    }
    let report = CacheReport::new(&cache);
    let rows = report.methods.iter().map(|row| (&*row.method, row.calls, &*row.decision));
    let expected = [
        ("otel_metric_overflow", 2, "not cached: more methods than method_limit"),
        ("embed", 1, "not cached: 1 calls, more than 5 are needed"),
    ];
    assert_eq!(rows.collect::<Vec<_>>(), expected);
}

#[test]
fn what_a_thread_remembers_is_what_is_kept() {
    let rule = RuleSpec { min_calls: 0, min_hit_rate: -1.0, ..spec().rule };
    let cache = start(CacheSpec { rule, max_bytes: 2_000, ..spec() });
    let (mut here, mut there) = (Front::default(), Front::default());
    let put = |key: &[u8], value: &[u8]| {
        let target = Target { method: "embed", ..Target::default() };
        let call = cache.call(cache.key(key), target, false);
        cache.computed(&call, CallOutcome::Value(value), None, 0)
    };
    let look = |front: &mut Front, key: &[u8], now_ms| {
        front.get(&cache, cache.key(key), now_ms).map(|entry| entry.result().to_vec())
    };
    // So often that one change is not all that is known of it.
    (0..40).for_each(|_| assert!(matches!(put(b"key", b"old"), Kept::For { .. })));
    for front in [&mut here, &mut there] {
        assert_eq!(look(front, b"key", 0).as_deref(), Some(&b"old"[..]));
        assert_eq!(look(front, b"key", 0).as_deref(), Some(&b"old"[..]));
    }
    // Another result has taken its place.
    put(b"key", b"new");
    for front in [&mut here, &mut there] {
        assert_eq!(look(front, b"key", 0).as_deref(), Some(&b"new"[..]));
    }
    let ttl_ms = CacheReport::new(&cache).methods[0].ttl_ms.expect("cached");
    assert!(look(&mut here, b"key", ttl_ms - 1).is_some());
    assert!(look(&mut here, b"key", ttl_ms).is_none());
    cache.invalidate_key(cache.key(b"key"));
    assert!(look(&mut here, b"key", 0).is_none());
    assert!(look(&mut there, b"key", 0).is_none());
    assert_eq!(CacheReport::new(&cache).methods[0].hits, 7);
}

#[test]
fn threads_that_remember_results_agree_with_one_that_stores_them() {
    let rule = RuleSpec { min_calls: 0, min_hit_rate: -1.0, ttl_ms: 1 << 40, ..spec().rule };
    let cache = start(CacheSpec { rule, ..spec() });
    let stored = AtomicU64::new(0);
    let target = Target { method: "embed", ..Target::default() };
    let put = |number: u64| {
        let call = cache.call(cache.key(b"key"), target, false);
        cache.computed(&call, CallOutcome::Value(&number.to_le_bytes()), None, 0);
        stored.store(number, SeqCst);
    };
    put(0);
    std::thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                let mut front = Front::default();
                loop {
                    let least = stored.load(SeqCst);
                    if let Some(entry) = front.get(&cache, cache.key(b"key"), 0) {
                        let number = u64::from_le_bytes(entry.result().try_into().expect("8"));
                        assert!(number >= least, "{number} after {least} was stored");
                    }
                    if least == 20_000 {
                        break;
                    }
                }
            });
        }
        (1..=20_000).for_each(put);
    });
}
