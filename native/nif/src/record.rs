//! The hot path: one NIF for every event.

use rustler::codegen_runtime::{c_char, c_int, inventory};
use rustler::sys::{ErlNifEnv, ErlNifTerm};
use rustler::{Atom, Binary, Env, Nif, Term};
use telemetry_core::field::MAX_FIELDS;
use telemetry_core::local::{self, Outcome};
use telemetry_core::plan::PlanId;

use crate::decode::{self, List};
use crate::raw::{self, Arguments};

mod atoms {
    rustler::atoms! { ok, exemplary, rejected, stopped }
}

/// `record(Plan, Field1, …)`: says what became of the event; never raises.
#[inline]
fn record<'a>(env: Env<'a>, arguments: Arguments<'a>) -> Atom {
    let Some(Ok(plan)) = arguments.get(0).map(|plan| plan.decode::<u64>()) else {
        return atoms::stopped();
    };
    let outcome = local::record(PlanId::from(plan), |inputs, decoded| {
        let field = |at| arguments.get(at + 1).unwrap_or_else(|| decode::absent(env));
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
    List(fields): List<Term<'a>, MAX_FIELDS>,
    List(labels): List<Binary<'a>, MAX_FIELDS>,
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
    // SAFETY: the VM calls.
    unsafe { raw::call(env, argc, argv, |env, arguments| record(env, arguments).to_term(env)) }
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
