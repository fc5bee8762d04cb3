//! The sum of snapshots.

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::Arc;

use foldhash::fast::RandomState;

use super::MAX_EVENTS;
use super::configuration::{MAX_FAMILIES, check, families};
use super::envelope::open;
use super::head::Head;
use super::node::{Node, Refusal, State};
use crate::errors::Ongoing;
use crate::source::Source;
use telemetry_common::label::{LabelSet, MAX_LABEL_BYTES};
use telemetry_common::moment::Moment;
use telemetry_recording::family::{Family, FamilySpec, Role};
use telemetry_recording::layout::Layout;
use telemetry_recording::point::{Bytes, Malformed, Point};
use telemetry_windows::window::Interval;

/// Most nodes that are merged.
pub const MAX_NODES: usize = 1_024;

/// Cells that the merged series of all families may have together: 128 MiB of them.
const MAX_MERGED_CELLS: usize = 16 << 20;

/// What a merge may take.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Merged series of each family; further ones are added to its overflow series.
    pub series: usize,
    /// Bytes of a snapshot before compression.
    pub bytes: usize,
}

/// What a node sent, or what became of it instead.
pub enum Answer<'b> {
    /// A snapshot.
    Snapshot(&'b [u8]),
    /// No snapshot, and why.
    None(State, Option<String>),
}

/// The sum of the snapshots that fit together. The first one decides what fits.
pub struct Merged {
    limits: Limits,
    now: Moment,
    interval: Option<Interval>,
    workers: u64,
    ongoing: Vec<(String, Ongoing)>,
    nodes: Vec<Node>,
    families: Vec<Arc<Family>>,
    sums: Vec<Sum>,
    cells: usize,
}

/// The sum over one family.
struct Sum {
    spec: FamilySpec,
    points: Vec<(LabelSet, Point)>,
    places: HashMap<LabelSet, usize, RandomState>,
}

/// A snapshot that was looked through and can be added.
struct Checked<'b> {
    head: Head,
    families: Vec<Family>,
    /// The series of all families, one after the other.
    sections: &'b [u8],
    series: u64,
    folded: u64,
    calls: u64,
    errors: u64,
}

impl Merged {
    /// Adds up what nodes sent, in order. `now` is the time of a report in which nothing is.
    pub fn new<'b>(
        answers: impl IntoIterator<Item = (String, Answer<'b>)>,
        limits: Limits,
        now: Moment,
    ) -> Self {
        let mut merged = Self {
            limits,
            now,
            interval: None,
            workers: 0,
            ongoing: Vec::new(),
            nodes: Vec::new(),
            families: Vec::new(),
            sums: Vec::new(),
            cells: 0,
        };
        for (name, answer) in answers {
            let node = match answer {
                Answer::None(state, reason) => Node::absent(name, state, reason),
                Answer::Snapshot(_) if merged.nodes.len() >= MAX_NODES => {
                    Node::absent(name, State::NotAsked, None)
                }
                Answer::Snapshot(bytes) => {
                    merged.add(&name, bytes).unwrap_or_else(|Refusal { state, reason }| Node {
                        bytes: bytes.len() as u64,
                        ..Node::absent(name, state, Some(reason))
                    })
                }
            };
            merged.nodes.push(node);
        }
        merged.finish();
        merged
    }

    /// The nodes, in the order in which they were given.
    pub fn nodes(&self) -> &[Node] {
        &self.nodes
    }

    /// The merged series of a family and what they counted.
    pub fn points(&self, family: &str) -> &[(LabelSet, Point)] {
        let sum = self.sums.iter().find(|sum| sum.spec.name == family);
        sum.map_or(&[], |sum| &sum.points)
    }

    /// What goes on at each merged node.
    pub(super) fn ongoing(&self) -> &[(String, Ongoing)] {
        &self.ongoing
    }

    /// Adds a snapshot wholly or not at all.
    fn add(&mut self, name: &str, bytes: &[u8]) -> Result<Node, Refusal> {
        let payload = open(bytes, self.limits.bytes)?;
        let checked = look_through(&payload)?;
        let Checked { head, families, sections, series, mut folded, calls, errors } = checked;
        let mut left_out = Vec::new();
        for spec in &head.families {
            let merged = self.sums.iter().find(|sum| sum.spec.name == spec.name);
            match merged.map_or(Ok(()), |merged| check(&merged.spec, spec)) {
                Ok(()) => {}
                // While a new release is rolled out, nodes have different definitions.
                Err(refusal) if !spec.measures.is_empty() => {
                    left_out.push((spec.name.clone(), refusal.reason));
                }
                Err(refusal) => return Err(refusal),
            }
        }
        let is_new = |spec: &&FamilySpec| !self.sums.iter().any(|sum| sum.spec.name == spec.name);
        let new = head.families.iter().filter(is_new).count();
        if self.sums.len() + new > MAX_FAMILIES {
            return Err(Refusal::corrupt("all snapshots have more families than there can be"));
        }
        let mut sections = Bytes(sections);
        for (spec, family) in head.families.into_iter().zip(families) {
            let labels = spec.labels.len();
            let is_left_out = left_out.iter().any(|(name, _)| *name == spec.name);
            let at = (!is_left_out).then(|| self.place_of(spec, family));
            let added = each_series(&mut sections, labels, |labels, point| {
                folded += at.map_or(0, |at| u64::from(self.add_point(at, labels, point)));
                Ok(())
            });
            debug_assert!(added.is_ok(), "they have been looked through");
        }
        self.workers += head.workers;
        self.ongoing.push((name.to_owned(), head.ongoing));
        self.interval = Some(match self.interval {
            None => head.interval,
            Some(interval) => union(interval, head.interval),
        });
        Ok(Node {
            node: name.to_owned(),
            state: State::Merged,
            reason: without(&left_out),
            interval: Some(head.interval),
            series,
            folded,
            calls,
            errors,
            bytes: bytes.len() as u64,
        })
    }

    /// Where the sum over a family is; a new one if no node had it so far.
    fn place_of(&mut self, spec: FamilySpec, family: Family) -> usize {
        if let Some(at) = self.sums.iter().position(|sum| sum.spec.name == spec.name) {
            return at;
        }
        self.families.push(Arc::new(family));
        self.sums.push(Sum { spec, points: Vec::new(), places: HashMap::default() });
        self.sums.len() - 1
    }

    /// Adds a point that was checked. Returns whether it went to the overflow series for lack of
    /// room.
    fn add_point(&mut self, family: usize, labels: LabelSet, point: &[u8]) -> bool {
        let layout = self.families[family].layout();
        let overflow = self.families[family].overflow_labels();
        let sum = &mut self.sums[family];
        let room = sum.places.len() < self.limits.series
            && self.cells + layout.cell_count() <= MAX_MERGED_CELLS;
        let fits = room || labels == overflow || sum.places.contains_key(&labels);
        let labels = if fits { labels } else { overflow };
        let at = *sum.places.entry(labels).or_insert_with_key(|labels| {
            sum.points.push((labels.clone(), Point::new(layout)));
            self.cells += layout.cell_count();
            sum.points.len() - 1
        });
        sum.points[at].1.add_encoded(point, layout);
        !fits
    }

    fn finish(&mut self) {
        for (family, sum) in self.families.iter().zip(&mut self.sums) {
            sum.places = HashMap::default();
            sum.points.iter_mut().for_each(|(_, point)| point.finish(family.layout()));
        }
    }
}

impl Source for Merged {
    fn interval(&self) -> Interval {
        self.interval.unwrap_or_else(|| Interval::new(self.now.ms, self.now.ms, self.now))
    }

    fn families(&self) -> &[Arc<Family>] {
        &self.families
    }

    fn points(&self, family: &str) -> Cow<'_, [(LabelSet, Point)]> {
        Cow::Borrowed(self.points(family))
    }

    fn workers(&self) -> u64 {
        self.workers
    }
}

/// Says which families of a node are not in the sum.
fn without(left_out: &[(String, String)]) -> Option<String> {
    let ((name, reason), more) = left_out.split_first()?;
    let others = match more.len() {
        0 => String::new(),
        count => format!(", and {count} more"),
    };
    Some(format!("without the {name}{others}: {reason}"))
}

/// The time from the earlier start to the later end.
fn union(left: Interval, right: Interval) -> Interval {
    let from_unix_ms = left.from_unix_ms.min(right.from_unix_ms);
    let to_unix_ms = left.to_unix_ms.max(right.to_unix_ms);
    Interval { from_unix_ms, to_unix_ms, duration_ms: to_unix_ms.abs_diff(from_unix_ms) }
}

/// Reads a payload without adding anything, and refuses whatever could not be added.
fn look_through(payload: &[u8]) -> Result<Checked<'_>, Refusal> {
    let mut bytes = Bytes(payload);
    let head = Head::read(bytes.counted().map_err(malformed)?)?;
    let families = families(&head.families)?;
    let sections = bytes.0;
    let (mut series, mut samples, mut calls, mut errors) = (0_u64, 0_u64, 0, 0);
    let mut events = 0_u64;
    for family in &families {
        let layout = family.layout();
        let mut sums = vec![0_u64; layout.cell_count()];
        let mut add = |cell: usize, value: u64| {
            if let Some(sum) = sums.get_mut(cell) {
                *sum = sum.saturating_add(value);
            }
        };
        let labels = family.label_names().len();
        let of_family = each_series(&mut bytes, labels, |_labels, point| {
            samples = samples.saturating_add(Point::check_encoded(point, layout, &mut add)?);
            Ok(())
        });
        series += of_family.map_err(malformed)?;
        let total =
            |sum: u64, cells: &[u64]| cells.iter().fold(sum, |sum, cell| sum.saturating_add(*cell));
        events = total(events, &sums[..layout.event_cell_count()]);
        let mut measures = layout.measures().iter();
        let is_too_many =
            measures.any(|measure| total(0, &sums[measure.count_cells()]) > MAX_EVENTS);
        if events > MAX_EVENTS || samples > MAX_EVENTS || is_too_many {
            return Err(Refusal::corrupt("its snapshot claims more events than there can be"));
        }
        if family.role() == Some(Role::Calls) {
            (calls, errors) = completions(layout, &sums);
        }
    }
    let folded = bytes.number().map_err(malformed)?;
    // A number of series that were somewhere once.
    if !bytes.0.is_empty() || folded > u64::from(u32::MAX) {
        return Err(malformed(Malformed));
    }
    Ok(Checked { head, families, sections, series, folded, calls, errors })
}

/// Reads the series of a family and gives each to `visit`: its labels and its point. Returns how many
/// they are.
fn each_series<'b>(
    bytes: &mut Bytes<'b>,
    label_count: usize,
    mut visit: impl FnMut(LabelSet, &'b [u8]) -> Result<(), Malformed>,
) -> Result<u64, Malformed> {
    let count = bytes.number()?;
    for _ in 0..count {
        let labels = labels(bytes, label_count)?;
        visit(labels, bytes.counted()?)?;
    }
    Ok(count)
}

/// Completed calls and those that failed, by the first counter of their family.
fn completions(layout: &Layout, sums: &[u64]) -> (u64, u64) {
    let Some(counter) = layout.counters().first() else {
        return (0, 0);
    };
    let errors = counter.cells_where("success", "false").map(|cell| sums[cell]).sum();
    (counter.cells().map(|cell| sums[cell]).sum(), errors)
}

/// So many label values, as those of events are: valid text of limited length.
fn labels(bytes: &mut Bytes<'_>, count: usize) -> Result<LabelSet, Malformed> {
    let mut values = [""; telemetry_common::label::MAX_TAGS];
    let values = values.get_mut(..count).ok_or(Malformed)?;
    for value in values.iter_mut() {
        *value = str::from_utf8(bytes.counted()?).map_err(|_| Malformed)?;
        if value.len() > MAX_LABEL_BYTES {
            return Err(Malformed);
        }
    }
    Ok(LabelSet::new(values.iter().copied()))
}

fn malformed(_: Malformed) -> Refusal {
    Refusal::corrupt("its snapshot is damaged")
}
