use super::super::key::Hashing;
use super::*;

type Runs = Flights<u32, &'static str, &'static str>;

struct Keys(Hashing);

impl Keys {
    fn get(&self, name: &str) -> Arc<Key> {
        Arc::new(self.0.key(name.as_bytes()).to_key())
    }
}

fn enter(flights: &Runs, key: &Arc<Key>, who: u32) -> Entered<&'static str, ()> {
    flights.enter(key, who, "payload", |_| true, || None, || "waiter")
}

fn leads(flights: &Runs, key: &Arc<Key>, who: u32) -> FlightId {
    match enter(flights, key, who) {
        Entered::Leads(id) => id,
        other => panic!("{other:?}"),
    }
}

fn waits(flights: &Runs, key: &Arc<Key>, who: u32) -> bool {
    matches!(enter(flights, key, who), Entered::Waits(_))
}

#[test]
fn one_leads_and_the_others_wait_until_it_lands() {
    let (flights, keys) = (Runs::new(10), Keys(Hashing::default()));
    let id = leads(&flights, &keys.get("a"), 1);
    assert!(waits(&flights, &keys.get("a"), 2));
    assert!(waits(&flights, &keys.get("a"), 3));
    leads(&flights, &keys.get("b"), 4);
    assert_eq!(flights.len(), (2, 2));
    let landed = flights.land(id).expect("under way");
    assert_eq!(landed.waiters.len(), 2);
    assert!(flights.land(id).is_none());
    assert_eq!(flights.len(), (1, 0));
    leads(&flights, &keys.get("a"), 2);
}

#[test]
fn a_result_that_has_landed_in_between_is_found() {
    let (flights, keys) = (Runs::new(10), Keys(Hashing::default()));
    let found = flights.enter(&keys.get("a"), 1, "payload", |_| true, || Some(7), || "waiter");
    assert!(matches!(found, Entered::Found(7)));
    assert!(flights.is_empty());
}

#[test]
fn a_run_that_was_invalidated_is_replaced_and_still_tells_those_who_wait() {
    let (flights, keys) = (Runs::new(10), Keys(Hashing::default()));
    let key = keys.get("a");
    let old = leads(&flights, &key, 1);
    assert!(waits(&flights, &key, 2));
    let entered = flights.enter(&key, 3, "payload", |_| false, || None::<()>, || "waiter");
    let Entered::Leads(new) = entered else { panic!("{entered:?}") };
    assert_eq!(flights.land(old).map(|landed| landed.waiters.len()), Some(1));
    // It has not taken the new one out of reach.
    assert!(waits(&flights, &key, 4));
    assert_eq!(flights.land(new).map(|landed| landed.waiters.len()), Some(1));
}

#[test]
fn waiting_in_a_circle_is_refused() {
    let (flights, keys) = (Runs::new(10), Keys(Hashing::default()));
    let (a, b, c) = (keys.get("a"), keys.get("b"), keys.get("c"));
    let circular = |key, who| matches!(enter(&flights, key, who), Entered::Circular(_));
    leads(&flights, &a, 1);
    assert!(circular(&a, 1));
    leads(&flights, &b, 2);
    let of_c = leads(&flights, &c, 3);
    assert!(waits(&flights, &b, 1));
    assert!(waits(&flights, &c, 2));
    assert!(circular(&a, 3));
    assert!(waits(&flights, &a, 4));
    flights.land(of_c);
    assert!(waits(&flights, &a, 3));
}

#[test]
fn a_chain_that_is_too_long_to_be_looked_through_is_not_joined() {
    let (flights, keys) = (Runs::new(2 * CHAIN), Keys(Hashing::default()));
    let key = |number: u32| keys.get(&number.to_string());
    let all = 0..=CHAIN as u32;
    for number in all.clone() {
        leads(&flights, &key(number), number);
    }
    // Each waits for the next.
    let mut in_turn = all.rev().skip(1);
    assert!(in_turn.all(|number| waits(&flights, &key(number + 1), number)));
    let other = CHAIN as u32 + 1;
    assert!(matches!(enter(&flights, &key(0), other), Entered::Crowded(_)));
    assert!(waits(&flights, &key(1), other));
}

#[test]
fn all_who_wait_are_told_however_many() {
    let (flights, keys) = (Runs::new(10 * BATCH), Keys(Hashing::default()));
    let key = keys.get("a");
    let id = leads(&flights, &key, 0);
    let callers = 1..=3 * BATCH as u32 + 1;
    assert!(callers.clone().all(|who| waits(&flights, &key, who)));
    assert_eq!(flights.waiting_for(0), callers.clone().count());
    assert_eq!(flights.land(id).map(|landed| landed.waiters.len()), Some(callers.count()));
    assert_eq!((flights.len(), flights.waiting_for(0)), ((0, 0), 0));
    assert!(flights.lock().leads.is_empty());
}

#[test]
fn no_more_wait_than_may() {
    let (flights, keys) = (Runs::new(2), Keys(Hashing::default()));
    let key = keys.get("a");
    let id = leads(&flights, &key, 1);
    assert!(waits(&flights, &key, 2));
    assert!(waits(&flights, &key, 3));
    assert!(matches!(enter(&flights, &key, 4), Entered::Crowded(_)));
    assert!(flights.leave(id, 3));
    assert!(!flights.leave(id, 3));
    assert!(waits(&flights, &key, 4));
}

#[test]
fn the_runs_of_one_that_died_end() {
    let (flights, keys) = (Runs::new(10), Keys(Hashing::default()));
    leads(&flights, &keys.get("a"), 1);
    leads(&flights, &keys.get("b"), 1);
    let other = leads(&flights, &keys.get("c"), 2);
    assert!(waits(&flights, &keys.get("a"), 3));
    let landed = flights.land_all_of(1);
    assert_eq!(landed.iter().map(|landed| landed.waiters.len()).sum::<usize>(), 1);
    assert_eq!(flights.len(), (1, 0));
    assert_eq!(flights.close(other), 0);
    leads(&flights, &keys.get("c"), 3);
    assert_eq!(flights.close_all().len(), 2);
    assert!(flights.is_empty());
    assert!(matches!(enter(&flights, &keys.get("d"), 1), Entered::Crowded(_)));
}
