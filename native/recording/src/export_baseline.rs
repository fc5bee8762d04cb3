//! What a series had counted when it was exported last, from which the next delta counts.
//!
//! A delta is a difference of counts that only grow, and what is remembered is what was told: so the
//! deltas of a series add up to all that it has counted, whatever is recorded meanwhile.

use std::sync::Mutex;

use once_cell::race::OnceBox;

use crate::bounds::Bounds;
use crate::histogram::Location;
use crate::lane::Lanes;
use crate::layout::Layout;
use crate::point::Point;
use telemetry_common::heap::{self, HeapBytes};
use telemetry_common::lock::lock;

/// Kept encoded, and by series that were ever exported as deltas only.
#[derive(Default)]
pub(crate) struct ExportBaseline(OnceBox<Mutex<Box<[u8]>>>);

impl ExportBaseline {
    /// Replaces `point` by what came in since the last call. `false` says that there was nothing, and
    /// `point` is not to be used. The largest and the smallest sample are exact if they are the ones
    /// of all time, or else told within their histogram bucket.
    pub fn take(&self, lanes: &Lanes, layout: &Layout, point: &mut Point) -> bool {
        let mut told = lock(self.0.get_or_init(Box::default));
        let before = decode(&told, layout);
        let events = 0..layout.event_cell_count();
        if point.read_event_cells(lanes, layout).iter().zip(events).all(|(now, cell)| {
            // Every event increments one of these cells, as its last write.
            *now == before.cell(cell)
        }) {
            return false;
        }
        // With counts goes what their samples wrote before them, and maybe more, which waits for its counts.
        point.read(lanes, layout);
        let mut delta = point.since(&before, layout);
        for metric in layout.histograms() {
            if delta.counts(metric.index()).is_empty() {
                // Of samples that are being recorded. It is told with their counts.
                point.cells_mut()[metric.sum_cell()] -= delta.cell(metric.sum_cell());
            }
            for (bound, surplus) in surplus(&metric.bounds, delta.counts(metric.index()), |bound| {
                delta.cell(metric.covered_cell(bound))
            }) {
                point.cells_mut()[metric.covered_cell(bound)] -= surplus;
            }
        }
        for measure in layout.measures() {
            let Some(total) = measure.total().filter(|_| !measure.has_numbers(&delta)) else {
                continue;
            };
            for cell in [total.integers, total.floats] {
                point.cells_mut()[cell] = before.cell(cell);
                delta.cells_mut()[cell] = 0;
            }
        }
        let mut bytes = Vec::with_capacity(told.len());
        point.encode(&mut bytes);
        *told = bytes.into();
        *point = delta;
        true
    }

    /// Adds what a series had told whose counts this one's series takes over.
    pub fn absorb(&self, other: &Self, layout: &Layout) {
        let Some(other) = other.0.get() else {
            return;
        };
        let mut told = lock(self.0.get_or_init(Box::default));
        let mut sum = decode(&told, layout);
        sum.add_encoded(&lock(other), layout);
        sum.merge_counts();
        let mut bytes = Vec::new();
        sum.encode(&mut bytes);
        *told = bytes.into();
    }

    pub(crate) fn memory_bytes(&self) -> usize {
        self.0
            .get()
            .map_or(0, |told| heap::sum([size_of::<Mutex<Box<[u8]>>>(), lock(told).heap_bytes()]))
    }
}

fn decode(bytes: &[u8], layout: &Layout) -> Point {
    let mut point = Point::new(layout);
    if !bytes.is_empty() {
        point.add_encoded(bytes, layout);
        point.merge_counts();
    }
    point
}

/// For each bound how many samples are covered by it and not yet counted, being recorded: they are told
/// with the next delta, which has their counts.
fn surplus(
    bounds: &Bounds,
    counts: &[(Location, u64)],
    covered: impl Fn(usize) -> u64,
) -> impl Iterator<Item = (usize, u64)> {
    let inside = move |at: &Location| match counts.binary_search_by_key(at, |(at, _)| *at) {
        Ok(found) => counts[found].1,
        Err(_) => 0,
    };
    let locations = bounds.locations().iter().enumerate();
    locations.map(move |(bound, at)| (bound, covered(bound).saturating_sub(inside(at))))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::family::{Family, FamilySpec};
    use crate::lane::Writer;
    use crate::measure::{Bound, MeasureKind, MeasureSpec, Number, Reading, Total};
    use crate::series::Series;
    use crate::series::tests::family;
    use telemetry_common::label::LabelSet;

    /// What a series tells: its buckets, and the sum of their samples.
    fn tell(series: &Series, layout: &Layout) -> ([u64; 2], u64) {
        let mut point = Point::new(layout);
        if !series.take_exported(layout, &mut point) {
            return ([0; 2], 0);
        }
        let metric = &layout.histograms()[0];
        let covered = |bound| point.cell(metric.covered_cell(bound));
        let buckets = metric.bounds.buckets(point.counts(0), covered);
        // Without a sample nothing of a histogram is told.
        let is_told = point.sample_count(0) > 0;
        let sum = if is_told { point.cell(metric.sum_cell()) } else { 0 };
        (buckets.try_into().expect("one bound"), sum)
    }

    #[test]
    fn what_is_told_while_samples_come_in_adds_up() {
        const SAMPLES: u64 = 300_000;
        let family = family();
        let layout = family.layout();
        let metric = &layout.histograms()[0];
        let series = Series::new(LabelSet::new([]), layout, 0);
        let (mut buckets, mut sum) = ([0; 2], 0);
        let mut add = || {
            let (more, of_them) = tell(&series, layout);
            buckets.iter_mut().zip(more).for_each(|(all, more)| *all += more);
            sum += of_them;
        };
        std::thread::scope(|scope| {
            let recording = scope.spawn(|| {
                let shared = series.lanes().shared();
                for _ in 0..SAMPLES {
                    let _mark = Series::observe(&shared, metric, 5);
                    shared.finish(&shared.cells()[layout.events_cell()]);
                }
            });
            while !recording.is_finished() {
                add();
            }
        });
        add();
        assert_eq!((buckets, sum), ([SAMPLES, 0], 5 * SAMPLES));
    }

    /// As for histograms: an export comes after a number was added to a total and before it is counted.
    #[test]
    fn a_total_is_told_with_the_count_of_its_numbers() {
        let bounds = vec![Bound { value: 1.0, text: "1".into() }];
        let kinds = [MeasureKind::Sum { monotonic: true }, MeasureKind::Distribution { bounds }];
        let measure = |kind| MeasureSpec { name: String::new(), help: String::new(), kind };
        let family = Family::new(FamilySpec {
            name: "family".into(),
            labels: vec![],
            counters: vec![],
            histograms: vec![],
            digits: 2,
            series_limit: 1,
            role: None,
            usage: None,
            measures: kinds.into_iter().map(measure).collect(),
        })
        .expect("valid");
        let layout = family.layout();
        let series = Series::new(LabelSet::new([]), layout, 0);
        let shared = series.lanes().shared();
        let cells = shared.cells();
        let tell = || {
            let mut point = Point::new(layout);
            let any = series.take_exported(layout, &mut point);
            let total = |measure: &crate::measure::Measure| match measure.read(&point) {
                Some(Reading::Sum(total)) => Some(total),
                Some(Reading::Distribution(buckets)) => Some(buckets.sum),
                _ => None,
            };
            any.then(|| layout.measures().iter().map(total).collect::<Vec<_>>())
        };
        for measure in layout.measures() {
            let total = measure.total().expect("a total");
            shared.add_signed(&cells[total.integers], -7);
            shared.add_float(&cells[total.floats], 0.5);
        }
        // Of another event, whose numbers nobody wanted.
        shared.finish(&cells[layout.events_cell()]);
        assert_eq!(tell(), Some(vec![None, None]));
        for measure in layout.measures() {
            shared.add(&cells[measure.count_cells().start], 1);
        }
        shared.finish(&cells[layout.events_cell()]);
        assert_eq!(tell(), Some(vec![Some(Total::Float(-6.5)); 2]));
        for measure in layout.measures() {
            let _mark = measure.record(&shared, &series, Number::Integer(2));
        }
        shared.finish(&cells[layout.events_cell()]);
        assert_eq!(tell(), Some(vec![Some(Total::Integer(2)); 2]));
        assert_eq!(tell(), None);
    }

    /// An export comes after a sample was added to the sum and is known to be within its bound, and before
    /// it is counted.
    #[test]
    fn what_is_ahead_of_its_count_is_told_with_it() {
        let family = family();
        let layout = family.layout();
        let metric = &layout.histograms()[0];
        for another in [None, Some(1_000)] {
            let series = Series::new(LabelSet::new([]), layout, 0);
            let shared = series.lanes().shared();
            let cells = shared.cells();
            let count = |value| shared.count(shared.find(0, metric.precision.locate(value)));
            let finish = || shared.finish(&cells[layout.events_cell()]);
            let [sum, ..] = metric.scalars(cells);
            shared.add_saturating(sum, 5);
            shared.add(&cells[metric.covered_cell(0)], 1);
            // Another event makes the export read the series at all.
            if let Some(value) = another {
                shared.add_saturating(sum, value);
                count(value);
            }
            finish();
            let (first, first_sum) = tell(&series, layout);
            assert_eq!(first, [0, u64::from(another.is_some())]);
            count(5);
            finish();
            let (second, second_sum) = tell(&series, layout);
            assert_eq!(second, [1, 0]);
            assert_eq!(first_sum + second_sum, 5 + another.unwrap_or(0));
        }
    }

    #[test]
    fn memory_of_what_was_told_is_counted() {
        let exported = ExportBaseline::default();
        assert_eq!(exported.memory_bytes(), 0);
        *lock(exported.0.get_or_init(Box::default)) = [1; 5].into();
        assert_eq!(exported.memory_bytes(), size_of::<Mutex<Box<[u8]>>>() + 5);
    }
}
