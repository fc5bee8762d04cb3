//! Runs of functions that are under way, and who waits for them: one run for each key.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::hash::Hash;
use std::sync::{Arc, PoisonError};

#[cfg(loom)]
use loom::sync::{Mutex, MutexGuard};
#[cfg(not(loom))]
use std::sync::{Mutex, MutexGuard};

use super::key::{Key, Prehashed};

/// The identity of a run; never used twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct FlightId(u64);

impl FlightId {
    /// The number that stands for it elsewhere.
    pub fn get(self) -> u64 {
        self.0
    }
}

impl From<u64> for FlightId {
    fn from(number: u64) -> Self {
        Self(number)
    }
}

/// What a caller has to do.
#[derive(Debug)]
pub enum Entered<Cargo, Found> {
    /// There is a result by now.
    Found(Found),
    /// Run the function, and land.
    Leads(FlightId),
    /// Wait: who leads will tell.
    Waits(FlightId),
    /// Neither: the run waits for this caller, directly or through others.
    Circular(Cargo),
    /// Neither: too many wait, or no more runs are wanted.
    Crowded(Cargo),
}

/// A run that has ended.
pub struct Landed<Cargo, Waiter> {
    /// What the run was for.
    pub cargo: Cargo,
    /// Who waits for it.
    pub waiters: Vec<Waiter>,
}

/// Runs by key. `Who` is a caller, `Waiter` a way to tell it, and `Cargo` what a run is for.
///
/// Everything is done under one lock, and nothing is called under it that takes longer than to find
/// a result: a function that is worth caching takes a thousand times as long.
pub struct Flights<Who, Waiter, Cargo> {
    waiter_limit: usize,
    state: Mutex<State<Who, Waiter, Cargo>>,
}

struct State<Who, Waiter, Cargo> {
    next: u64,
    closed: bool,
    flights: HashMap<FlightId, Flight<Who, Waiter, Cargo>>,
    /// The run that callers with a key join. One that was invalidated is not here any more.
    open: HashMap<Arc<Key>, FlightId, Prehashed>,
    /// Which run a caller waits for.
    waits: HashMap<Who, FlightId>,
}

struct Flight<Who, Waiter, Cargo> {
    key: Arc<Key>,
    leader: Who,
    cargo: Cargo,
    waiters: Vec<(Who, Waiter)>,
}

impl<Who: Copy + Eq + Hash, Waiter, Cargo> Flights<Who, Waiter, Cargo> {
    /// No runs; at most `waiter_limit` callers will wait.
    pub fn new(waiter_limit: usize) -> Self {
        let state = State {
            next: 0,
            closed: false,
            flights: HashMap::new(),
            open: HashMap::default(),
            waits: HashMap::new(),
        };
        Self { waiter_limit, state: Mutex::new(state) }
    }

    /// A caller has found no result for `key`. `joinable` says whether the run that is under way may
    /// answer the caller, `find` looks for a result once more: one that has landed in between is there,
    /// since a run stores its result before it lands.
    pub fn enter<Found>(
        &self,
        key: &Arc<Key>,
        who: Who,
        cargo: Cargo,
        joinable: impl FnOnce(&Cargo) -> bool,
        find: impl FnOnce() -> Option<Found>,
        waiter: impl FnOnce() -> Waiter,
    ) -> Entered<Cargo, Found> {
        let mut guard = self.lock();
        let state = &mut *guard;
        if state.closed {
            return Entered::Crowded(cargo);
        }
        if let Some(&id) = state.open.get(key)
            && let Some(flight) = state.flights.get(&id)
            && joinable(&flight.cargo)
        {
            if state.waits_for(id, who) {
                return Entered::Circular(cargo);
            }
            if state.waits.len() >= self.waiter_limit {
                return Entered::Crowded(cargo);
            }
            if let Some(flight) = state.flights.get_mut(&id) {
                flight.waiters.push((who, waiter()));
                state.waits.insert(who, id);
            }
            return Entered::Waits(id);
        }
        if let Some(found) = find() {
            return Entered::Found(found);
        }
        state.next += 1;
        let id = FlightId(state.next);
        let flight = Flight { key: Arc::clone(key), leader: who, cargo, waiters: Vec::new() };
        state.flights.insert(id, flight);
        state.open.insert(Arc::clone(key), id);
        Entered::Leads(id)
    }

    /// What a run is for and how many wait for it; nothing if it has landed.
    pub fn look<R>(&self, id: FlightId, use_it: impl FnOnce(&Cargo, usize) -> R) -> Option<R> {
        self.lock().flights.get(&id).map(|flight| use_it(&flight.cargo, flight.waiters.len()))
    }

    /// Nobody joins a run any more; says how many wait for it.
    pub fn close(&self, id: FlightId) -> usize {
        let mut state = self.lock();
        let Some(flight) = state.flights.get(&id) else { return 0 };
        let (key, waiters) = (Arc::clone(&flight.key), flight.waiters.len());
        state.close(&key, id);
        waiters
    }

    /// Ends a run; nothing if it has ended before.
    pub fn land(&self, id: FlightId) -> Option<Landed<Cargo, Waiter>> {
        self.lock().land(id)
    }

    /// Ends all runs that a caller leads, which has died.
    pub fn land_all_of(&self, who: Who) -> Vec<Landed<Cargo, Waiter>> {
        let mut state = self.lock();
        state.land_where(|flight| flight.leader == who)
    }

    /// Ends all runs, and for good: from now on everybody is on their own.
    pub fn close_all(&self) -> Vec<Landed<Cargo, Waiter>> {
        let mut state = self.lock();
        state.closed = true;
        state.land_where(|_| true)
    }

    /// A caller waits no longer. Says whether it was still waiting: otherwise it is being told.
    pub fn leave(&self, id: FlightId, who: Who) -> bool {
        let mut state = self.lock();
        if state.waits.get(&who) != Some(&id) {
            return false;
        }
        state.waits.remove(&who);
        if let Some(flight) = state.flights.get_mut(&id) {
            flight.waiters.retain(|(waiting, _)| *waiting != who);
        }
        true
    }

    /// How many runs are under way, and how many callers wait for them.
    pub fn len(&self) -> (usize, usize) {
        let state = self.lock();
        (state.flights.len(), state.waits.len())
    }

    /// Whether no run is under way.
    pub fn is_empty(&self) -> bool {
        self.lock().flights.is_empty()
    }

    fn lock(&self) -> MutexGuard<'_, State<Who, Waiter, Cargo>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<Who: Copy + Eq + Hash, Waiter, Cargo> State<Who, Waiter, Cargo> {
    /// Whether a run cannot end before `who` does: its leader is `who`, or waits for a run of which
    /// the same holds. Nobody waits in a circle, so this ends.
    fn waits_for(&self, mut id: FlightId, who: Who) -> bool {
        while let Some(flight) = self.flights.get(&id) {
            if flight.leader == who {
                return true;
            }
            match self.waits.get(&flight.leader) {
                Some(&next) => id = next,
                None => return false,
            }
        }
        false
    }

    fn land(&mut self, id: FlightId) -> Option<Landed<Cargo, Waiter>> {
        let flight = self.flights.remove(&id)?;
        self.close(&flight.key, id);
        let told = |(who, waiter)| {
            self.waits.remove(&who);
            waiter
        };
        let waiters = flight.waiters.into_iter().map(told).collect();
        Some(Landed { cargo: flight.cargo, waiters })
    }

    fn land_where(
        &mut self,
        ends: impl Fn(&Flight<Who, Waiter, Cargo>) -> bool,
    ) -> Vec<Landed<Cargo, Waiter>> {
        let ending = self.flights.iter().filter(|(_, flight)| ends(flight));
        let ids: Vec<_> = ending.map(|(&id, _)| id).collect();
        ids.into_iter().filter_map(|id| self.land(id)).collect()
    }

    /// Takes a run out of reach, unless another has taken its place.
    fn close(&mut self, key: &Arc<Key>, id: FlightId) {
        if let Entry::Occupied(open) = self.open.entry(Arc::clone(key))
            && *open.get() == id
        {
            open.remove();
        }
    }
}

#[cfg(all(test, loom))]
mod loom_tests {
    use super::super::key::Hashing;
    use super::*;
    use loom::thread;

    /// Three look for a result, find none, and enter; who leads stores the result before it lands.
    #[test]
    fn the_function_is_run_once_whoever_comes_when() {
        let mut model = loom::model::Builder::new();
        model.preemption_bound = Some(3);
        model.check(|| {
            let flights: loom::sync::Arc<Flights<u32, (), ()>> =
                loom::sync::Arc::new(Flights::new(10));
            let kept = loom::sync::Arc::new(Mutex::new(None));
            let key = Arc::new(Hashing::default().key(b"key").to_key());
            let fetch = {
                let (flights, kept) = (flights.clone(), kept.clone());
                move |who: u32| {
                    let find = || *kept.lock().expect("no panic");
                    if find().is_some() {
                        return 0;
                    }
                    match flights.enter(&key, who, (), |()| true, find, || ()) {
                        Entered::Leads(flight) => {
                            *kept.lock().expect("no panic") = Some(who);
                            flights.land(flight);
                            1
                        }
                        Entered::Found(_) | Entered::Waits(_) => 0,
                        other => panic!("{other:?}"),
                    }
                }
            };
            let others: Vec<_> = (1..3)
                .map(|who| {
                    let fetch = fetch.clone();
                    thread::spawn(move || fetch(who))
                })
                .collect();
            let mine = fetch(0);
            let others = others.into_iter().map(|other| other.join().expect("no panic"));
            assert_eq!(mine + others.sum::<u32>(), 1);
            assert_eq!(flights.len(), (0, 0));
        });
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
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
        flights.enter(key, who, "cargo", |_| true, || None, || "waiter")
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
        let found = flights.enter(&keys.get("a"), 1, "cargo", |_| true, || Some(7), || "waiter");
        assert!(matches!(found, Entered::Found(7)));
        assert!(flights.is_empty());
    }

    #[test]
    fn a_run_that_was_invalidated_is_replaced_and_still_tells_those_who_wait() {
        let (flights, keys) = (Runs::new(10), Keys(Hashing::default()));
        let key = keys.get("a");
        let old = leads(&flights, &key, 1);
        assert!(waits(&flights, &key, 2));
        let entered = flights.enter(&key, 3, "cargo", |_| false, || None::<()>, || "waiter");
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
}
