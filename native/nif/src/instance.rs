//! Instances, and everything that is not the hot path.

use std::sync::{Arc, Mutex};

use rustler::{Atom, Binary, Encoder, Env, LocalPid, NifResult, ResourceArc, Term};
use serde::Serialize;
use telemetry_common::moment::Moment;
use telemetry_common::thread_number;
use telemetry_instance::instance::{Definition, Instance};
use telemetry_recording::encoding;
use telemetry_reports::errors::Errors;
use telemetry_reports::page::{Page, PageSpec, SharedMemo};
use telemetry_reports::performance::Performance;
use telemetry_reports::report::Report;
use telemetry_windows::window::Window;

use crate::cache::CacheResource;
use crate::decode::{self, List};
use crate::error::raise;
use crate::forwarder::Forwarder;
use crate::rendered::Unsettled;
use crate::resource::InstanceResource;
use crate::{clock, encode, observe};

mod atoms {
    rustler::atoms! { ok, error, not_found }
}

/// The library is loaded with the number of schedulers, which are the threads that record, and the
/// time at which the VM started.
pub fn load(_env: Env, schedulers_and_start: Term) -> bool {
    match schedulers_and_start.decode() {
        Ok((schedulers, start)) => {
            thread_number::set_exclusive_lanes(schedulers);
            clock::start(start);
            true
        }
        Err(_) => false,
    }
}

#[rustler::nif(schedule = "DirtyCpu")]
fn start<'a>(env: Env<'a>, definition: Term<'a>) -> Term<'a> {
    let started = decode::value(definition)
        .and_then(|value| {
            serde_json::from_value::<Definition>(value).map_err(|error| error.to_string())
        })
        .and_then(|mut definition| {
            let mut observations = definition.observations.iter_mut();
            observations.try_for_each(|observation| observe::resolve_keys(env, observation))?;
            Instance::start(definition, Arc::new(clock::now)).map_err(|error| error.to_string())
        });
    match started {
        Ok(instance) => {
            let plans: Vec<u64> = instance.plan_ids().map(|id| id.get()).collect();
            let file = Mutex::default();
            let cache = instance.cache().map(CacheResource::open);
            let forwarder = Forwarder::default();
            let spare = Arc::default();
            let unsettled = Unsettled::default();
            let page_memo = SharedMemo::default();
            let resource =
                InstanceResource { instance, file, cache, spare, unsettled, page_memo, forwarder };
            let resource = ResourceArc::new(resource);
            (atoms::ok(), resource, plans).encode(env)
        }
        Err(message) => (atoms::error(), message).encode(env),
    }
}

#[rustler::nif(schedule = "DirtyCpu")]
fn stop(env: Env, instance: &InstanceResource) -> Atom {
    instance.forwarder.stop();
    instance.instance.stop();
    instance.cache.iter().for_each(|cache| cache.close(env));
    atoms::ok()
}

#[rustler::nif(schedule = "DirtyCpu")]
fn reset(instance: &InstanceResource, now: Term) -> NifResult<Atom> {
    instance.instance.reset(decode::moment(now)?);
    Ok(atoms::ok())
}

#[rustler::nif(schedule = "DirtyCpu")]
fn tick(env: Env, instance: &InstanceResource, now: Term) -> NifResult<Atom> {
    let now = decode::moment(now)?;
    instance.instance.tick(now);
    instance.instance.forget_processes(now, |process| decode::is_alive(env, process));
    Ok(atoms::ok())
}

#[rustler::nif(schedule = "DirtyCpu")]
fn forget_worker(instance: &InstanceResource, id: Binary) -> Atom {
    instance.instance.forget_worker(id.as_slice());
    atoms::ok()
}

#[rustler::nif(schedule = "DirtyCpu")]
fn end_slice(instance: &InstanceResource, now: Term) -> NifResult<Atom> {
    instance.instance.end_slice(decode::moment(now)?);
    Ok(atoms::ok())
}

#[rustler::nif]
fn demand_signals(instance: &InstanceResource, pid: LocalPid) -> Atom {
    instance.forwarder.demand(&instance.instance, pid);
    atoms::ok()
}

#[rustler::nif(schedule = "DirtyCpu")]
fn retire_idle(instance: &InstanceResource, now: Term, timeout_ms: u64) -> NifResult<u64> {
    Ok(instance.instance.retire_idle(decode::moment(now)?, timeout_ms) as u64)
}

#[rustler::nif(schedule = "DirtyCpu")]
fn info<'a>(env: Env<'a>, instance: &InstanceResource) -> NifResult<Term<'a>> {
    encode::term(env, &instance.instance.info()).map_err(raise)
}

/// What a report says of a window.
fn read<'a, T: Serialize>(
    env: Env<'a>,
    instance: &InstanceResource,
    window: Term<'a>,
    now: Term<'a>,
    report: fn(&Instance, Window, Moment) -> T,
) -> NifResult<Term<'a>> {
    let (window, now) = (decode::window(window)?, decode::moment(now)?);
    encode::term(env, &report(&instance.instance, window, now)).map_err(raise)
}

#[rustler::nif(schedule = "DirtyCpu")]
fn report<'a>(
    env: Env<'a>,
    instance: &InstanceResource,
    window: Term<'a>,
    now: Term<'a>,
) -> NifResult<Term<'a>> {
    read(env, instance, window, now, Report::new)
}

#[rustler::nif(schedule = "DirtyCpu")]
fn performance<'a>(
    env: Env<'a>,
    instance: &InstanceResource,
    window: Term<'a>,
    now: Term<'a>,
) -> NifResult<Term<'a>> {
    read(env, instance, window, now, Performance::new)
}

#[rustler::nif(schedule = "DirtyCpu")]
fn errors<'a>(
    env: Env<'a>,
    instance: &InstanceResource,
    window: Term<'a>,
    now: Term<'a>,
) -> NifResult<Term<'a>> {
    read(env, instance, window, now, Errors::new)
}

#[rustler::nif(schedule = "DirtyCpu")]
fn report_json(instance: &InstanceResource, window: Term, now: Term) -> NifResult<String> {
    let report = Report::new(&instance.instance, decode::window(window)?, decode::moment(now)?);
    report.to_json().map_err(raise)
}

#[rustler::nif(schedule = "DirtyCpu")]
fn page_json(
    instance: &InstanceResource,
    wanted: Term,
    window: Term,
    now: Term,
) -> NifResult<String> {
    let wanted = decode::value(wanted).map_err(raise)?;
    let wanted: PageSpec = serde_json::from_value(wanted).map_err(raise)?;
    let (window, now) = (decode::window(window)?, decode::moment(now)?);
    let page = Page::new(&instance.instance, &instance.page_memo, &wanted, window, now);
    page.to_json().map_err(raise)
}

#[rustler::nif(schedule = "DirtyCpu")]
fn histogram<'a>(
    env: Env<'a>,
    instance: &InstanceResource,
    metric: &str,
    List(labels): List<Binary<'a>>,
) -> NifResult<Term<'a>> {
    let labels: Vec<_> = labels.iter().map(|label| label.as_slice()).collect();
    let Some((series, index)) = instance.instance.find_histogram(metric, &labels) else {
        return Ok((atoms::error(), atoms::not_found()).encode(env));
    };
    let encoded = encoding::encode(&series, index).map_err(raise)?;
    let v2 = decode::binary(env, &encoded.v2);
    let v2_compressed = decode::binary(env, &encoded.v2_compressed);
    Ok((atoms::ok(), v2, v2_compressed).encode(env))
}
