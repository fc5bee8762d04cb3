//! What Prometheus scrapes, and what OpenTelemetry gets.

use std::sync::Arc;
use telemetry_common::lock::lock;

use rustler::{Atom, Binary, Env, NifResult, ResourceArc, Term};
use telemetry_exposition::otlp::{self, Accepted, Export, Temporality};
use telemetry_exposition::{Scrape, render};

use crate::decode;
use crate::error::raise;
use crate::rendered::Rendered;
use crate::resource::InstanceResource;

mod atoms {
    rustler::atoms! { ok, error }
}

#[rustler::nif(schedule = "DirtyCpu")]
fn scrape<'a>(
    env: Env<'a>,
    instance: &InstanceResource,
    wanted: Term<'a>,
) -> NifResult<Binary<'a>> {
    let wanted = decode::value(wanted).map_err(raise)?;
    let wanted: Scrape = serde_json::from_value(wanted).map_err(raise)?;
    let mut bytes = instance.spare.take();
    render(&instance.instance, &wanted, &mut bytes);
    let rendered = ResourceArc::new(Rendered { bytes, spare: Arc::clone(&instance.spare) });
    Ok(rendered.make_binary(env, |rendered| &rendered.bytes))
}

#[rustler::nif(schedule = "DirtyCpu")]
fn otlp_export<'a>(
    env: Env<'a>,
    instance: &InstanceResource,
    wanted: Term<'a>,
    now: Term<'a>,
) -> NifResult<(Binary<'a>, u64)> {
    let now = decode::moment(now)?;
    let wanted = decode::value(wanted).map_err(raise)?;
    let wanted: Export = serde_json::from_value(wanted).map_err(raise)?;
    let mut unsettled = lock(&instance.unsettled);
    let (rendered, points) = match &*unsettled {
        Some((rendered, points)) => (rendered.clone(), *points),
        None => {
            let mut bytes = instance.spare.take();
            let points = otlp::export(&instance.instance, &wanted, now, &mut bytes);
            let spare = Arc::clone(&instance.spare);
            let rendered = ResourceArc::new(Rendered { bytes, spare });
            if wanted.temporality != Temporality::Cumulative {
                *unsettled = Some((rendered.clone(), points));
            }
            (rendered, points)
        }
    };
    Ok((rendered.make_binary(env, |rendered| &rendered.bytes), points))
}

/// Waits for an export that is being written, and frees the request.
#[rustler::nif(schedule = "DirtyCpu")]
fn otlp_settle(instance: &InstanceResource) -> Atom {
    *lock(&instance.unsettled) = None;
    atoms::ok()
}

#[rustler::nif(schedule = "DirtyCpu")]
fn otlp_accepted(body: Binary) -> Result<(u64, String), Atom> {
    let Accepted { rejected_data_points, message } =
        otlp::accepted(&body).map_err(|_| atoms::error())?;
    Ok((rejected_data_points, message))
}

#[rustler::nif(schedule = "DirtyCpu")]
fn otlp_refused(body: Binary) -> Result<String, Atom> {
    otlp::refused(&body).map_err(|_| atoms::error())
}
