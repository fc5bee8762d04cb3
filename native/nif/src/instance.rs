//! Instances as resources, and everything that is not the hot path.

use rustler::{Binary, Encoder, Env, Error, NifResult, Resource, ResourceArc, Term};
use telemetry_core::encoding;
use telemetry_core::instance::{Definition, Instance};
use telemetry_core::report::Report;
use telemetry_core::thread_number;

use crate::{decode, encode};

mod atoms {
    rustler::atoms! { ok, error, not_found }
}

/// An instance that lives as long as a term refers to it.
struct InstanceResource(Instance);

impl std::panic::RefUnwindSafe for InstanceResource {}

#[rustler::resource_impl]
impl Resource for InstanceResource {}

/// The library is loaded with the number of schedulers: the threads that record.
pub fn load(_env: Env, schedulers: Term) -> bool {
    match schedulers.decode() {
        Ok(count) => {
            thread_number::set_exclusive_lanes(count);
            true
        }
        Err(_) => false,
    }
}

#[rustler::nif(schedule = "DirtyCpu")]
fn start<'a>(env: Env<'a>, definition: Term<'a>, now_ms: u64) -> Term<'a> {
    let started = decode::value(definition)
        .and_then(|value| {
            serde_json::from_value::<Definition>(value).map_err(|error| error.to_string())
        })
        .and_then(|definition| {
            Instance::start(definition, now_ms).map_err(|error| error.to_string())
        });
    match started {
        Ok(instance) => {
            let plans: Vec<u64> = instance.plan_ids().map(|id| id.get()).collect();
            let resource = ResourceArc::new(InstanceResource(instance));
            (atoms::ok(), resource, plans).encode(env)
        }
        Err(message) => (atoms::error(), message).encode(env),
    }
}

#[rustler::nif(schedule = "DirtyCpu")]
fn stop(instance: &InstanceResource) -> rustler::Atom {
    instance.0.stop();
    atoms::ok()
}

#[rustler::nif(schedule = "DirtyCpu")]
fn reset(instance: &InstanceResource, now_ms: u64) -> rustler::Atom {
    instance.0.reset(now_ms);
    atoms::ok()
}

#[rustler::nif(schedule = "DirtyCpu")]
fn tick(instance: &InstanceResource, now_ms: u64) -> rustler::Atom {
    instance.0.tick(now_ms);
    atoms::ok()
}

#[rustler::nif(schedule = "DirtyCpu")]
fn retire_idle(instance: &InstanceResource, now_ms: u64, timeout_ms: u64) -> u64 {
    instance.0.retire_idle(now_ms, timeout_ms) as u64
}

#[rustler::nif(schedule = "DirtyCpu")]
fn info<'a>(env: Env<'a>, instance: &InstanceResource) -> NifResult<Term<'a>> {
    encode::term(env, &instance.0.info()).map_err(raise)
}

#[rustler::nif(schedule = "DirtyCpu")]
fn report<'a>(
    env: Env<'a>,
    instance: &InstanceResource,
    window: Term<'a>,
    now: Term<'a>,
) -> NifResult<Term<'a>> {
    let report = Report::new(&instance.0, decode::window(window)?, decode::moment(now)?);
    encode::term(env, &report).map_err(raise)
}

#[rustler::nif(schedule = "DirtyCpu")]
fn report_json(instance: &InstanceResource, window: Term, now: Term) -> NifResult<String> {
    let report = Report::new(&instance.0, decode::window(window)?, decode::moment(now)?);
    report.to_json().map_err(raise)
}

#[rustler::nif(schedule = "DirtyCpu")]
fn histogram<'a>(
    env: Env<'a>,
    instance: &InstanceResource,
    metric: &str,
    labels: Vec<Binary<'a>>,
) -> NifResult<Term<'a>> {
    let labels: Vec<_> = labels.iter().map(|label| label.as_slice()).collect();
    let Some((series, index)) = instance.0.find_histogram(metric, &labels) else {
        return Ok((atoms::error(), atoms::not_found()).encode(env));
    };
    let encoded = encoding::encode(&series, index).map_err(raise)?;
    let v2 = decode::binary(env, &encoded.v2);
    let v2_compressed = decode::binary(env, &encoded.v2_compressed);
    Ok((atoms::ok(), v2, v2_compressed).encode(env))
}

fn raise(error: impl ToString) -> Error {
    Error::RaiseTerm(Box::new(error.to_string()))
}
