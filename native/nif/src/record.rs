//! The hot path: one NIF for every event.
//!
//! It is registered by hand, because `#[rustler::nif]` costs more than the recording: the wrapper
//! that it generates collects the arguments into a vector on the heap (38 ns measured), and
//! decoding a resource looks its type up in a hash map (32 ns). Here the arguments stay where the
//! VM has put them, and a plan is named by a number.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering};

use rustler::codegen_runtime::{c_char, c_int, inventory};
use rustler::sys::{ErlNifEnv, ErlNifTerm};
use rustler::{Atom, Binary, Env, Nif, Term};
use telemetry_core::local::{self, Outcome};
use telemetry_core::plan::PlanId;

use crate::decode;

mod atoms {
    rustler::atoms! { ok, exemplary, rejected, stopped, panicked }
}

static PANICS: AtomicU64 = AtomicU64::new(0);

/// How many recordings of the whole VM ended in a panic: a bug, so always zero.
#[rustler::nif]
fn panics() -> u64 {
    PANICS.load(Ordering::Relaxed)
}

/// `record(Plan, Field1, …)`: says what became of the event; never raises.
#[inline]
fn record<'a>(env: Env<'a>, arguments: &[ErlNifTerm]) -> Atom {
    // SAFETY: the VM passes terms of `env`.
    let term = |raw: ErlNifTerm| unsafe { Term::<'a>::new(env, raw) };
    let Some((plan, fields)) = arguments.split_first() else {
        return atoms::stopped();
    };
    let Ok(plan) = term(*plan).decode::<u64>() else {
        return atoms::stopped();
    };
    let outcome = local::record(PlanId::from(plan), |inputs, decoded| {
        let field = |at| fields.get(at).map_or_else(|| decode::absent(env), |raw| term(*raw));
        decode::fields(inputs, field, decoded)
    });
    match outcome {
        Outcome::Recorded => atoms::ok(),
        Outcome::Exemplary => atoms::exemplary(),
        Outcome::Rejected(_) => atoms::rejected(),
        Outcome::Stopped => atoms::stopped(),
    }
}

/// Keeps an event that was found exemplary: its fields once more, and what it can be found by.
#[rustler::nif]
fn keep_exemplar<'a>(
    env: Env<'a>,
    plan: u64,
    fields: Vec<Term<'a>>,
    labels: Vec<Binary<'a>>,
) -> Atom {
    let field = |at: usize| fields.get(at).copied().unwrap_or_else(|| decode::absent(env));
    let labels: Vec<_> = labels.iter().map(|label| label.as_slice()).collect();
    local::keep_exemplar(
        PlanId::from(plan),
        |inputs, decoded| decode::fields(inputs, field, decoded),
        &labels,
    );
    atoms::ok()
}

unsafe extern "C" fn record_nif(
    env: *mut ErlNifEnv,
    argc: c_int,
    argv: *const ErlNifTerm,
) -> ErlNifTerm {
    let lifetime = ();
    // SAFETY: the VM passes a valid environment and `argc` terms, all of which live until this
    // function returns; `lifetime` ends there.
    let (env, arguments) =
        unsafe { (Env::new(&lifetime, env), std::slice::from_raw_parts(argv, argc as usize)) };
    // After a panic the core's state is as valid as before: atomic counters, and caches that are
    // valid after every statement.
    let outcome = catch_unwind(AssertUnwindSafe(|| record(env, arguments)));
    let outcome = outcome.unwrap_or_else(|_| {
        PANICS.fetch_add(1, Ordering::Relaxed);
        atoms::panicked()
    });
    outcome.as_c_arg()
}

macro_rules! register_record {
    ($($arity:literal),+) => {
        $(inventory::submit!(Nif {
            name: c"record".as_ptr() as *const c_char,
            arity: $arity,
            flags: 0,
            raw_func: record_nif,
        });)+
    };
}

register_record!(1, 2, 3, 4, 5, 6, 7, 8, 9);
