//! Calls for which there was no result, and everything else that is not the path of a hit.

use std::borrow::Cow;
use std::sync::OnceLock;

use rustler::{Atom, Binary, Encoder, Env, NifResult, NifTuple, ResourceArc, Term};
use telemetry_cache::call::{Call, CallOutcome, Kept, Target};
use telemetry_cache::flights::{Entered, FlightId};
use telemetry_cache::key::KeyRef;
use telemetry_cache::report::CacheReport;
use telemetry_common::label;

use super::key::{self, NoKey};
use super::lookup::{self, CallTerms, Texts, found};
use super::resource::{self, CacheResource, MOST_WAITERS, Payload, Waiter, tell};
use crate::error::raise;
use crate::resource::InstanceResource;
use crate::{clock, encode};

mod atoms {
    rustler::atoms! {
        ok, stopped, uncacheable, run, wait, undeclared, circular, crowded,
        landed, failed, dirty, kept, refused, invalidated, too_large, too_deep, function, bit_string,
        no_text, all, method, reference, worker
    }
}

/// To copy more bytes of a result is not for a normal scheduler.
const MOST_BYTES: usize = 64 << 10;

#[rustler::nif]
fn cache_open(instance: &InstanceResource) -> u64 {
    // No cache has this number.
    instance.cache.as_ref().map_or(0, |cache| cache.number)
}

/// A call that is made, as Elixir describes it.
#[derive(NifTuple)]
struct MadeTerms<'a> {
    terms: CallTerms<'a>,
    worker: Term<'a>,
    is_declared: bool,
}

/// What is known of a call beside its key.
struct Known<'a> {
    method: Cow<'a, str>,
    class: Option<Cow<'a, str>>,
    reference: Option<Cow<'a, str>>,
    worker: Option<Cow<'a, str>>,
}

impl<'a> Known<'a> {
    fn new(texts: &Texts<'a>, worker: Option<&'a [u8]>) -> Self {
        Self {
            method: label::normalise(texts.method),
            class: texts.class.map(label::normalise),
            reference: texts.reference.map(label::normalise),
            worker: worker.map(label::normalise),
        }
    }

    fn call(&self, resource: &CacheResource, key: KeyRef<'_>, declared: bool) -> Call {
        let target = Target {
            method: &self.method,
            class: self.class.as_deref(),
            reference: self.reference.as_deref(),
            worker: self.worker.as_deref(),
        };
        resource.cache.call(key, target, declared)
    }
}

fn why(no_key: NoKey) -> Atom {
    match no_key {
        NoKey::TooLarge => atoms::too_large(),
        NoKey::TooDeep => atoms::too_deep(),
        NoKey::Function => atoms::function(),
        NoKey::BitString => atoms::bit_string(),
        NoKey::NoText => atoms::no_text(),
    }
}

/// Makes a call, and goes on with it if it may be cached; otherwise it is observed, and the answer is
/// why it may not.
fn with_call<'a>(
    env: Env<'a>,
    number: u64,
    made: MadeTerms<'a>,
    go_on: impl FnOnce(&ResourceArc<CacheResource>, Call) -> Term<'a>,
) -> Term<'a> {
    let MadeTerms { terms, worker, is_declared } = made;
    let answer = resource::with(number, |resource| {
        let worker = key::text(worker)?;
        terms.with_key(resource, |key, texts| {
            let call = Known::new(texts, worker).call(resource, key, is_declared);
            if call.is_declared() {
                return go_on(resource, call);
            }
            resource.cache.undeclared(&call, clock::cache_ms());
            atoms::undeclared().encode(env)
        })
    });
    match answer {
        Some(Ok(answer)) => answer,
        Some(Err(no_key)) => (atoms::uncacheable(), why(no_key)).encode(env),
        None => atoms::stopped().encode(env),
    }
}

fn outcome<'a>(result: &'a Binary<'_>, is_error: bool) -> CallOutcome<'a> {
    let bytes = result.as_slice();
    if is_error { CallOutcome::Error(bytes) } else { CallOutcome::Value(bytes) }
}

fn computed(
    resource: &CacheResource,
    call: &Call,
    outcome: CallOutcome<'_>,
    duration_ns: Option<u64>,
) -> Kept {
    let now_ms = clock::cache_ms();
    resource.cache.computed_in(call, outcome, duration_ns, now_ms, lookup::Kept::new)
}

/// What a caller has to do that has found no result: `{run, Flight}`, `{wait, Flight}`, or run the
/// function on its own for one of the reasons that are said.
#[rustler::nif]
fn cache_enter<'a>(env: Env<'a>, number: u64, call: MadeTerms<'a>, tag: Term<'a>) -> Term<'a> {
    with_call(env, number, call, |resource, call| enter(env, resource, call, tag))
}

fn enter<'a>(
    env: Env<'a>,
    resource: &ResourceArc<CacheResource>,
    call: Call,
    tag: Term<'a>,
) -> Term<'a> {
    let cache = &resource.cache;
    let (pid, key) = (env.pid(), call.key().clone());
    let entered = resource.flights.enter(
        &key,
        pid,
        Payload { call, monitor: OnceLock::new() },
        |under_way| cache.is_valid(&under_way.call),
        || cache.get(key.key_ref(), clock::cache_ms()),
        || Waiter::new(pid, tag),
    );
    match entered {
        Entered::Leads(flight) => {
            if let Some(monitor) = resource.monitor(Some(env), &pid) {
                resource.flights.look(flight, |payload, _| payload.monitor.set(monitor));
            }
            (atoms::run(), flight.get()).encode(env)
        }
        Entered::Waits(flight) => (atoms::wait(), flight.get()).encode(env),
        Entered::Found(entry) => {
            found(env, &entry).unwrap_or_else(|| atoms::undeclared().encode(env))
        }
        Entered::Circular(_) => atoms::circular().encode(env),
        Entered::Crowded(_) => atoms::crowded().encode(env),
    }
}

/// A result of so many bytes is about to land. One that is too large and for which nobody waits need not
/// be encoded, and has landed now.
#[rustler::nif]
fn cache_prepare(env: Env, number: u64, flight: u64, size: usize, duration_ns: u64) -> Atom {
    let prepared = resource::with(number, |resource| {
        let flight = FlightId::from(flight);
        if size > resource.cache.spec().max_result_bytes && resource.flights.close(flight) == 0 {
            land(env, resource, flight, CallOutcome::TooLarge, duration_ns, None);
            return atoms::landed();
        }
        atoms::ok()
    });
    prepared.unwrap_or_else(atoms::stopped)
}

/// Whether more wait for a run than are told on a normal scheduler.
fn is_crowded(number: u64, flight: u64) -> bool {
    let waiters = resource::with(number, |resource| {
        resource.flights.look(flight.into(), |_, waiters| waiters)
    });
    waiters.flatten().is_some_and(|waiters| waiters > MOST_WAITERS)
}

/// `dirty` if nothing was done, as it would take too long here.
#[rustler::nif]
fn cache_land<'a>(
    env: Env<'a>,
    number: u64,
    flight: u64,
    result: Binary<'a>,
    is_error: bool,
    duration_ns: u64,
) -> Atom {
    if result.len() > MOST_BYTES || is_crowded(number, flight) {
        return atoms::dirty();
    }
    land_result(env, number, flight, result, is_error, duration_ns)
}

#[rustler::nif(schedule = "DirtyCpu")]
fn cache_land_dirty<'a>(
    env: Env<'a>,
    number: u64,
    flight: u64,
    result: Binary<'a>,
    is_error: bool,
    duration_ns: u64,
) -> Atom {
    land_result(env, number, flight, result, is_error, duration_ns)
}

fn land_result<'a>(
    env: Env<'a>,
    number: u64,
    flight: u64,
    result: Binary<'a>,
    is_error: bool,
    duration_ns: u64,
) -> Atom {
    let message = (atoms::landed(), result).encode(env);
    answer(env, number, flight, outcome(&result, is_error), duration_ns, message)
}

/// The function has failed, for a reason in the external term format. `dirty` if nothing was done, as it
/// would take too long here.
#[rustler::nif]
fn cache_fail<'a>(
    env: Env<'a>,
    number: u64,
    flight: u64,
    reason: Binary<'a>,
    duration_ns: u64,
) -> Atom {
    if is_crowded(number, flight) {
        return atoms::dirty();
    }
    fail(env, number, flight, reason, duration_ns)
}

#[rustler::nif(schedule = "DirtyCpu")]
fn cache_fail_dirty<'a>(
    env: Env<'a>,
    number: u64,
    flight: u64,
    reason: Binary<'a>,
    duration_ns: u64,
) -> Atom {
    fail(env, number, flight, reason, duration_ns)
}

fn fail<'a>(env: Env<'a>, number: u64, flight: u64, reason: Binary<'a>, duration_ns: u64) -> Atom {
    let message = (atoms::failed(), reason).encode(env);
    answer(env, number, flight, CallOutcome::Failed, duration_ns, message)
}

/// Lands a run, and tells those who wait for it.
fn answer<'a>(
    env: Env<'a>,
    number: u64,
    flight: u64,
    outcome: CallOutcome<'_>,
    duration_ns: u64,
    message: Term<'a>,
) -> Atom {
    let landed = resource::with(number, |resource| {
        land(env, resource, flight.into(), outcome, duration_ns, Some(message));
        atoms::ok()
    });
    landed.unwrap_or_else(atoms::stopped)
}

fn land<'a>(
    env: Env<'a>,
    resource: &ResourceArc<CacheResource>,
    flight: FlightId,
    outcome: CallOutcome<'_>,
    duration_ns: u64,
    message: Option<Term<'a>>,
) {
    let Some(call) = resource.flights.look(flight, |payload, _| payload.call.clone()) else {
        return;
    };
    let is_result = !matches!(outcome, CallOutcome::Failed);
    // Before the run ends: who comes afterwards finds the result.
    computed(resource, &call, outcome, Some(duration_ns));
    if let Some(landed) = resource.flights.land(flight) {
        resource.waited(env, &landed, is_result);
        if let Some(monitor) = landed.payload.monitor.get() {
            resource.demonitor(Some(env), monitor);
        }
        if let Some(message) = message {
            tell(env, landed, message);
        }
    }
}

/// Says whether the caller was still waiting; if not, the answer is in its mailbox.
#[rustler::nif]
fn cache_leave(env: Env, number: u64, flight: u64) -> bool {
    let left = resource::with(number, |resource| {
        let flight = FlightId::from(flight);
        // Before, as the run may land right after.
        let call = resource.flights.look(flight, |payload, _| payload.call.clone());
        let left = resource.flights.leave(flight, env.pid());
        if left && let Some(call) = call {
            resource.cache.waited(&call, 0, 1);
        }
        left
    });
    left.unwrap_or(false)
}

/// What became of a result that was computed without asking before.
#[rustler::nif(schedule = "DirtyCpu")]
fn cache_put<'a>(
    env: Env<'a>,
    number: u64,
    call: MadeTerms<'a>,
    since: Option<u64>,
    result: Binary<'a>,
    is_error: bool,
    duration_ns: Option<u64>,
) -> Term<'a> {
    with_call(env, number, call, |resource, mut call| {
        if let Some(since) = since {
            call = resource.cache.since(call, since);
        }
        kept(env, computed(resource, &call, outcome(&result, is_error), duration_ns))
    })
}

fn kept<'a>(env: Env<'a>, kept: Kept) -> Term<'a> {
    match kept {
        Kept::For { ttl_ms } => (atoms::kept(), ttl_ms).encode(env),
        Kept::Refused(verdict) => (atoms::refused(), verdict.to_string()).encode(env),
        Kept::Failed => atoms::failed().encode(env),
        Kept::TooLarge => atoms::too_large().encode(env),
        Kept::Invalidated => atoms::invalidated().encode(env),
    }
}

/// A number for [`cache_put`], taken before the result is computed.
#[rustler::nif]
fn cache_now(number: u64) -> u64 {
    resource::with(number, |resource| resource.cache.now().number()).unwrap_or(0)
}

#[rustler::nif]
fn cache_invalidate_key<'a>(
    number: u64,
    method: Term<'a>,
    class: Term<'a>,
    reference: Term<'a>,
    arguments: Term<'a>,
) -> Atom {
    let terms = CallTerms { method, class, reference, arguments };
    let invalidated = resource::with(number, |resource| {
        // What has no key is not kept.
        let _ = terms.with_key(resource, |key, _| resource.cache.invalidate_key(key));
    });
    invalidated.map_or_else(atoms::stopped, |()| atoms::ok())
}

/// `(Cache, all | method | reference | worker, Name, Class)`.
#[rustler::nif(schedule = "DirtyCpu")]
fn cache_invalidate<'a>(
    number: u64,
    what: Atom,
    name: Term<'a>,
    class: Term<'a>,
) -> NifResult<Atom> {
    let text = |term| key::text(term).map_err(|_| rustler::Error::BadArg);
    let (name, class) = (text(name)?.map(label::normalise), text(class)?.map(label::normalise));
    let invalidated = resource::with(number, |resource| {
        let (cache, name) = (&resource.cache, name.as_deref().unwrap_or_default());
        if what == atoms::all() {
            cache.invalidate_all();
        } else if what == atoms::method() {
            cache.invalidate_method(name, class.as_deref());
        } else if what == atoms::reference() {
            cache.invalidate_reference(name);
        } else if what == atoms::worker() {
            cache.worker_died(name);
        } else {
            return Err(rustler::Error::BadArg);
        }
        Ok(atoms::ok())
    });
    invalidated.unwrap_or_else(|| Ok(atoms::stopped()))
}

/// `{Report, Runs, Waiting}`.
#[rustler::nif(schedule = "DirtyCpu")]
fn cache_report(env: Env, number: u64) -> NifResult<Term> {
    let report = resource::with(number, |resource| {
        let (runs, waiting) = resource.flights.len();
        let report = encode::term(env, &CacheReport::new(&resource.cache)).map_err(raise)?;
        Ok((report, runs, waiting).encode(env))
    });
    report.unwrap_or_else(|| Ok(atoms::stopped().encode(env)))
}
