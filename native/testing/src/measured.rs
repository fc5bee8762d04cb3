//! An instance that keeps metrics of other definitions than the catalogue's, and events that feed them.

use serde_json::{Value, json};
use telemetry_recording::local::observe;
use telemetry_recording::measure::Number;
use telemetry_recording::observation::{Given, Observation, Observed, Tag, TagSource, ValueSource};

use super::Running;

/// An event with one number and one tag.
pub struct Event<'a> {
    pub value: Given,
    pub tag: Tag<'a>,
    pub is_final: bool,
}

impl<'a> Observation<'a> for Event<'a> {
    fn tag(&self, _source: &TagSource) -> Tag<'a> {
        self.tag
    }

    fn value(&self, source: &ValueSource) -> Given {
        match source {
            ValueSource::One => Given::Number(Number::Integer(1)),
            _ => self.value,
        }
    }

    fn is_final(&self) -> bool {
        self.is_final
    }
}

/// An instance with these measures, which all take the number of an event, under some of its tag.
pub fn start_with(labels: &[&str], measures: Vec<Value>) -> Running {
    let sources: Vec<_> = measures.iter().map(|_| json!({"value": {"measurement": "v"}})).collect();
    let tags: Vec<_> = labels.iter().map(|label| json!({"metadata": label})).collect();
    Running::start(json!({
        "families": [{
            "name": "metrics of e", "labels": labels, "counters": [], "histograms": [], "digits": 2,
            "series_limit": 10, "measures": measures,
        }],
        "plans": [],
        "observations": [{
            "event": "e", "groups": [{"family": "metrics of e", "tags": tags, "measures": sources}],
        }],
        "exports_deltas": true,
        "ref_limit": 1,
        "worker_limit": 1,
    }))
}

/// A distribution with these bounds.
pub fn distribution(bounds: &[f64]) -> Value {
    let bound = |value: &f64| json!({"value": value, "text": value.to_string()});
    json!({"distribution": {"bounds": bounds.iter().map(bound).collect::<Vec<_>>()}})
}

/// A measure as a definition declares it.
pub fn measure(name: &str, kind: Value) -> Value {
    json!({"name": name, "help": "h", "kind": kind})
}

/// Sends an event.
pub fn send(running: &Running, value: Given, tag: Tag<'_>, is_final: bool) -> Observed {
    observe(running.plans[0], &Event { value, tag, is_final })
}
