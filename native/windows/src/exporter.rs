//! What an instance knows of its exports to OpenTelemetry: since when it counts, and, where deltas are
//! exported, what has been told and what is left of series that are gone.

use std::collections::{BTreeMap, HashMap};

use telemetry_common::label::LabelSet;
use telemetry_common::scalar::Scalar;
use telemetry_recording::layout::Layout;
use telemetry_recording::point::Point;
use telemetry_recording::series::Series;

type Labels = Vec<[String; 2]>;

/// The state of exports.
pub struct Exporter {
    deltas: bool,
    start_unix_ms: i64,
    reset_unix_ms: i64,
    /// When the last export was made: deltas begin there.
    exported_unix_ms: i64,
    /// By family.
    left: Vec<Left>,
    /// By metric what was told of counters that belong to no series.
    scalars: HashMap<String, ToldScalar>,
}

/// What was told of a counter that belongs to no series.
#[derive(Default)]
struct ToldScalar {
    survives_reset: bool,
    samples: HashMap<Labels, f64>,
}

/// What series of a family that are gone had counted since the last export.
#[derive(Default)]
pub struct Left {
    limit: usize,
    /// By labels, encoded.
    series: BTreeMap<LabelSet, Vec<u8>>,
    /// Of those for which there was no room. Counts as that of the overflow series.
    rest: Vec<u8>,
}

impl Exporter {
    /// Nothing has been told. `limits` says of how many series of each family that go something is kept.
    pub fn new(deltas: bool, limits: impl Iterator<Item = usize>, now_unix_ms: i64) -> Self {
        Self {
            deltas,
            start_unix_ms: now_unix_ms,
            reset_unix_ms: now_unix_ms,
            exported_unix_ms: now_unix_ms,
            left: limits.map(|limit| Left { limit, ..Left::default() }).collect(),
            scalars: HashMap::new(),
        }
    }

    /// Whether deltas may be exported.
    pub fn has_deltas(&self) -> bool {
        self.deltas
    }

    /// Since when what a reset does not touch has been counted, in milliseconds since 1970.
    pub fn start_unix_ms(&self) -> i64 {
        self.start_unix_ms
    }

    /// Since when all else has been counted.
    pub fn reset_unix_ms(&self) -> i64 {
        self.reset_unix_ms
    }

    /// When the last export was made, or the start.
    pub fn exported_unix_ms(&self) -> i64 {
        self.exported_unix_ms
    }

    /// Says that an export has been made.
    pub fn exported(&mut self, now_unix_ms: i64) {
        self.exported_unix_ms = now_unix_ms;
    }

    /// What is left of a family's series that are gone. It has been told then.
    pub fn take_left(&mut self, family: usize) -> Left {
        let limit = self.left[family].limit;
        std::mem::replace(&mut self.left[family], Left { limit, ..Left::default() })
    }

    /// Forgets what has been counted, as the instance does.
    pub fn reset(&mut self, now_unix_ms: i64) {
        self.reset_unix_ms = now_unix_ms;
        for left in &mut self.left {
            *left = Left { limit: left.limit, ..Left::default() };
        }
        self.scalars.retain(|_, told| told.survives_reset);
    }

    /// Keeps what a series has counted since the last export, before it goes.
    pub fn keep_unexported(
        &mut self,
        family: usize,
        series: &Series,
        layout: &Layout,
        point: &mut Point,
    ) {
        if self.deltas && series.take_exported(layout, point) {
            self.left[family].keep(series.labels(), point, layout);
        }
    }

    /// What the samples of a counter were counted up by since the last export. One that is less than it
    /// was has begun anew.
    pub fn delta(&mut self, scalar: &Scalar) -> Scalar {
        let before = self.scalars.remove(&scalar.name).unwrap_or_default();
        let mut now = ToldScalar { survives_reset: scalar.survives_reset, samples: HashMap::new() };
        let mut delta = scalar.clone();
        for sample in &mut delta.samples {
            let total = sample.value;
            let told = before.samples.get(&sample.labels).filter(|told| **told <= total);
            sample.value -= told.unwrap_or(&0.0);
            now.samples.insert(sample.labels.clone(), total);
        }
        self.scalars.insert(scalar.name.clone(), now);
        delta
    }
}

impl Left {
    fn keep(&mut self, labels: &LabelSet, point: &Point, layout: &Layout) {
        let has_room = self.series.len() < self.limit || self.series.contains_key(labels);
        let kept =
            if has_room { self.series.entry(labels.clone()).or_default() } else { &mut self.rest };
        let mut sum = Point::new(layout);
        add(&mut sum, kept, layout);
        sum.add(point, layout);
        sum.finish(layout);
        kept.clear();
        sum.encode(kept);
    }

    /// Adds what is left of a series that has come back.
    pub fn add_to(&mut self, labels: &LabelSet, point: &mut Point, layout: &Layout) -> bool {
        let left = self.series.remove(labels);
        left.is_some_and(|left| Self::merge(&left, point, layout))
    }

    /// Adds what is left of those for which there was no room.
    pub fn add_rest_to(&mut self, point: &mut Point, layout: &Layout) -> bool {
        Self::merge(&std::mem::take(&mut self.rest), point, layout)
    }

    /// Adds an encoded point, and says whether there is any.
    fn merge(left: &[u8], point: &mut Point, layout: &Layout) -> bool {
        add(point, left, layout);
        point.finish(layout);
        !left.is_empty()
    }

    /// The series that have not come back.
    pub fn into_series(self, layout: &Layout) -> impl Iterator<Item = (LabelSet, Point)> {
        self.series.into_iter().map(|(labels, left)| {
            let mut point = Point::new(layout);
            Self::merge(&left, &mut point, layout);
            (labels, point)
        })
    }
}

fn add(sum: &mut Point, encoded: &[u8], layout: &Layout) {
    if !encoded.is_empty() {
        sum.add_encoded(encoded, layout);
    }
}
