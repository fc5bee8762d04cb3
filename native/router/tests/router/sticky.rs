//! Keys that keep their worker.

use telemetry_router::{Outcome, Reason, RouterSpec};

use crate::support::{Running, SECOND, id, spec};

#[test]
fn a_key_stays_and_keys_spread() {
    let mut running = Running::start(16, spec());
    let mut used = std::collections::HashSet::new();
    for key in 0..200 {
        let key = format!("session {key}");
        let (worker, reason) = running.route("work", Some(&key)).unwrap();
        assert_eq!(reason, Reason::Rendezvous);
        for _ in 0..3 {
            assert_eq!(running.route("other", Some(&key)), Some((worker.clone(), Reason::Sticky)));
        }
        used.insert(worker);
    }
    assert_eq!(used.len(), 16);
}

#[test]
fn a_key_leaves_a_worker_that_is_ejected_and_does_not_come_back() {
    let mut running = Running::start(4, spec());
    let (first, _) = running.route("work", Some("key")).unwrap();
    let number = first[1..].parse().unwrap();
    running.ended(number, "work", Outcome::Failure, 1, 6);
    let (second, reason) = running.route("work", Some("key")).unwrap();
    assert_ne!(first, second);
    assert_eq!(reason, Reason::Rendezvous);
    running.now += 20 * SECOND;
    assert_eq!(running.route("work", Some("key")), Some((second, Reason::Sticky)));
}

#[test]
fn what_is_bound_stays_with_an_ejected_worker_but_not_with_one_that_has_left() {
    let mut running = Running::start(4, spec());
    assert!(running.router.bind(b"ref", "w2"));
    assert!(!running.router.bind(b"ref", "nobody"));
    running.ended(2, "work", Outcome::Failure, 1, 5);
    assert!(running.candidate("work", 2).ejected_for_ms.is_some());
    assert_eq!(running.route("work", Some("ref")), Some((id(2), Reason::Bound)));
    running.router.remove_worker("w2");
    let (worker, reason) = running.route("work", Some("ref")).unwrap();
    assert!(worker != "w2" && reason == Reason::Rendezvous);
    // A new worker of the same name has nothing that lived in the old one.
    running.router.add_worker("w2", running.now);
    assert_eq!(running.route("work", Some("ref")), Some((worker, Reason::Sticky)));
}

#[test]
fn binding_moves_a_key() {
    let mut running = Running::start(4, spec());
    let (first, _) = running.route("work", Some("key")).unwrap();
    let other = (0..4).map(id).find(|worker| *worker != first).unwrap();
    running.router.bind(b"key", &other);
    assert_eq!(running.route("work", Some("key")), Some((other, Reason::Bound)));
}

#[test]
fn where_all_are_ejected_a_key_still_has_a_worker() {
    let mut running = Running::start(2, spec());
    running.ended(0, "work", Outcome::Failure, 1, 5);
    running.router.remove_worker("w1");
    assert_eq!(running.route("work", Some("key")), Some((id(0), Reason::Panic)));
    running.router.remove_worker("w0");
    assert_eq!(running.route("work", Some("key")), None);
}

#[test]
fn the_table_of_keys_is_bounded() {
    let mut running = Running::start(4, RouterSpec { sticky_limit: 50, ..spec() });
    for key in 0..10_000 {
        running.route("work", Some(&key.to_string()));
        // In use all the time, so it is spared.
        running.route("work", Some("0"));
    }
    assert_eq!(running.router.report(running.now).sticky_keys, 50);
    assert!(running.route("work", Some("0")).is_some_and(|(_, reason)| reason == Reason::Sticky));
    let mut running = Running::start(4, RouterSpec { sticky_limit: 0, ..spec() });
    let first = running.route("work", Some("key"));
    assert_eq!(running.route("work", Some("key")), first);
    assert_eq!(running.router.report(running.now).sticky_keys, 0);
}
