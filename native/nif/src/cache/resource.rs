//! Caches as resources, known by number, and the runs that are under way.

use std::cell::RefCell;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, OnceLock};
use std::thread;

use dashmap::DashMap;
use once_cell::sync::Lazy;
use rustler::env::SavedTerm;
use rustler::{Atom, Encoder, Env, LocalPid, Monitor, OwnedEnv, Resource, ResourceArc, Term};
use telemetry_cache::Cache;
use telemetry_cache::call::{Call, CallOutcome};
use telemetry_cache::flights::{Flights, Landed};
use telemetry_cache::front::Front;

use crate::clock;

mod atoms {
    rustler::atoms! { died, stopped }
}

/// To tell more waiters is not for a normal scheduler.
pub const MOST_WAITERS: usize = 100;

/// A cache, and the runs that are under way.
pub struct CacheResource {
    pub number: u64,
    pub cache: Arc<Cache>,
    pub flights: Flights<LocalPid, Waiter, Payload>,
    closed: AtomicBool,
}

impl std::panic::RefUnwindSafe for CacheResource {}

/// What a run is for.
pub struct Payload {
    pub call: Call,
    /// Tells when who runs it dies. Of those that wait it is not set.
    pub monitor: OnceLock<Monitor>,
}

/// A process that waits, and the reference by which it knows the answer.
pub struct Waiter {
    pid: LocalPid,
    env: OwnedEnv,
    tag: SavedTerm,
}

static CACHES: Lazy<DashMap<u64, ResourceArc<CacheResource>>> = Lazy::new(DashMap::new);

thread_local! {
    /// The cache that this thread used last, so that a lookup touches no shared table. One that was
    /// closed holds no results, and stays here until the thread uses another.
    static LAST: RefCell<Option<Last>> = const { RefCell::new(None) };
}

/// A cache, and what a thread remembers of it.
struct Last {
    cache: ResourceArc<CacheResource>,
    front: Front,
}

#[rustler::resource_impl]
impl Resource for CacheResource {
    fn down<'a>(&'a self, env: Env<'a>, pid: LocalPid, _monitor: Monitor) {
        // Called on a normal scheduler.
        if self.flights.waiting_for(pid) > MOST_WAITERS && land_elsewhere(self.number, pid) {
            return;
        }
        for landed in self.flights.land_all_of(pid) {
            self.died(&landed);
            tell(env, landed, atoms::died().to_term(env));
        }
    }
}

impl CacheResource {
    /// Makes a cache known by a number that is never used twice.
    pub fn open(cache: &Arc<Cache>) -> ResourceArc<Self> {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        let number = NEXT.fetch_add(1, Relaxed);
        let flights = Flights::new(cache.spec().waiter_limit);
        let closed = AtomicBool::new(false);
        let resource = Self { number, cache: Arc::clone(cache), flights, closed };
        let resource = ResourceArc::new(resource);
        CACHES.insert(number, resource.clone());
        resource
    }

    /// Observes those who waited for a run, before they are told what came of it. One that has died
    /// gets no result.
    pub fn waited(&self, env: Env<'_>, landed: &Landed<Payload, Waiter>, is_result: bool) {
        let joined = landed.waiters.iter().filter(|waiter| is_result && waiter.pid.is_alive(env));
        let joined = joined.count() as u64;
        let unanswered = landed.waiters.len() as u64 - joined;
        self.cache.waited(&landed.payload.call, joined, unanswered);
    }

    /// Observes a run that died, for which nobody gets a result.
    fn died(&self, landed: &Landed<Payload, Waiter>) {
        let call = &landed.payload.call;
        self.cache.computed(call, CallOutcome::Failed, None, clock::cache_ms());
        self.cache.waited(call, 0, landed.waiters.len() as u64);
    }

    /// Makes it unknown, and tells those who wait.
    pub fn close(&self, env: Env<'_>) {
        self.closed.store(true, Relaxed);
        CACHES.remove(&self.number);
        for landed in self.flights.close_all() {
            tell(env, landed, atoms::stopped().to_term(env));
        }
        // What came in meanwhile, from a thread that did not know yet.
        self.cache.clear();
    }
}

/// Uses the cache with a number; nothing if it was closed.
#[inline]
pub fn with<R>(number: u64, use_it: impl FnOnce(&ResourceArc<CacheResource>) -> R) -> Option<R> {
    LAST.with(|last| {
        if let Ok(known) = last.try_borrow()
            && let Some(Last { cache, .. }) = &*known
            && cache.number == number
        {
            return (!cache.closed.load(Relaxed)).then(|| use_it(cache));
        }
        let cache = CACHES.get(&number)?.clone();
        Some(use_it(&cache))
    })
}

/// The same for lookups, which use what the thread remembers.
#[inline]
pub fn with_front<R>(
    number: u64,
    use_it: impl FnOnce(&CacheResource, &mut Front) -> R,
) -> Option<R> {
    LAST.with_borrow_mut(|last| {
        if last.as_ref().is_none_or(|last| last.cache.number != number) {
            let cache = CACHES.get(&number)?.clone();
            *last = Some(Last { cache, front: Front::default() });
        }
        let Last { cache, front } = last.as_mut()?;
        (!cache.closed.load(Relaxed)).then(|| use_it(cache, front))
    })
}

impl Waiter {
    pub fn new(pid: LocalPid, tag: Term<'_>) -> Self {
        let env = OwnedEnv::new();
        let tag = env.save(tag);
        Self { pid, env, tag }
    }

    /// Sends `{Tag, Message}`. To one that has died, nothing is sent.
    fn tell<'a>(&self, env: Env<'a>, message: Term<'a>) {
        let tag = self.env.run(|own| self.tag.load(own).in_env(env));
        let _ = env.send(&self.pid, (tag, message).encode(env));
    }

    /// The same from a thread that is not the VM's.
    fn tell_from_thread(self, message: Atom) {
        let Self { pid, mut env, tag } = self;
        let _ = env.send_and_clear(&pid, |env| (tag.load(env), message).encode(env));
    }
}

/// Ends the runs of a caller that has died in a thread of its own, since many wait for them. `false` if
/// there is no thread to be had.
fn land_elsewhere(number: u64, leader: LocalPid) -> bool {
    let builder = thread::Builder::new().name("dspex_cache".to_owned());
    let landing = builder.spawn(move || {
        // One that was closed meanwhile has told everybody.
        let Some(cache) = CACHES.get(&number).map(|cache| cache.clone()) else { return };
        for landed in cache.flights.land_all_of(leader) {
            cache.died(&landed);
            for waiter in landed.waiters {
                waiter.tell_from_thread(atoms::died());
            }
        }
    });
    landing.is_ok()
}

/// Tells all who wait for a run what came of it.
pub fn tell<'a>(env: Env<'a>, landed: Landed<Payload, Waiter>, message: Term<'a>) {
    for waiter in landed.waiters {
        waiter.tell(env, message);
    }
}
