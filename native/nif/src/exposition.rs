//! What Prometheus scrapes, and what OpenTelemetry gets.

use std::sync::{Arc, Mutex, PoisonError};

use rustler::{Atom, Binary, Env, NifResult, Resource, ResourceArc, Term};
use telemetry_core::exposition::otlp::{self, Accepted, Export, Temporality};
use telemetry_core::exposition::{Scrape, render};

use crate::decode;
use crate::instance::{InstanceResource, raise};

mod atoms {
    rustler::atoms! { ok, error }
}

/// The memory of the last scrape, for the next one: what is scraped is megabytes long, and to get as
/// much from the system anew takes as long as to write it.
#[derive(Default)]
pub struct Spare(Mutex<Vec<u8>>);

impl Spare {
    /// More than this is given back.
    const MOST: usize = 64 << 20;

    fn take(&self) -> Vec<u8> {
        std::mem::take(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn give_back(&self, mut bytes: Vec<u8>) {
        // Some more than was needed this time, so that growing series do not need new memory each time.
        bytes.shrink_to(bytes.len() + bytes.len() / 4);
        if bytes.capacity() <= Self::MOST {
            bytes.clear();
            *self.0.lock().unwrap_or_else(PoisonError::into_inner) = bytes;
        }
    }
}

/// A scrape that a binary refers to.
pub struct Rendered {
    bytes: Vec<u8>,
    spare: Arc<Spare>,
}

#[rustler::resource_impl]
impl Resource for Rendered {}

impl Drop for Rendered {
    fn drop(&mut self) {
        self.spare.give_back(std::mem::take(&mut self.bytes));
    }
}

impl std::panic::RefUnwindSafe for Rendered {}

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

/// A request of deltas that has not been settled, and how many data points it has. Its numbers are told
/// nowhere else, so it is kept as it is until it has been delivered or refused.
pub type Unsettled = Mutex<Option<(ResourceArc<Rendered>, u64)>>;

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
    let mut unsettled = instance.unsettled.lock().unwrap_or_else(PoisonError::into_inner);
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
    *instance.unsettled.lock().unwrap_or_else(PoisonError::into_inner) = None;
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
