use std::cell::Cell;

use super::*;
use crate::family::{Family, FamilySpec};
use crate::lane::{COUNTING_LANES, FULL};
use crate::metric::{HistogramSpec, Unit};
use telemetry_common::thread_number::{ThreadNumber, exclusive_lanes};

/// One histogram with one bound.
pub(crate) fn family() -> Family {
    let spec = FamilySpec {
        name: "family".into(),
        labels: vec![],
        counters: vec![],
        histograms: vec![HistogramSpec {
            name: "h".into(),
            help: String::new(),
            unit: Unit::One,
            bounds: vec![5],
        }],
        digits: 2,
        series_limit: 1,
        role: None,
        usage: None,
        measures: vec![],
    };
    Family::new(spec).expect("valid")
}

/// A number that gives its holder histogram counters. Other tests hold some now and then.
fn counting_number() -> ThreadNumber {
    loop {
        let number = ThreadNumber::take();
        if number.get() < COUNTING_LANES.min(exclusive_lanes()) {
            return number;
        }
        drop(number);
        std::thread::yield_now();
    }
}

fn record(writer: &impl Writer, layout: &Layout, value: u64) {
    let mark = Series::observe(writer, &layout.histograms()[0], value);
    writer.mark(&writer.cells()[layout.marks_cell()], mark);
    writer.finish(&writer.cells()[layout.events_cell()]);
}

#[test]
fn deltas_add_up_to_all_events_while_counters_are_carried() {
    let family = family();
    let layout = family.layout();
    let metric = &layout.histograms()[0];
    let series = Series::new(LabelSet::new([]), layout, 0);
    let samples = 1_500 * u64::from(FULL) + 7;
    let mut sum = Point::new(layout);
    std::thread::scope(|scope| {
        let writer = scope.spawn(|| {
            let number = counting_number();
            let lane = series.lanes().exclusive(&number).expect("a lane of its own");
            for sample in 0..samples {
                record(&series.lanes().own(lane), layout, 5 + sample % 2);
            }
        });
        let mut delta = Point::new(layout);
        loop {
            let last = writer.is_finished();
            if series.take_delta(layout, &mut delta) {
                sum.add(&delta, layout);
                sum.merge_counts();
                assert!(sum.sample_count(0) <= samples);
            }
            if last {
                break;
            }
        }
    });
    sum.finish(layout);
    assert_eq!(sum, series.point(layout));
    let at = |value| metric.precision.locate(value);
    assert_eq!(sum.counts(0), [(at(5), samples / 2 + 1), (at(6), samples / 2)]);
    assert_eq!(sum.cell(layout.events_cell()), samples);
    assert_eq!(sum.cell(metric.sum_cell()), 5 * samples + samples / 2);
    assert_eq!(sum.cell(metric.covered_cell(0)), samples / 2 + 1);
}

/// The counter of value 5 is carried between the count of its bucket and that of the one above.
#[test]
fn buckets_are_read_anew_if_a_counter_is_carried_meanwhile() {
    let family = family();
    let layout = family.layout();
    let series = Series::new(LabelSet::new([]), layout, 0);
    let number = counting_number();
    let lane = series.lanes().exclusive(&number).expect("a lane of its own");
    let own = series.lanes().own(lane);
    (0..FULL).for_each(|_| record(&own, layout, 5));
    [3, 3, 7].into_iter().for_each(|value| record(&own, layout, value));
    let is_carried = Cell::new(false);
    let cell = |cell| {
        if !is_carried.replace(true) {
            record(&own, layout, 5);
        }
        series.lanes().sum(cell)
    };
    // What was read of another histogram before.
    let mut buckets = vec![9];
    let samples = series.read_buckets(&layout.histograms()[0], cell, &mut buckets);
    let full = u64::from(FULL);
    assert_eq!((samples, buckets), (full + 4, vec![9, full + 3, 1]));
}

/// A slice ends after a sample has become the largest one and before it is counted, or before
/// both: the sum of both slices knows it exactly.
#[test]
fn the_largest_and_smallest_sample_are_not_lost_between_two_slices() {
    let family = family();
    let layout = family.layout();
    let metric = &layout.histograms()[0];
    for (value, largest, smallest) in [(1_000_003, 1_000_003, 5_001), (1_003, 5_001, 1_003)] {
        let series = Series::new(LabelSet::new([]), layout, 0);
        let shared = series.lanes().shared();
        record(&shared, layout, 5_001);

        let cells = shared.cells();
        let [_, max, min_complement, slice_max, slice_min_complement] = metric.scalars(cells);
        shared.raise(slice_max, max, value);
        shared.raise(slice_min_complement, min_complement, !value);
        let [mut first, mut second, mut sum] = [(); 3].map(|()| Point::new(layout));
        assert!(series.take_delta(layout, &mut first));
        shared.count(shared.find(0, metric.precision.locate(value)));
        shared.mark(
            &cells[layout.marks_cell()],
            mark_of(metric.precision, 0, metric.precision.locate(value)),
        );
        shared.finish(&cells[layout.events_cell()]);
        assert!(series.take_delta(layout, &mut second));
        assert!(!series.take_delta(layout, &mut Point::new(layout)));

        sum.add(&first, layout);
        sum.add(&second, layout);
        sum.finish(layout);
        assert_eq!((sum.max(metric), sum.min(metric)), (Some(largest), Some(smallest)));
        for slice in [&mut first, &mut second] {
            slice.finish(layout);
            let ends = [slice.min(metric), slice.max(metric)];
            let at = ends.map(|value| value.map(|value| metric.precision.locate(value)));
            assert_eq!(at, [Some(slice.counts(0)[0].0); 2]);
        }
    }
}

#[test]
fn memory_of_all_parts_is_counted() {
    let family = family();
    let layout = family.layout();
    let mut series = Series::new(LabelSet::new(["123456"]), layout, 0);
    series.last_values = [1, 2].map(AtomicU64::new).into();
    record(&series.lanes().shared(), layout, 5);
    let mut point = Point::new(layout);
    assert!(series.take_delta(layout, &mut point) && series.take_exported(layout, &mut point));
    let name = Arc::from("trace_id");
    let exemplar = Exemplar::new(5, 0, [(&name, &b"t"[..])]).expect("has a label");
    series.keep_exemplar(&layout.histograms()[0], exemplar);
    let parts = [
        series.lanes.memory_bytes(),
        series.baseline().memory_bytes(),
        series.exemplars.memory_bytes(),
        series.exported.memory_bytes(),
    ];
    assert!(parts.iter().all(|part| *part > 1), "{parts:?}");
    // Reference counts and the series, a word of labels after two counts, and two last values.
    let own = 16_usize.max(align_of::<Series>()) + size_of::<Series>() + 24 + 2 * 8;
    let entry = size_of::<(LabelSet, Arc<Series>)>();
    assert_eq!(series.memory_bytes(), own + entry + parts.iter().sum::<usize>());
}
