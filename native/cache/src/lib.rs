//! An adaptive cache of results: what is worth caching is measured, not assumed.
//!
//! [`Cache::get`] answers from what is kept. Where there is nothing, the caller makes a [`Call`], runs
//! its function, alone among those with the same key if it goes through [`flights::Flights`], and says by
//! [`Cache::computed`] what came of it. That is observed for the method's inputs of the
//! [rule](rule::RuleSpec), and the result is kept if the rule says so.
//!
//! Time is an argument, in milliseconds of any clock that does not go back.
#![warn(missing_docs)]

pub mod call;
pub mod flights;
pub mod front;
pub mod ghosts;
pub mod key;
pub mod method;
pub mod observed;
pub mod report;
pub mod rule;
pub mod stamps;
pub mod store;
mod versions;

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, PoisonError, RwLock};

use foldhash::fast::RandomState;
use serde::Deserialize;

use call::{Call, CallOutcome, Kept, Target};
use ghosts::Result;
use key::{Hashing, KeyRef};
use method::{HitLane, Method};
use observed::Computed;
use report::Metric;
use rule::{RuleSpec, Verdict};
use stamps::{Place, Stamps, Started};
use store::{Bytes, Entry, NewEntry, Store};
use telemetry_common::heap;
use telemetry_common::label::{LabelSet, OVERFLOW_LABEL};
use telemetry_common::refs::Refs;
use versions::Versions;

/// A method that was declared cacheable.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Deserialize)]
pub struct Declared {
    /// Its name.
    pub method: String,
    /// Its class, or any.
    pub class: Option<String>,
}

/// Everything that a cache is made from.
#[derive(Clone, Debug, Deserialize)]
pub struct CacheSpec {
    /// What may be cached.
    pub cacheable: Vec<Declared>,
    /// The rule.
    pub rule: RuleSpec,
    /// Bytes that results may take, with their keys and what keeps them.
    pub max_bytes: u64,
    /// The largest result that is kept.
    pub max_result_bytes: usize,
    /// The largest key; what is larger is not cached.
    pub max_key_bytes: usize,
    /// How many recent keys are remembered of each method.
    pub ghost_keys: usize,
    /// How many methods are followed.
    pub method_limit: usize,
    /// How many callers may wait for another's run.
    pub waiter_limit: usize,
    /// How long an error is kept; 0 for not at all.
    pub error_ttl_ms: u64,
    /// How many references keep their worker.
    pub ref_limit: usize,
    /// How it is told in a scrape.
    #[serde(default)]
    pub metrics: Vec<Metric>,
}

/// An adaptive cache.
pub struct Cache {
    spec: CacheSpec,
    hashing: Hashing,
    stamps: Stamps,
    store: Store,
    methods: RwLock<HashMap<LabelSet, Arc<Method>, RandomState>>,
    overflow: Arc<Method>,
    classes: Arc<Refs>,
    workers: Refs,
    sweep_due: AtomicBool,
}

/// The class of a call of which none is known.
const UNKNOWN: &str = "unknown";

impl Cache {
    /// An empty cache. `classes` knows the classes of references.
    pub fn new(spec: CacheSpec, classes: Arc<Refs>) -> Self {
        let overflow = LabelSet::new([OVERFLOW_LABEL, OVERFLOW_LABEL]);
        Self {
            hashing: Hashing::default(),
            stamps: Stamps::default(),
            store: Store::new(spec.max_bytes),
            methods: RwLock::default(),
            overflow: Arc::new(Method::new(overflow, false, 1)),
            classes,
            workers: Refs::new(spec.ref_limit),
            sweep_due: AtomicBool::new(false),
            spec,
        }
    }

    /// What it was made from.
    pub fn spec(&self) -> &CacheSpec {
        &self.spec
    }

    /// The key with these bytes, which have to tell method, class, reference and arguments.
    #[inline]
    pub fn key<'a>(&self, bytes: &'a [u8]) -> KeyRef<'a> {
        self.hashing.key(bytes)
    }

    /// The result for a key, if one is kept that may be used.
    #[inline]
    pub fn get(&self, key: KeyRef<'_>, now_ms: u64) -> Option<Arc<Entry>> {
        let entry = self.store.get(&key, &self.stamps, now_ms)?;
        entry.method.hit(HitLane::SHARED);
        Some(entry)
    }

    /// A call that is about to be made. `declared` says that something else than
    /// [`CacheSpec::cacheable`] declares it cacheable.
    pub fn call(&self, key: KeyRef<'_>, target: Target<'_>, declared: bool) -> Call {
        let known = target.reference.filter(|_| target.class.is_none());
        let known = known.and_then(|reference| self.classes.class_of(reference));
        let class = target.class.or(known.as_deref());
        if let (Some(reference), Some(worker)) = (target.reference, target.worker) {
            self.workers.bind(reference, worker);
        }
        let method = self.method(target.method, class);
        let declared = method.is_tracked() && (declared || self.declares(target.method, class));
        method.declare(declared);
        // The one where the function is about to run, wherever the instance lives later.
        let known_worker = || self.workers.class_of(target.reference?);
        let worker = target.worker.map(Arc::from).or_else(known_worker);
        Call {
            key: Arc::new(key.to_key()),
            method,
            declared,
            reference: target.reference.map(Into::into),
            worker,
            started: self.stamps.now(),
        }
    }

    /// Observes a call of a method that may not be cached, which runs whatever was run before.
    pub fn undeclared(&self, call: &Call, now_ms: u64) {
        self.observe(call, Result::Unseen, None, now_ms);
    }

    /// Observes callers that waited for the run of a call, once they wait no longer: `joined` got its
    /// result, `unanswered` got none, since it failed, or died, or they did not wait until its end.
    pub fn waited(&self, call: &Call, joined: u64, unanswered: u64) {
        call.method.observed(|observed| observed.waited(joined, unanswered));
    }

    /// Says what came of a call that may be cached, and how long it took if that is known. Where the
    /// result is kept, it is so before this returns.
    pub fn computed(
        &self,
        call: &Call,
        outcome: CallOutcome<'_>,
        duration_ns: Option<u64>,
        now_ms: u64,
    ) -> Kept {
        self.computed_in(call, outcome, duration_ns, now_ms, |bytes| Box::<[u8]>::from(bytes))
    }

    /// The same, for a result that is to be kept in what `keep_in` makes of its bytes.
    pub fn computed_in<B: Bytes>(
        &self,
        call: &Call,
        outcome: CallOutcome<'_>,
        duration_ns: Option<u64>,
        now_ms: u64,
        keep_in: impl FnOnce(&[u8]) -> B,
    ) -> Kept {
        let max = self.spec.max_result_bytes;
        let (result, keepable) = match outcome {
            CallOutcome::Failed => (Result::NotKept, Err(Kept::Failed)),
            CallOutcome::TooLarge => (Result::NotKept, Err(Kept::TooLarge)),
            CallOutcome::Value(bytes) | CallOutcome::Error(bytes) if bytes.len() > max => {
                (Result::NotKept, Err(Kept::TooLarge))
            }
            CallOutcome::Error(_) if self.spec.error_ttl_ms == 0 => {
                (Result::NotKept, Err(Kept::Failed))
            }
            CallOutcome::Error(bytes) => (Result::NotKept, Ok((bytes, self.spec.error_ttl_ms))),
            CallOutcome::Value(bytes) => {
                (Result::Hash(self.hashing.hash(bytes)), Ok((bytes, u64::MAX)))
            }
        };
        let verdict = self.observe(call, result, duration_ns, now_ms);
        match (keepable, verdict) {
            (Err(why), _) => {
                call.method.refuse_large(why == Kept::TooLarge);
                why
            }
            (Ok((bytes, most_ms)), Verdict::Cached { ttl_ms }) => {
                self.keep(call, || Box::new(keep_in(bytes)), ttl_ms.min(most_ms), now_ms)
            }
            (Ok(_), verdict) => Kept::Refused(verdict),
        }
    }

    fn observe(
        &self,
        call: &Call,
        result: Result,
        duration_ns: Option<u64>,
        now_ms: u64,
    ) -> Verdict {
        let computed = Computed { key: call.key.key_ref().hash(), result, duration_ns };
        let inputs = call.method.observed(|observed| {
            observed.computed(computed, now_ms, &self.spec.rule);
            observed.inputs()
        });
        // For results that are kept already too: a change that was seen shortens their lives.
        call.method.set_ttl_ms(self.spec.rule.ttl_ms(inputs));
        self.verdict(&call.method, inputs)
    }

    fn verdict(&self, method: &Method, inputs: rule::Inputs) -> Verdict {
        if !method.is_tracked() {
            Verdict::Untracked
        } else if !method.is_declared() {
            Verdict::Undeclared
        } else {
            self.spec.rule.verdict(inputs)
        }
    }

    fn keep(
        &self,
        call: &Call,
        result: impl FnOnce() -> Box<dyn Bytes>,
        ttl_ms: u64,
        now_ms: u64,
    ) -> Kept {
        // What is invalidated from here on will be found invalid.
        if !self.is_valid(call) {
            return Kept::Invalidated;
        }
        let entry = NewEntry {
            key: Arc::clone(&call.key),
            result: result(),
            method: Arc::clone(&call.method),
            started: call.started,
            places: self.places(call),
            ttl_ms,
        };
        self.store.insert(entry, now_ms);
        Kept::For { ttl_ms }
    }

    /// Whether nothing that a call belongs to was invalidated since it was made: whether what comes of
    /// it may answer a caller that comes now.
    pub fn is_valid(&self, call: &Call) -> bool {
        self.stamps.is_valid(call.started, &call.method.invalidated, &self.places(call))
    }

    fn places(&self, call: &Call) -> [Option<Place>; 3] {
        let reference = call.reference.as_deref();
        let told_meanwhile =
            || self.workers.class_of(reference?).map(|worker| self.worker_place(&worker));
        [
            Some(Stamps::place(call.key.key_ref().hash())),
            reference.map(|reference| self.reference_place(reference)),
            call.worker.as_deref().map(|worker| self.worker_place(worker)).or_else(told_meanwhile),
        ]
    }

    fn reference_place(&self, reference: &str) -> Place {
        Stamps::place(self.hashing.hash(reference.as_bytes()))
    }

    fn worker_place(&self, worker: &str) -> Place {
        // Not that of a reference of the same name.
        Stamps::place(!self.hashing.hash(worker.as_bytes()))
    }

    /// Says in which worker's memory an instance lives.
    pub fn bind_worker(&self, reference: &str, worker: &str) {
        self.workers.bind(reference, worker);
    }

    /// A time that a caller keeps before it computes a result without a [`Call`]; see [`since`](Self::since).
    pub fn now(&self) -> Started {
        self.stamps.now()
    }

    /// A call whose function was started at a time that [`now`](Self::now) has told.
    pub fn since(&self, call: Call, number: u64) -> Call {
        Call { started: self.stamps.at(number), ..call }
    }

    /// Forgets the result of a key. Like every invalidation: when this returns, nobody gets a result
    /// whose function was started before, whether it has ended or not.
    pub fn invalidate_key(&self, key: KeyRef<'_>) {
        self.stamps.invalidate_place(Stamps::place(key.hash()));
        self.store.remove(&key);
    }

    /// Forgets the results of a method, of one class or of all.
    pub fn invalidate_method(&self, method: &str, class: Option<&str>) {
        for known in self.methods() {
            let mut labels = known.labels().values();
            let is_meant = labels.next() == Some(method)
                && class.is_none_or(|class| labels.next() == Some(class));
            if is_meant {
                self.stamps.invalidate(&known.invalidated);
            }
        }
        self.sweep_due.store(true, Relaxed);
    }

    /// Forgets the results of an instance.
    pub fn invalidate_reference(&self, reference: &str) {
        self.stamps.invalidate_place(self.reference_place(reference));
        self.sweep_due.store(true, Relaxed);
    }

    /// Forgets the results of all instances that live in a worker's memory, which is gone.
    pub fn worker_died(&self, worker: &str) {
        self.stamps.invalidate_place(self.worker_place(worker));
        self.sweep_due.store(true, Relaxed);
    }

    /// Forgets all results.
    pub fn invalidate_all(&self) {
        self.stamps.invalidate_all();
        self.sweep_due.store(true, Relaxed);
    }

    /// Does what time brings: gives memory back. To be called now and then.
    pub fn tick(&self, now_ms: u64) {
        if self.sweep_due.swap(false, Relaxed) {
            self.store.sweep(&self.stamps, now_ms);
        } else {
            // Hits do not make moka look what has expired.
            self.store.settle();
        }
    }

    /// Forgets results and all that was observed. Which worker an instance lives in stays known.
    pub fn clear(&self) {
        self.methods.write().unwrap_or_else(PoisonError::into_inner).clear();
        self.overflow.clear();
        self.stamps.invalidate_all();
        self.store.clear();
    }

    /// Bytes that results, recent keys and what is known of workers take.
    pub fn memory_bytes(&self) -> usize {
        let observed = self.methods.read().unwrap_or_else(PoisonError::into_inner);
        heap::sum([
            self.store.bytes() as usize,
            heap::sum(observed.values().map(|method| method.memory_bytes())),
            self.workers.memory_bytes(),
            Stamps::BYTES,
            Versions::BYTES,
        ])
    }

    /// The methods that were called, and last the one that stands for those without room, if there are
    /// any.
    pub fn methods(&self) -> Vec<Arc<Method>> {
        let methods = self.methods.read().unwrap_or_else(PoisonError::into_inner);
        let overflow =
            Some(&self.overflow).filter(|overflow| overflow.observed(|o| o.inputs().calls) > 0);
        methods.values().chain(overflow).map(Arc::clone).collect()
    }

    fn method(&self, method: &str, class: Option<&str>) -> Arc<Method> {
        let labels = LabelSet::new([method, class.unwrap_or(UNKNOWN)]);
        let methods = self.methods.read().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = methods.get(&labels) {
            return Arc::clone(known);
        }
        drop(methods);
        let mut methods = self.methods.write().unwrap_or_else(PoisonError::into_inner);
        if methods.len() >= self.spec.method_limit && !methods.contains_key(&labels) {
            return Arc::clone(&self.overflow);
        }
        let new = || Arc::new(Method::new(labels.clone(), true, self.spec.ghost_keys));
        Arc::clone(methods.entry(labels.clone()).or_insert_with(new))
    }

    fn declares(&self, method: &str, class: Option<&str>) -> bool {
        self.spec.cacheable.iter().any(|declared| {
            declared.method == method
                && declared.class.as_deref().is_none_or(|wanted| class == Some(wanted))
        })
    }
}
