//! What an instance counted in a window, as bytes that another node merges.
//!
//! Inside its envelope a snapshot has the head with its length before it; for each family of the head
//! the number of series and then each one: its label values and its point, all with their lengths
//! before them; and last how many series were folded. Integers have a variable length.

use std::sync::Arc;

use super::MAX_EVENTS;
use super::configuration::MAX_FAMILIES;
use super::envelope::seal;
use super::head::Head;
use super::node::Refusal;
use crate::errors::Ongoing;
use crate::source::{Live, Source};
use telemetry_common::label::LabelSet;
use telemetry_common::moment::Moment;
use telemetry_instance::instance::Instance;
use telemetry_recording::family::Family;
use telemetry_recording::point::{Point, put, put_counted};
use telemetry_windows::window::Window;

/// What may be sent.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Series of each family. Those with the fewest events beyond are folded into the overflow series.
    pub series: usize,
    /// Bytes before compression.
    pub bytes: usize,
}

/// Reads an instance while it goes on recording.
///
/// # Errors
///
/// [`Refusal`] if it takes more bytes than allowed.
pub fn take(
    instance: &Instance,
    window: Window,
    now: Moment,
    limits: Limits,
) -> Result<Vec<u8>, Refusal> {
    let reader = instance.read();
    let live = Live::new(&reader, window, now);
    // What does not add up over time does not over nodes either.
    let adds_up = |family: &&Arc<Family>| family.layout().has_slices();
    let families = || live.families().iter().filter(adds_up).take(MAX_FAMILIES);
    let head = Head {
        interval: live.interval(),
        workers: live.workers(),
        ongoing: Ongoing::of(instance, now),
        families: families().map(|family| family.configuration()).collect(),
    };
    let head = serde_json::to_vec(&head)
        .map_err(|error| Refusal::corrupt(&format!("the head of its snapshot: {error}")))?;
    let mut payload = Vec::new();
    put_counted(&mut payload, &head);
    let mut folded = 0;
    let mut encoded = Vec::new();
    for family in families() {
        let points = live.points(family.name()).into_owned();
        let (points, left_out) = busiest(points, family, limits.series);
        folded += left_out as u64;
        put(&mut payload, points.len() as u64);
        for (labels, point) in points {
            for value in labels.values() {
                put_counted(&mut payload, value.as_bytes());
            }
            encoded.clear();
            point.encode(&mut encoded);
            put_counted(&mut payload, &encoded);
            if payload.len() > limits.bytes {
                return Err(Refusal::too_large(payload.len(), limits.bytes));
            }
        }
    }
    put(&mut payload, folded);
    if payload.len() > limits.bytes {
        return Err(Refusal::too_large(payload.len(), limits.bytes));
    }
    Ok(seal(&payload))
}

/// The series with the most events, the others as one, and how many these were.
fn busiest(
    mut points: Vec<(LabelSet, Point)>,
    family: &Family,
    limit: usize,
) -> (Vec<(LabelSet, Point)>, usize) {
    let layout = family.layout();
    points.retain(|(_, point)| (1..=MAX_EVENTS).contains(&point.event_count(layout)));
    let overflow_labels = family.overflow_labels();
    let overflow = points.iter().position(|(labels, _)| *labels == overflow_labels);
    let overflow = (!family.label_names().is_empty())
        .then_some(overflow)
        .flatten()
        .map(|at| points.swap_remove(at).1);
    if points.len() > limit {
        points.sort_by_cached_key(|(labels, point)| {
            (std::cmp::Reverse(point.event_count(layout)), labels.clone())
        });
    }
    let rest = points.split_off(limit.min(points.len()));
    let folded = rest.len();
    if overflow.is_some() || folded > 0 {
        let mut sum = overflow.unwrap_or_else(|| Point::new(layout));
        for (_, point) in rest {
            sum.add(&point, layout);
        }
        sum.finish(layout);
        points.push((overflow_labels, sum));
    }
    (points, folded)
}
