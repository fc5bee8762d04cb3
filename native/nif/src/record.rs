//! The hot path: one NIF for every event, and one for the few that are given once more.

use rustler::codegen_runtime::{c_char, c_int, inventory};
use rustler::sys::{ErlNifEnv, ErlNifTerm};
use rustler::{Atom, Binary, Encoder, Env, Nif, Term};
use telemetry_recording::details::Details;
use telemetry_recording::field::MAX_FIELDS;
use telemetry_recording::local::{self, RecordOutcome};
use telemetry_recording::notes::Notes;
use telemetry_recording::plan::PlanId;

use crate::decode::{self, List};
use crate::raw::{self, Arguments};

mod atoms {
    rustler::atoms! { ok, rejected, stopped }
}

/// `record(Plan, Field1, …)`: says what became of the event, as an atom or as the number of what is noted of it; never
/// raises.
#[inline]
fn record<'a>(env: Env<'a>, arguments: Arguments<'a>) -> Term<'a> {
    let Some(Ok(plan)) = arguments.get(0).map(|plan| plan.decode::<u64>()) else {
        return atoms::stopped().to_term(env);
    };
    let process = || decode::process_number(env.pid().encode(env));
    let outcome = local::record(PlanId::from(plan), process, |inputs, decoded| {
        let field = |at| arguments.get(at + 1).unwrap_or_else(|| decode::absent(env));
        decode::fields(inputs, field, decoded)
    });
    match outcome {
        RecordOutcome::Recorded => atoms::ok().to_term(env),
        RecordOutcome::Noted(notes) => notes.get().encode(env),
        RecordOutcome::Rejected(_) => atoms::rejected().to_term(env),
        RecordOutcome::Stopped => atoms::stopped().to_term(env),
    }
}

/// Does what was noted of an event: its fields once more, and what else it says, in the order of
/// `DSPexTelemetry.Recording.Details`.
#[rustler::nif]
fn keep<'a>(
    env: Env<'a>,
    plan: u64,
    notes: u8,
    List(fields): List<Term<'a>, MAX_FIELDS>,
    List(details): List<Binary<'a>, MAX_FIELDS>,
    is_callers_fault: bool,
) -> Atom {
    let field = |at: usize| fields.get(at).copied().unwrap_or_else(|| decode::absent(env));
    let detail = |at: usize| details.get(at).map(Binary::as_slice).unwrap_or_default();
    let details = Details {
        trace_id: detail(0),
        span_id: detail(1),
        correlation_id: detail(2),
        session_id: detail(3),
        worker_id: detail(4),
        message: detail(5),
        is_callers_fault,
    };
    local::keep(
        PlanId::from(plan),
        Notes::from(notes),
        |inputs, decoded| decode::fields(inputs, field, decoded),
        &details,
    );
    atoms::ok()
}

unsafe extern "C" fn record_nif(
    env: *mut ErlNifEnv,
    argc: c_int,
    argv: *const ErlNifTerm,
) -> ErlNifTerm {
    // SAFETY: the VM calls.
    unsafe { raw::call(env, argc, argv, record) }
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

register_record!(1, 2, 3, 4, 5, 6, 7, 8, 9, 10);
