//! What usage reports, and what of it survives a snapshot.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a failure is a failed test")]

use telemetry_instance::usage::{KindReport, Snapshot, Usage, UsageError};
use telemetry_recording::family::UsageKind;

const ONLY_ONE: [&str; 1] = ["one"];

fn most_used(kind: &KindReport) -> Vec<(&str, u64)> {
    kind.most_used.iter().map(|used| (&*used.name, used.count)).collect()
}

#[test]
fn kinds_are_counted_apart_and_added_up() {
    let usage = Usage::new(10);
    for (number, kind) in (1..).zip(UsageKind::ALL) {
        usage.add(kind, "name", number, 1);
    }
    let report = usage.report(10);
    let totals: Vec<_> = report.kinds.iter().map(|kind| kind.total).collect();
    assert_eq!((totals, report.total), (vec![1, 2, 3, 4], 10));
    assert_eq!(report.kinds.classes.total, 1);
    assert_eq!(report.kinds.variables.total, 4);
}

#[test]
fn the_most_used_come_first_and_equals_by_name() {
    let usage = Usage::new(10);
    for (name, count) in [("c", 1), ("a", 1), ("d", 7), ("b", 1)] {
        usage.add(UsageKind::Tool, name, count, 1);
    }
    let tools = usage.report(3).kinds.tools;
    assert_eq!(most_used(&tools), [("d", 7), ("a", 1), ("b", 1)]);
    assert_eq!((tools.names, tools.exact, tools.error_bound), (4, true, 0));
}

#[test]
fn times_are_the_first_and_the_last_whatever_order_they_come_in() {
    let usage = Usage::new(10);
    for at in [50, 20, 90, 60] {
        usage.add(UsageKind::Class, "a", 1, at);
    }
    let used = &usage.report(1).kinds.classes.most_used[0];
    assert_eq!((used.first_unix_ms, used.last_unix_ms), (20, 90));
}

#[test]
fn a_declared_name_is_never_used_until_it_is() {
    let usage = Usage::new(3);
    usage.declare(UsageKind::Method, ["C.m"]).unwrap();
    usage.declare(UsageKind::Method, ["B.m", "A.m", "C.m"]).unwrap();
    usage.add(UsageKind::Method, "B.m", 1, 1);
    let methods = usage.report(10).kinds.methods;
    assert_eq!(methods.never_used, ["A.m", "C.m"]);
    assert_eq!(most_used(&methods), [("B.m", 1)]);
    assert_eq!(methods.names, 3);
}

#[test]
fn a_later_declaration_replaces_the_earlier_one() {
    let usage = Usage::new(3);
    usage.declare(UsageKind::Tool, ["a", "b"]).unwrap();
    usage.declare(UsageKind::Class, ["K"]).unwrap();
    usage.add(UsageKind::Tool, "a", 1, 1);
    usage.declare(UsageKind::Tool, ["c"]).unwrap();
    let kinds = usage.report(10).kinds;
    assert_eq!(kinds.tools.never_used, ["c"]);
    assert_eq!(most_used(&kinds.tools), [("a", 1)]);
    assert_eq!(kinds.classes.never_used, ["K"]);
}

#[test]
fn too_many_declared_names_are_refused_and_change_nothing() {
    let usage = Usage::new(2);
    usage.declare(UsageKind::Class, ["K"]).unwrap();
    let revision = usage.revision();
    let refused = usage.declare(UsageKind::Class, ["a", "b", "c", "a"]).unwrap_err();
    assert_eq!(
        refused,
        UsageError::TooManyDeclared { kind: UsageKind::Class, given: 3, allowed: 2 }
    );
    assert_eq!(refused.to_string(), "3 classes were declared, at most 2 are allowed");
    assert_eq!(usage.report(1).kinds.classes.never_used, ["K"]);
    assert_eq!(usage.revision(), revision);
}

#[test]
fn beyond_the_capacity_totals_stay_exact_and_the_bound_is_kept() {
    let usage = Usage::new(10);
    for number in 0..1_000 {
        usage.add(UsageKind::Variable, &format!("rare {number}"), 1, 1);
        usage.add(UsageKind::Variable, "frequent", 1, 1);
    }
    let variables = usage.report(100).kinds.variables;
    assert_eq!((variables.total, variables.names, variables.exact), (2_000, 10, false));
    assert!(0 < variables.error_bound && variables.error_bound <= 2_000 / 10);
    assert!(variables.most_used.iter().all(|used| used.error <= variables.error_bound));
    assert_eq!(variables.most_used[0].name, "frequent");
}

#[test]
fn a_name_declared_after_others_were_given_up_is_not_called_never_used() {
    let usage = Usage::new(1);
    usage.add(UsageKind::Tool, "given up", 1, 1);
    usage.add(UsageKind::Tool, "kept", 1, 2);
    usage.declare(UsageKind::Tool, ["given up"]).unwrap();
    let tools = usage.report(10).kinds.tools;
    assert_eq!((tools.unsure, tools.never_used), (vec!["given up".to_owned()], vec![]));
    assert_eq!(tools.most_used.len(), 1);
}

#[test]
fn a_snapshot_restores_everything_as_what_was_before() {
    let usage = Usage::new(2);
    usage.declare(UsageKind::Tool, ["a", "unused"]).unwrap();
    for (name, count) in [("a", 5), ("b", 3), ("c", 2), ("d", 1)] {
        usage.add(UsageKind::Tool, name, count, 10);
    }
    usage.add(UsageKind::Class, "K", 4, 11);
    let snapshot = usage.snapshot();
    let json = serde_json::to_string(&snapshot).unwrap();
    let restored = Usage::new(2);
    restored.add(UsageKind::Method, "replaced", 1, 1);
    restored.restore(serde_json::from_str(&json).unwrap());
    assert_eq!(restored.snapshot(), snapshot);

    restored.add(UsageKind::Tool, "a", 1, 20);
    let report = restored.report(1);
    assert_eq!((report.total, report.before, report.since_start), (16, 15, 1));
    let tools = report.kinds.tools;
    assert_eq!((tools.total, tools.before, tools.since_start), (12, 11, 1));
    assert_eq!(tools.never_used, ["unused"]);
    let a = &tools.most_used[0];
    assert_eq!((a.count, a.before, a.since_start), (6, 5, 1));
    assert_eq!((a.first_unix_ms, a.last_unix_ms), (10, 20));
    assert!(!tools.exact);
}

#[test]
fn names_that_are_longer_than_those_of_events_are_cut() {
    let usage = Usage::new(10);
    let long = "é".repeat(600);
    for kind in UsageKind::ALL {
        usage.add(kind, &long, 3, 1);
        usage.add(kind, "short", 1, 1);
    }
    let restored = Usage::new(10);
    restored.restore(usage.snapshot());
    let report = restored.report(10);
    // A label, and two with a dot between them, to the last whole character.
    for (kind, length) in UsageKind::ALL.into_iter().zip([256, 512, 256, 256]) {
        let names = report.kinds.get(kind);
        let cut = &long[..length];
        assert_eq!(most_used(names), [(cut, 3), ("short", 1)], "{kind:?}");
        restored.declare(kind, [&*long, "unused"]).unwrap();
        assert_eq!(restored.report(10).kinds.get(kind).never_used, ["unused"], "{kind:?}");
    }
}

#[test]
fn a_snapshot_lists_names_in_order() {
    let usage = Usage::new(10);
    for name in ["c", "a", "b"] {
        usage.add(UsageKind::Tool, name, 1, 1);
    }
    let snapshot = usage.snapshot();
    let names: Vec<_> = snapshot.tools.entries.iter().map(|entry| &*entry.name).collect();
    assert_eq!(names, ["a", "b", "c"]);
}

#[test]
fn the_revision_changes_with_every_change_and_with_nothing_else() {
    let usage = Usage::new(10);
    type Act = fn(&Usage);
    let acts: [(&str, bool, Act); 9] = [
        ("nothing added", false, |usage| usage.add(UsageKind::Tool, "a", 0, 1)),
        ("added", true, |usage| usage.add(UsageKind::Tool, "a", 1, 1)),
        ("declared", true, |usage| usage.declare(UsageKind::Tool, ONLY_ONE).unwrap()),
        ("declared again", false, |usage| usage.declare(UsageKind::Tool, ONLY_ONE).unwrap()),
        ("undeclared", true, |usage| usage.declare(UsageKind::Tool, []).unwrap()),
        ("restored", true, |usage| usage.restore(Snapshot::default())),
        ("cleared", true, Usage::clear),
        ("reported", false, |usage| drop(usage.report(10))),
        ("read", false, |usage| drop(usage.snapshot())),
    ];
    for (what, changes, act) in acts {
        let before = usage.revision();
        act(&usage);
        assert_eq!(usage.revision() > before, changes, "{what}");
    }
}

#[test]
fn clearing_forgets_counts_and_keeps_declarations() {
    let usage = Usage::new(1);
    usage.declare(UsageKind::Tool, ["a"]).unwrap();
    for name in ["a", "b", "c"] {
        usage.add(UsageKind::Tool, name, 1, 1);
    }
    usage.clear();
    let report = usage.report(10);
    assert_eq!((report.total, report.before), (0, 0));
    let tools = report.kinds.tools;
    assert_eq!((tools.exact, tools.never_used), (true, vec!["a".to_owned()]));
    assert!(tools.most_used.is_empty());
}

#[test]
fn threads_lose_no_count() {
    let usage = Usage::new(4);
    std::thread::scope(|scope| {
        for thread in 0..4 {
            let usage = &usage;
            scope.spawn(move || {
                for number in 0..10_000 {
                    usage.add(UsageKind::Tool, &format!("{}", (number + thread) % 7), 1, 1);
                }
            });
        }
    });
    assert_eq!(usage.report(1).total, 40_000);
    assert_eq!(usage.revision(), 40_000);
}

#[test]
fn memory_is_that_of_all_kinds() {
    let usage = Usage::new(100);
    let empty = usage.memory_bytes();
    usage.add(UsageKind::Class, "K", 1, 1);
    let one = usage.memory_bytes();
    usage.add(UsageKind::Variable, "v", 1, 1);
    assert!(empty < one && usage.memory_bytes() - one == one - empty);
}
