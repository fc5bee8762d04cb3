//! Where requests go.

use std::sync::OnceLock;

use rustler::codegen_runtime::{c_char, c_int, inventory};
use rustler::sys::{ErlNifEnv, ErlNifTerm};
use rustler::{
    Atom, Encoder, Env, Error, LocalPid, Monitor, NewBinary, Nif, NifResult, Resource, ResourceArc,
    Term,
};
use telemetry_common::label;
use telemetry_router::{Completion, Outcome, Request, Ticket, published};

use crate::clock::router as clock;
use crate::decode::{self, List};
use crate::encode;
use crate::error::raise;
use crate::raw::{self, Arguments};
use crate::resource::InstanceResource;

mod atoms {
    rustler::atoms! {
        ok, error, nil, no_workers, not_running, invalid_command,
        success, failure, unknown, completed, worker_gone, stopped
    }
}

/// A request whose end will be reported, and the monitor of whoever made it.
struct TicketResource {
    ticket: Ticket,
    monitor: OnceLock<Monitor>,
}

impl std::panic::RefUnwindSafe for TicketResource {}

#[rustler::resource_impl]
impl Resource for TicketResource {
    fn down<'a>(&'a self, _env: Env<'a>, _pid: LocalPid, _monitor: Monitor) {
        self.ticket.abandon(clock::exact_ns());
    }
}

/// Routers are known by the name of their instance.
#[inline]
fn number(name: ErlNifTerm) -> u64 {
    raw::word(name)
}

/// Empties the caches of all threads if another had the name.
#[rustler::nif(schedule = "DirtyCpu")]
fn publish_router(instance: &InstanceResource, name: Atom) -> Atom {
    instance.instance.publish_router(number(name.as_c_arg()), clock::recent_ns);
    atoms::ok()
}

/// A request as the BEAM passes it. A key that can be none is none.
#[inline(always)]
fn request<'a>(command: Term<'a>, key: Term<'a>) -> Option<Request<'a>> {
    let command = decode::text(command)?;
    let key = if atoms::nil() == key { None } else { decode::text(key) };
    Some(Request { command, key })
}

/// Copies an id. Ids differ a little in length, so a copy that takes another way for each length takes the
/// wrong one every other time; this one takes the same for 8 to 24 bytes, as words that overlap.
#[inline]
fn copy(id: &[u8], to: &mut [u8]) {
    const WORD: usize = 8;
    if !(WORD..=3 * WORD).contains(&id.len()) || id.len() != to.len() {
        return to.copy_from_slice(id);
    }
    let last = id.len() - WORD;
    for at in [0, last.min(WORD), last] {
        if let (Some(from), Some(to)) = (id[at..].first_chunk::<WORD>(), to[at..].first_chunk_mut())
        {
            *to = *from;
        }
    }
}

/// `route(Instance, Command, Key)`.
#[inline]
fn route<'a>(env: Env<'a>, arguments: Arguments<'a>) -> Term<'a> {
    let Some([instance, command, key]) = arguments.all() else {
        return atoms::not_running().to_term(env);
    };
    let Some(request) = request(command, key) else {
        return atoms::invalid_command().to_term(env);
    };
    let routed = published::with_router(number(instance.as_c_arg()), |router, memory| {
        router.route(request, clock::recent_ns(), memory, |id, _| {
            let mut worker = NewBinary::new(env, id.len());
            copy(id, worker.as_mut_slice());
            (atoms::ok(), Term::from(worker)).encode(env)
        })
    });
    match routed {
        Some(Some(worker)) => worker,
        Some(None) => (atoms::error(), atoms::no_workers()).encode(env),
        None => atoms::not_running().to_term(env),
    }
}

unsafe extern "C" fn route_nif(
    env: *mut ErlNifEnv,
    argc: c_int,
    argv: *const ErlNifTerm,
) -> ErlNifTerm {
    // SAFETY: the VM calls.
    unsafe { raw::call(env, argc, argv, route) }
}

inventory::submit!(Nif {
    name: c"route".as_ptr() as *const c_char,
    arity: 3,
    flags: 0,
    raw_func: route_nif,
});

/// `{ok, Ticket, WorkerId}`, or why there is none. The ticket is released when the calling process
/// ends or lets go of it.
#[rustler::nif]
fn checkout<'a>(env: Env<'a>, instance: Atom, command: Term<'a>, key: Term<'a>) -> Term<'a> {
    let Some(request) = request(command, key) else {
        return atoms::invalid_command().to_term(env);
    };
    let ticket = published::with_router(number(instance.as_c_arg()), |router, memory| {
        router.checkout(request, clock::exact_ns(), memory)
    });
    match ticket {
        Some(Some(ticket)) => {
            let resource = ResourceArc::new(TicketResource { ticket, monitor: OnceLock::new() });
            // Fails only if the process is exiting, which it is not while it calls.
            if let Some(monitor) = env.monitor(&resource, &env.pid()) {
                let _ = resource.monitor.set(monitor);
            }
            let worker = decode::binary(env, resource.ticket.worker_id().as_bytes());
            (atoms::ok(), resource, worker).encode(env)
        }
        Some(None) => (atoms::error(), atoms::no_workers()).encode(env),
        None => atoms::not_running().to_term(env),
    }
}

#[rustler::nif]
fn complete<'a>(
    env: Env<'a>,
    ticket: ResourceArc<TicketResource>,
    outcome: Atom,
    duration_ns: Option<u64>,
) -> NifResult<Atom> {
    let outcome = if outcome == atoms::success() {
        Outcome::Success
    } else if outcome == atoms::failure() {
        Outcome::Failure
    } else if outcome == atoms::unknown() {
        Outcome::Unknown
    } else {
        return Err(Error::BadArg);
    };
    let completion = ticket.ticket.complete(outcome, duration_ns, clock::exact_ns());
    if let Some(monitor) = ticket.monitor.get() {
        env.demonitor(&ticket, monitor);
    }
    Ok(match completion {
        Completion::Counted => atoms::ok(),
        Completion::Again => atoms::completed(),
        Completion::WorkerGone => atoms::worker_gone(),
        Completion::Stopped => atoms::stopped(),
    })
}

/// `{Added, Removed, Refused}`.
#[rustler::nif(schedule = "DirtyCpu")]
fn put_workers(
    instance: &InstanceResource,
    List(ids): List<Term>,
) -> NifResult<(usize, usize, usize)> {
    let ids = ids.into_iter().map(|id| decode::text(id).map(label::normalise));
    let ids = ids.collect::<Option<Vec<_>>>().ok_or(Error::BadArg)?;
    let ids = ids.iter().map(|id| &**id);
    let change = instance.instance.put_workers(ids, clock::exact_ns());
    Ok((change.added, change.removed, change.refused))
}

#[rustler::nif]
fn bind_to_worker(instance: &InstanceResource, key: Term, worker: Term) -> NifResult<bool> {
    let (Some(key), Some(worker)) = (decode::text(key), decode::text(worker)) else {
        return Err(Error::BadArg);
    };
    Ok(instance.instance.router().bind(key, &label::normalise(worker)))
}

#[rustler::nif(schedule = "DirtyCpu")]
fn explain_routing<'a>(
    env: Env<'a>,
    instance: &InstanceResource,
    command: Term<'a>,
) -> NifResult<Term<'a>> {
    let command = decode::text(command).ok_or(Error::BadArg)?;
    let router = instance.instance.router();
    let explanation = router.explain(&label::normalise(command), clock::exact_ns());
    encode::term(env, &explanation).map_err(raise)
}

#[rustler::nif(schedule = "DirtyCpu")]
fn router_report<'a>(env: Env<'a>, instance: &InstanceResource) -> NifResult<Term<'a>> {
    encode::term(env, &instance.instance.router().report(clock::exact_ns())).map_err(raise)
}
