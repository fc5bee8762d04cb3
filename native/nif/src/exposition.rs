//! What Prometheus scrapes.

use rustler::{Binary, Env, NifResult, Term};
use telemetry_core::exposition::{Scrape, render};

use crate::decode;
use crate::instance::{InstanceResource, raise};

#[rustler::nif(schedule = "DirtyCpu")]
fn scrape<'a>(
    env: Env<'a>,
    instance: &InstanceResource,
    wanted: Term<'a>,
) -> NifResult<Binary<'a>> {
    let wanted = decode::value(wanted).map_err(raise)?;
    let wanted: Scrape = serde_json::from_value(wanted).map_err(raise)?;
    Ok(decode::binary(env, &render(&instance.instance, &wanted)))
}
