use std::collections::BTreeMap;

use proptest::collection::{btree_map, vec};
use proptest::prelude::*;

use super::*;
use crate::family::{Family, FamilySpec};
use crate::histogram::{MAX_VALUE, Precision};
use crate::metric::{CounterSpec, HistogramSpec, Unit};

fn family() -> Family {
    let histogram = |name: &str| HistogramSpec {
        name: name.into(),
        help: String::new(),
        unit: Unit::One,
        bounds: vec![7, 500],
    };
    let spec = FamilySpec {
        name: "family".into(),
        labels: vec![],
        counters: vec![CounterSpec {
            name: "total".into(),
            help: String::new(),
            dimensions: vec![],
            dropped_labels: vec![],
        }],
        histograms: vec![histogram("first"), histogram("second")],
        digits: 3,
        role: None,
        usage: None,
        measures: vec![],
        series_limit: 1,
    };
    Family::new(spec).expect("valid")
}

fn location() -> impl Strategy<Value = Location> {
    let value = prop_oneof![0..5_000_u64, 0..=MAX_VALUE, Just(0), Just(MAX_VALUE)];
    value.prop_map(|value| Precision::Three.locate(value))
}

fn number() -> impl Strategy<Value = u64> {
    prop_oneof![
        0..300_u64,
        any::<u64>(),
        Just(0),
        Just(u64::MAX),
        (0..64).prop_map(|bit| 1_u64 << bit)
    ]
}

fn point() -> impl Strategy<Value = Point> {
    let cells = vec(number(), family().layout().cell_count());
    let counts = btree_map(location(), number().prop_map(|count| count.max(1)), 0..300);
    (cells, vec(counts, 2)).prop_map(|(cells, counts)| {
        let ordered = counts.iter().map(BTreeMap::len).collect();
        let counts = counts.into_iter().map(|counts| counts.into_iter().collect()).collect();
        Point { cells, counts, ordered }
    })
}

fn encoded(point: &Point) -> Vec<u8> {
    let mut bytes = Vec::new();
    point.encode(&mut bytes);
    bytes
}

/// The sum of points, one cell and one counter at a time.
fn sum(points: &[Point], layout: &Layout) -> Point {
    let mut sum = Point::new(layout);
    let mut counts = vec![BTreeMap::new(); 2];
    for point in points {
        for (cell, &value) in point.cells.iter().enumerate() {
            let raising = layout.raising_cells().any(|(ever, slice)| [ever, slice].contains(&cell));
            let old = sum.cells[cell];
            sum.cells[cell] = if raising { old.max(value) } else { old.saturating_add(value) };
        }
        for (counts, more) in counts.iter_mut().zip(&point.counts) {
            for &(location, count) in more {
                let old = counts.entry(location).or_insert(0_u64);
                *old = old.saturating_add(count);
            }
        }
    }
    sum.ordered = counts.iter().map(BTreeMap::len).collect();
    sum.counts = counts.into_iter().map(|counts| counts.into_iter().collect()).collect();
    sum
}

#[test]
fn only_a_whole_point_with_counters_that_exist_passes_the_check() {
    let family = family();
    let layout = family.layout();
    let check = |numbers: &[u64]| {
        let mut bytes = Vec::new();
        numbers.iter().for_each(|number| put(&mut bytes, *number));
        Point::check_encoded(&bytes, layout, |_, _| ()).ok()
    };
    // Cells; then for each histogram how many counters, and by how much each is behind the last.
    assert_eq!(check(&[0, 1, 5, 7, 0]), Some(7));
    assert_eq!(check(&[1, 0, 9, 2, 0, 1, 3, 2, 0]), Some(3));
    let last_cell = layout.cell_count() as u64 - 1;
    assert_eq!(check(&[1, last_cell, 9, 0, 0]), Some(0));

    assert_eq!(check(&[1, last_cell + 1, 9, 0, 0]), None, "no such cell");
    assert_eq!(check(&[2, 0, 1, u64::MAX, 1, 0, 0]), None, "beyond all cells");
    let last = u64::from(Precision::Three.locate(MAX_VALUE).number());
    assert_eq!(check(&[0, 1, last, 7, 0]), Some(7));
    assert_eq!(check(&[0, 1, last + 1, 7, 0]), None, "no such counter");
    assert_eq!(check(&[0, 1, u64::MAX, 7, 0]), None, "beyond all counters");
    assert_eq!(check(&[0, 2, 5, 1, 0, 1, 0]), None, "a counter twice");
    assert_eq!(check(&[0, 2, 0, 1, 0, 1, 0]), None, "the first counter twice");
    assert_eq!(check(&[0, 1, 5, 0, 0]), None, "a counter of zero");
    assert_eq!(check(&[0, 2, 5, u64::MAX, 1, 1, 0]), None, "more samples than a number holds");
    assert_eq!(check(&[0, 1, 5]), None, "cut off");
    assert_eq!(check(&[0, 0, 0, 0]), None, "something left");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, failure_persistence: None, ..Default::default() })]

    #[test]
    fn a_point_is_what_its_encoding_says(point in point()) {
        let family = family();
        let mut read = Point::new(family.layout());
        read.add_encoded(&encoded(&point), family.layout());
        read.merge_counts();
        prop_assert_eq!(read, point);
    }

    /// Encoded or not, in any order, with enough counts to be put in order in between.
    #[test]
    fn points_merge_to_their_sum(
        points in vec(point(), 0..8),
        shuffled in Just((0..8).collect::<Vec<usize>>()).prop_shuffle(),
        encode in vec(any::<bool>(), 8),
    ) {
        let family = family();
        let mut merged = Point::new(family.layout());
        for at in shuffled.into_iter().filter(|at| *at < points.len()) {
            if encode[at] {
                merged.add_encoded(&encoded(&points[at]), family.layout());
            } else {
                merged.add(&points[at], family.layout());
            }
        }
        merged.merge_counts();
        prop_assert_eq!(merged, sum(&points, family.layout()));
    }

    #[test]
    fn largest_and_smallest_of_a_finished_point_lie_where_its_counts_do(mut point in point()) {
        let family = family();
        let raw = point.clone();
        point.finish(family.layout());
        for (index, metric) in family.layout().histograms().iter().enumerate() {
            let counts = point.counts(index);
            prop_assert_eq!(point.max(metric).is_some(), !counts.is_empty());
            let (Some(max), Some(min)) = (point.max(metric), point.min(metric)) else {
                continue;
            };
            let at = |value| metric.precision.locate(value);
            prop_assert_eq!(at(max), counts[counts.len() - 1].0);
            prop_assert_eq!(at(min), counts[0].0);
            let (raw_max, raw_min) =
                (raw.cell(metric.max_cell()), !raw.cell(metric.min_complement_cell()));
            if raw_max <= MAX_VALUE && at(raw_max) == at(max) {
                prop_assert_eq!(raw_max, max);
            }
            if raw_min <= MAX_VALUE && at(raw_min) == at(min) {
                prop_assert_eq!(raw_min, min);
            }
        }
    }
}
