//! What Prometheus scrapes.

use rustler::{Binary, Env, NewBinary, NifResult, Term};
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
    let parts = render(&instance.instance, &wanted);
    let mut binary = NewBinary::new(env, parts.iter().map(Vec::len).sum());
    let mut rest = binary.as_mut_slice();
    for part in parts {
        let (place, behind) = rest.split_at_mut(part.len());
        place.copy_from_slice(&part);
        rest = behind;
    }
    Ok(binary.into())
}
