//! EventGauges: gauges whose value an event tells, such as the temperature of a device.
//!
//! The value is the last that was told. EventGauges are set some times per second at most, so a lock serves.

use std::collections::{HashMap, VecDeque};
use std::sync::{Mutex, MutexGuard};

use foldhash::fast::RandomState;
use serde::Deserialize;

use telemetry_common::heap::{self, HeapBytes};
use telemetry_common::label::LabelSet;
use telemetry_common::lock::lock;
use telemetry_common::scalar::{Sample, Scalar};

/// Of how many workers that have gone late samples are ignored.
const GONE_WORKERS: usize = 256;

/// A gauge as a definition declares it.
#[derive(Clone, Debug, Deserialize)]
pub struct EventGaugeSpec {
    /// The metric's name.
    pub name: String,
    /// What it is, for people.
    #[serde(default)]
    pub help: String,
    /// Names of its labels.
    pub labels: Vec<String>,
    /// How many of the unit in which fields are stored make one of the metric's.
    pub divisor: f64,
    /// Which label is the worker that it belongs to: with the worker it goes.
    #[serde(default)]
    pub worker: Option<usize>,
}

/// The gauges of an instance.
#[derive(Debug)]
pub struct EventGauges {
    event_gauges: Vec<EventGauge>,
    /// Most label sets of one.
    limit: usize,
    /// The workers that went last, the latest at the end.
    gone: Mutex<VecDeque<Box<str>>>,
}

#[derive(Debug)]
struct EventGauge {
    spec: EventGaugeSpec,
    values: Mutex<HashMap<LabelSet, u64, RandomState>>,
}

impl EventGauges {
    /// EventGauges of which nothing is known.
    pub(crate) fn new(specs: Vec<EventGaugeSpec>, limit: usize) -> Self {
        let event_gauge = |spec| EventGauge { spec, values: Mutex::default() };
        Self {
            event_gauges: specs.into_iter().map(event_gauge).collect(),
            limit,
            gone: Mutex::default(),
        }
    }

    /// The place of the gauge with this name, and how many labels it has.
    pub(crate) fn find(&self, name: &str) -> Option<(usize, usize)> {
        let place =
            self.event_gauges.iter().position(|event_gauge| event_gauge.spec.name == name)?;
        Some((place, self.event_gauges[place].spec.labels.len()))
    }

    /// Sets a gauge, in the unit in which fields are stored. A value that was on its way when its worker went is
    /// ignored, if the worker is one of those that went last. A label set over the limit is not kept, but those of
    /// workers that are not alive make room for it.
    pub(crate) fn set(
        &self,
        event_gauge: usize,
        labels: LabelSet,
        value: u64,
        is_alive: impl Fn(&str) -> bool,
    ) {
        let EventGauge { spec, .. } = &self.event_gauges[event_gauge];
        // Held until the value is set: a worker that goes meanwhile takes it along.
        let gone = lock(&self.gone);
        if spec
            .worker
            .and_then(|worker| labels.values().nth(worker))
            .is_some_and(|worker| has(&gone, worker))
        {
            return;
        }
        let mut values = self.event_gauges[event_gauge].values();
        let is_full = |values: &HashMap<_, _, _>| values.len() >= self.limit;
        if is_full(&values)
            && !values.contains_key(&labels)
            && let Some(worker) = spec.worker
        {
            values.retain(|labels, _| labels.values().nth(worker).is_some_and(&is_alive));
        }
        if !is_full(&values) || values.contains_key(&labels) {
            values.insert(labels, value);
        }
    }

    /// Forgets what a worker told, and ignores what it may still tell.
    pub(crate) fn forget_worker(&self, id: &str) {
        let mut gone = lock(&self.gone);
        if !has(&gone, id) {
            if gone.len() == GONE_WORKERS {
                gone.pop_front();
            }
            gone.push_back(id.into());
        }
        for event_gauge in &self.event_gauges {
            if let Some(label) = event_gauge.spec.worker {
                event_gauge.values().retain(|labels, _| labels.values().nth(label) != Some(id));
            }
        }
    }

    /// A worker is there: what it tells counts, even if one of its name has gone.
    pub(crate) fn welcome_worker(&self, id: &str) {
        lock(&self.gone).retain(|other| **other != *id);
    }

    /// Forgets everything, except which workers have gone.
    pub(crate) fn clear(&self) {
        self.event_gauges.iter().for_each(|event_gauge| event_gauge.values().clear());
    }

    /// What they are called, in the definition's order.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.event_gauges.iter().map(|event_gauge| &*event_gauge.spec.name)
    }

    /// The gauges, in the definition's order.
    pub fn scalars(&self) -> impl Iterator<Item = Scalar> {
        self.event_gauges.iter().map(EventGauge::scalar)
    }

    /// Bytes allocated.
    pub(crate) fn memory_bytes(&self) -> usize {
        let of_gauge = |event_gauge: &EventGauge| {
            let values = event_gauge.values();
            heap::sum([values.heap_bytes(), heap::sum(values.keys().map(LabelSet::memory_bytes))])
        };
        let gone = lock(&self.gone);
        heap::sum([
            heap::sum(self.event_gauges.iter().map(of_gauge)),
            gone.heap_bytes(),
            heap::sum(gone.iter().map(HeapBytes::heap_bytes)),
        ])
    }
}

impl EventGauge {
    fn values(&self) -> MutexGuard<'_, HashMap<LabelSet, u64, RandomState>> {
        lock(&self.values)
    }

    fn scalar(&self) -> Scalar {
        let mut values: Vec<_> =
            self.values().iter().map(|(labels, value)| (labels.clone(), *value)).collect();
        values.sort_unstable();
        let sample = |(labels, value): &(LabelSet, u64)| {
            let names = self.spec.labels.iter().map(String::as_str);
            let labels: Vec<_> = names.zip(labels.values()).collect();
            Sample::new(&labels, *value as f64 / self.spec.divisor)
        };
        Scalar::gauge(&self.spec.name, &self.spec.help, values.iter().map(sample).collect())
    }
}

fn has(gone: &VecDeque<Box<str>>, worker: &str) -> bool {
    gone.iter().any(|id| **id == *worker)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event_gauges(limit: usize) -> EventGauges {
        let spec = EventGaugeSpec {
            name: "rss".to_owned(),
            help: String::new(),
            labels: vec!["worker_id".to_owned()],
            divisor: 1_000.0,
            worker: Some(0),
        };
        EventGauges::new(vec![spec], limit)
    }

    fn set(event_gauges: &EventGauges, worker: &str, value: u64) {
        event_gauges.set(0, LabelSet::new([worker]), value, |_| true);
    }

    fn told(event_gauges: &EventGauges) -> Vec<(String, f64)> {
        let scalar = event_gauges.scalars().next().expect("a event_gauge");
        scalar
            .samples
            .into_iter()
            .map(|sample| (sample.labels[0][1].clone(), sample.value))
            .collect()
    }

    #[test]
    fn the_last_value_counts() {
        let event_gauges = event_gauges(2);
        set(&event_gauges, "w1", 500);
        set(&event_gauges, "w1", 1_500);
        assert_eq!(told(&event_gauges), [("w1".to_owned(), 1.5)]);
    }

    #[test]
    fn no_more_label_sets_than_the_limit_are_kept() {
        let event_gauges = event_gauges(2);
        for (worker, value) in [("w1", 1_000), ("w2", 1_000), ("w3", 1_000), ("w1", 2_000)] {
            set(&event_gauges, worker, value);
        }
        assert_eq!(told(&event_gauges), [("w1".to_owned(), 2.0), ("w2".to_owned(), 1.0)]);
    }

    #[test]
    fn what_dead_workers_told_too_late_makes_room_for_living_ones() {
        let event_gauges = event_gauges(2);
        set(&event_gauges, "w1", 1_000);
        set(&event_gauges, "w2", 1_000);
        event_gauges.set(0, LabelSet::new(["w3"]), 3_000, |worker| worker != "w1");
        assert_eq!(told(&event_gauges), [("w2".to_owned(), 1.0), ("w3".to_owned(), 3.0)]);
    }

    #[test]
    fn a_workers_levels_go_with_it() {
        let event_gauges = event_gauges(2);
        set(&event_gauges, "w1", 1_000);
        set(&event_gauges, "w2", 2_000);
        event_gauges.forget_worker("w1");
        assert_eq!(told(&event_gauges), [("w2".to_owned(), 2.0)]);
        event_gauges.clear();
        assert_eq!(told(&event_gauges), []);
    }

    #[test]
    fn what_a_worker_told_before_it_went_is_ignored_until_it_is_back() {
        let event_gauges = event_gauges(2);
        event_gauges.forget_worker("w1");
        set(&event_gauges, "w1", 1_000);
        assert_eq!(told(&event_gauges), []);
        event_gauges.clear();
        set(&event_gauges, "w1", 1_000);
        assert_eq!(told(&event_gauges), []);
        event_gauges.welcome_worker("w1");
        set(&event_gauges, "w1", 2_000);
        assert_eq!(told(&event_gauges), [("w1".to_owned(), 2.0)]);
    }

    #[test]
    fn the_workers_that_went_last_are_remembered() {
        let event_gauges = event_gauges(GONE_WORKERS + 1);
        let ids: Vec<_> = (0..=GONE_WORKERS).map(|number| format!("w{number}")).collect();
        // The second time changes nothing.
        for id in ids.iter().chain(&ids[1..]) {
            event_gauges.forget_worker(id);
        }
        for id in &ids {
            set(&event_gauges, id, 1_000);
        }
        assert_eq!(told(&event_gauges), [("w0".to_owned(), 1.0)]);
    }

    #[test]
    fn memory_of_values_and_of_workers_that_have_gone_is_counted() {
        let event_gauges = event_gauges(GONE_WORKERS);
        let ids: Vec<_> = (0..GONE_WORKERS).map(|number| format!("{number:0100}")).collect();
        ids.iter().for_each(|id| set(&event_gauges, id, 1_000));
        let of_values = event_gauges.memory_bytes();
        let places = (GONE_WORKERS * 8 / 7).next_power_of_two();
        // 102 bytes in whole words, after two counts.
        let labels = GONE_WORKERS * 120;
        assert_eq!(of_values, places * (size_of::<(LabelSet, u64)>() + 1) + labels);
        // Others, so that the values stay.
        ids.iter().for_each(|id| event_gauges.forget_worker(&format!("x{id}")));
        let places = lock(&event_gauges.gone).capacity();
        let of_gone = places * size_of::<Box<str>>() + GONE_WORKERS * 101;
        assert_eq!(event_gauges.memory_bytes(), of_values + of_gone);
    }
}
