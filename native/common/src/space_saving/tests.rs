use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

/// One thing that can happen to a summary.
#[derive(Clone, Debug)]
enum Step {
    Add(u8, u64),
    Declare(BTreeSet<u8>),
    KeepAndRestore,
    Clear,
}

fn adds() -> impl Strategy<Value = Step> {
    // Few names are frequent and many rare, as in life.
    let name = prop_oneof![3 => 0_u8..4, 2 => 0_u8..40];
    (name, 1_u64..20).prop_map(|(name, weight)| Step::Add(name, weight))
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let declared = prop::collection::btree_set(0_u8..40, 0..6).prop_map(Step::Declare);
    let step = prop_oneof![
        40 => adds(),
        2 => declared,
        1 => Just(Step::KeepAndRestore),
        1 => Just(Step::Clear),
    ];
    prop::collection::vec(step, 0..300)
}

/// What an exact count of the same steps says.
#[derive(Default)]
struct Exact {
    counts: BTreeMap<String, u64>,
    declared: BTreeSet<String>,
    times: BTreeMap<String, (u64, u64)>,
}

impl Exact {
    fn count(&self, name: &str) -> u64 {
        self.counts.get(name).copied().unwrap_or(0)
    }

    fn total(&self) -> u64 {
        self.counts.values().sum()
    }

    fn apply(&mut self, step: &Step, summary: &mut SpaceSaving, now: u64) {
        match step {
            Step::Add(name, weight) => {
                let name = format!("name {name}");
                summary.add(&name, *weight, now);
                let (first, last) = self.times.entry(name.clone()).or_insert((now, now));
                (*first, *last) = ((*first).min(now), (*last).max(now));
                *self.counts.entry(name).or_default() += weight;
            }
            Step::Declare(names) => {
                let names = names.iter().take(summary.capacity());
                self.declared = names.map(|name| format!("name {name}")).collect();
                summary.declare(&self.declared.iter().map(String::as_str).collect());
            }
            Step::KeepAndRestore => summary.restore(summary.keep()),
            Step::Clear => {
                self.counts.clear();
                self.times.clear();
                summary.clear();
            }
        }
    }
}

fn assert_guarantees(summary: &SpaceSaving, exact: &Exact) {
    let total = exact.total();
    let bound = total / summary.capacity() as u64;
    assert_eq!(summary.total(), total);
    assert!(summary.floor() <= bound, "floor {} of total {total}", summary.floor());
    for entry in summary.entries() {
        let count = exact.count(&entry.name);
        assert!(entry.count - entry.error <= count && count <= entry.count, "{count}: {entry:?}");
        assert!(entry.error <= summary.floor(), "{entry:?}");
        assert!(entry.before <= entry.count, "{entry:?}");
        assert_eq!(entry.declared, exact.declared.contains(&*entry.name));
        if entry.error == 0 {
            let times = exact.times.get(&*entry.name).copied().unwrap_or_default();
            assert_eq!((entry.first_unix_ms, entry.last_unix_ms), times, "{entry:?}");
        }
    }
    for (name, &count) in &exact.counts {
        assert!(summary.get(name).is_some() || count <= summary.floor(), "{name}: {count}");
    }
    for name in &exact.declared {
        assert!(summary.get(name).is_some(), "declared {name} has no entry");
    }
    let ordinary = summary.entries().filter(|entry| !entry.declared).count();
    assert!(ordinary <= summary.capacity());
}

/// The heap has all ordinary slots, each knows its place, and no parent counts more than a child.
fn assert_order(summary: &SpaceSaving) {
    let ordinary = summary.entries().filter(|entry| !entry.declared).count();
    assert_eq!((summary.heap.len(), summary.ids.len()), (ordinary, summary.len()));
    for place in 0..summary.heap.len() {
        assert_eq!(summary.slots[summary.heap[place]].place, place);
        assert!(place == 0 || summary.count_at((place - 1) / 2) <= summary.count_at(place));
    }
    for (name, &id) in &summary.ids {
        assert_eq!(*name, summary.slots[id].entry.name);
    }
    let text_bytes: usize = summary.entries().map(|entry| entry.name.heap_bytes()).sum();
    assert_eq!(summary.text_bytes, text_bytes);
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_guarantees_hold_after_every_step(
        capacity in 1_usize..12,
        steps in steps(),
        backwards in any::<bool>(),
    ) {
        let mut summary = SpaceSaving::new(capacity);
        let mut exact = Exact::default();
        for (number, step) in steps.iter().enumerate() {
            let now = if backwards { 1_000 - number } else { number + 1 };
            exact.apply(step, &mut summary, now as u64);
            assert_order(&summary);
            assert_guarantees(&summary, &exact);
        }
    }

    #[test]
    fn counts_add_up_to_the_total_while_nothing_is_declared(
        capacity in 1_usize..12,
        steps in prop::collection::vec(adds(), 0..300),
    ) {
        let mut summary = SpaceSaving::new(capacity);
        let mut exact = Exact::default();
        for step in &steps {
            exact.apply(step, &mut summary, 1);
            prop_assert_eq!(summary.entries().map(|entry| entry.count).sum::<u64>(), exact.total());
        }
    }

    #[test]
    fn counts_are_exact_while_there_is_room(steps in prop::collection::vec(adds(), 0..300)) {
        let mut summary = SpaceSaving::new(40);
        let mut exact = Exact::default();
        for step in &steps {
            exact.apply(step, &mut summary, 1);
        }
        prop_assert_eq!(summary.floor(), 0);
        prop_assert_eq!(summary.len(), exact.counts.len());
        for entry in summary.entries() {
            prop_assert_eq!((entry.count, entry.error), (exact.count(&entry.name), 0));
        }
    }
}

fn names_of(summary: &SpaceSaving) -> Vec<&str> {
    let mut names: Vec<_> = summary.entries().map(|entry| &*entry.name).collect();
    names.sort_unstable();
    names
}

#[test]
fn a_newcomer_takes_the_place_of_the_smallest_count() {
    let mut summary = SpaceSaving::new(2);
    for (name, weight) in [("a", 7), ("b", 3), ("c", 2)] {
        summary.add(name, weight, 1);
    }
    assert_eq!(names_of(&summary), ["a", "c"]);
    let newcomer = summary.get("c").unwrap();
    assert_eq!((newcomer.count, newcomer.error), (5, 3));
}

#[test]
fn a_name_declared_before_its_use_is_exact_whatever_else_comes() {
    let mut summary = SpaceSaving::new(2);
    assert!(summary.declare(&BTreeSet::from(["rare"])));
    for number in 0..1_000 {
        summary.add(&format!("{number}"), 1, 1);
    }
    summary.add("rare", 1, 5);
    let rare = summary.get("rare").unwrap();
    assert_eq!((rare.count, rare.error, rare.first_unix_ms), (1, 0, 5));
    assert_eq!(summary.len(), 3);
}

#[test]
fn declaring_the_same_again_changes_nothing() {
    let mut summary = SpaceSaving::new(2);
    assert!(!summary.declare(&BTreeSet::new()));
    assert!(summary.declare(&BTreeSet::from(["a", "b"])));
    assert!(!summary.declare(&BTreeSet::from(["a", "b"])));
    assert!(summary.declare(&BTreeSet::from(["a"])));
}

#[test]
fn a_name_no_longer_declared_stays_only_if_it_was_used() {
    let mut summary = SpaceSaving::new(2);
    summary.declare(&BTreeSet::from(["used", "unused"]));
    summary.add("used", 3, 7);
    summary.declare(&BTreeSet::new());
    assert_eq!(names_of(&summary), ["used"]);
    assert_eq!(summary.get("used").unwrap().count, 3);
}

#[test]
fn ordinary_names_beyond_the_capacity_are_given_up_by_the_smallest_count() {
    let mut summary = SpaceSaving::new(2);
    summary.declare(&BTreeSet::from(["a", "b"]));
    for (name, weight) in [("a", 1), ("b", 9), ("c", 5), ("d", 2)] {
        summary.add(name, weight, 1);
    }
    summary.declare(&BTreeSet::new());
    assert_eq!(names_of(&summary), ["b", "c"]);
    assert_eq!(summary.floor(), 2);
}

#[test]
fn what_was_restored_is_told_from_what_came_since() {
    let mut summary = SpaceSaving::new(2);
    summary.add("a", 3, 10);
    summary.restore(summary.keep());
    summary.add("a", 2, 20);
    summary.add("b", 1, 30);
    let a = summary.get("a").unwrap();
    assert_eq!((a.count, a.before, a.since_start()), (5, 3, 2));
    assert_eq!((a.first_unix_ms, a.last_unix_ms), (10, 20));
    assert_eq!(summary.get("b").unwrap().before, 0);
    assert_eq!((summary.total(), summary.before()), (6, 3));
}

#[test]
fn what_was_kept_with_more_room_is_cut_down() {
    let mut large = SpaceSaving::new(5);
    large.declare(&BTreeSet::from(["a", "unused 1", "unused 2"]));
    for (name, weight) in [("a", 1), ("b", 2), ("c", 3), ("d", 4)] {
        large.add(name, weight, 1);
    }
    let mut small = SpaceSaving::new(2);
    small.restore(large.keep());
    assert_eq!(names_of(&small), ["c", "d"]);
    assert_eq!((small.total(), small.floor()), (10, 2));
    assert!(small.entries().all(|entry| !entry.declared));
}

#[test]
fn a_name_that_can_stay_neither_declared_nor_used_is_forgotten() {
    let mut large = SpaceSaving::new(3);
    large.declare(&BTreeSet::from(["used", "unused 1", "unused 2"]));
    large.add("used", 1, 1);
    let mut small = SpaceSaving::new(2);
    small.restore(large.keep());
    assert_eq!(names_of(&small), ["used"]);
}

#[test]
fn a_weight_of_nothing_makes_no_entry() {
    let mut summary = SpaceSaving::new(1);
    summary.add("a", 0, 1);
    assert!(summary.is_empty());
}

#[test]
fn a_name_that_was_kept_twice_is_restored_once() {
    let mut summary = SpaceSaving::new(5);
    summary.add("a", 1, 1);
    let mut kept = summary.keep();
    kept.entries.extend(kept.entries.clone());
    summary.restore(kept);
    assert_order(&summary);
    assert_eq!(names_of(&summary), ["a"]);
}

#[test]
fn counts_stop_at_the_largest_number() {
    let mut summary = SpaceSaving::new(1);
    for name in ["a", "a", "b"] {
        summary.add(name, u64::MAX - 1, 1);
    }
    assert_eq!((summary.total(), summary.get("b").unwrap().count), (u64::MAX, u64::MAX));
}

#[test]
fn memory_does_not_grow_with_the_names_that_pass_through() {
    let mut summary = SpaceSaving::new(100);
    for number in 0..100_000 {
        summary.add(&format!("{number:08}"), 1, 1);
        // The hash table may double once, to have room for what it removed.
        let bytes = summary.memory_bytes();
        assert!(bytes < 100 * 400, "{bytes} bytes after {number} names");
    }
    assert!(summary.memory_bytes() > 100 * size_of::<Slot>());
    summary.clear();
    assert_eq!(summary.memory_bytes(), SpaceSaving::new(100).memory_bytes());
}

#[test]
fn memory_of_names_and_entries_is_counted() {
    let mut summary = SpaceSaving::new(100);
    for number in 0..100 {
        summary.add(&format!("{number:08}"), 1, 1);
    }
    // 128 places, and names of one word each after two counts.
    let places = size_of::<Slot>() + size_of::<usize>() + size_of::<(Arc<str>, usize)>() + 1;
    assert_eq!(summary.memory_bytes(), 128 * places + 100 * 24);
}
