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
pub enum Entered<Payload, Found> {
    /// There is a result by now.
    Found(Found),
    /// Run the function, and land.
    Leads(FlightId),
    /// Wait: who leads will tell.
    Waits(FlightId),
    /// Neither: the run waits for this caller, directly or through others.
    Circular(Payload),
    /// Neither: too many wait, or no more runs are wanted.
    Crowded(Payload),
}

/// A run that has ended.
pub struct Landed<Payload, Waiter> {
    /// What the run was for.
    pub payload: Payload,
    /// Who waits for it.
    pub waiters: Vec<Waiter>,
}

/// Runs by key. `Who` is a caller, `Waiter` a way to tell it, and `Payload` what a run is for.
///
/// Everything is done under one lock, and nothing is called under it that takes longer than to find
/// a result: a function that is worth caching takes a thousand times as long. It is held for a bounded time,
/// since callers on a scheduler wait for it.
pub struct Flights<Who, Waiter, Payload> {
    waiter_limit: usize,
    state: Mutex<State<Who, Waiter, Payload>>,
}

struct State<Who, Waiter, Payload> {
    next: u64,
    closed: bool,
    flights: HashMap<FlightId, Flight<Who, Waiter, Payload>>,
    /// The run that callers with a key join. One that was invalidated is not here any more.
    open: HashMap<Arc<Key>, FlightId, Prehashed>,
    /// Which run a caller waits for.
    waits: HashMap<Who, FlightId>,
    /// Which runs a caller leads.
    leads: HashMap<Who, Vec<FlightId>>,
}

/// How many waiters are taken out at once under the lock.
const BATCH: usize = 256;

/// Through how many runs a caller that waits for itself is found. Longer chains are not looked through, and
/// nobody joins them.
const CHAIN: usize = 1_000;

/// Whom a run waits for.
#[derive(PartialEq, Eq)]
enum Chain {
    Others,
    TheCaller,
    TooMany,
}

struct Flight<Who, Waiter, Payload> {
    key: Arc<Key>,
    leader: Who,
    payload: Payload,
    waiters: Vec<(Who, Waiter)>,
}

impl<Who: Copy + Eq + Hash, Waiter, Payload> Flights<Who, Waiter, Payload> {
    /// No runs; at most `waiter_limit` callers will wait.
    pub fn new(waiter_limit: usize) -> Self {
        let state = State {
            next: 0,
            closed: false,
            flights: HashMap::new(),
            open: HashMap::default(),
            waits: HashMap::new(),
            leads: HashMap::new(),
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
        payload: Payload,
        joinable: impl FnOnce(&Payload) -> bool,
        find: impl FnOnce() -> Option<Found>,
        waiter: impl FnOnce() -> Waiter,
    ) -> Entered<Payload, Found> {
        let mut guard = self.lock();
        let state = &mut *guard;
        if state.closed {
            return Entered::Crowded(payload);
        }
        if let Some(&id) = state.open.get(key)
            && let Some(flight) = state.flights.get(&id)
            && joinable(&flight.payload)
        {
            match state.chain(id, who) {
                Chain::TheCaller => return Entered::Circular(payload),
                Chain::Others if state.waits.len() < self.waiter_limit => {}
                Chain::Others | Chain::TooMany => return Entered::Crowded(payload),
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
        let flight = Flight { key: Arc::clone(key), leader: who, payload, waiters: Vec::new() };
        state.flights.insert(id, flight);
        state.open.insert(Arc::clone(key), id);
        state.leads.entry(who).or_default().push(id);
        Entered::Leads(id)
    }

    /// What a run is for and how many wait for it; nothing if it has landed.
    pub fn look<R>(&self, id: FlightId, use_it: impl FnOnce(&Payload, usize) -> R) -> Option<R> {
        self.lock().flights.get(&id).map(|flight| use_it(&flight.payload, flight.waiters.len()))
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
    pub fn land(&self, id: FlightId) -> Option<Landed<Payload, Waiter>> {
        let flight = self.lock().take(id)?;
        let mut waiting = flight.waiters.into_iter();
        let mut waiters = Vec::with_capacity(waiting.len());
        while waiting.len() > 0 {
            let mut state = self.lock();
            // Who has left meanwhile is told nothing.
            let told = waiting.by_ref().take(BATCH).filter(|(who, _)| state.leave(id, *who));
            waiters.extend(told.map(|(_, waiter)| waiter));
        }
        Some(Landed { payload: flight.payload, waiters })
    }

    /// How many wait for the runs that a caller leads.
    pub fn waiting_for(&self, who: Who) -> usize {
        let state = self.lock();
        let led = state.leads.get(&who).into_iter().flatten();
        led.filter_map(|id| state.flights.get(id)).map(|flight| flight.waiters.len()).sum()
    }

    /// Ends all runs that a caller leads, which has died.
    pub fn land_all_of(&self, who: Who) -> Vec<Landed<Payload, Waiter>> {
        let led = self.lock().leads.get(&who).cloned().unwrap_or_default();
        led.into_iter().filter_map(|id| self.land(id)).collect()
    }

    /// Ends all runs, and for good: from now on everybody is on their own.
    pub fn close_all(&self) -> Vec<Landed<Payload, Waiter>> {
        let mut state = self.lock();
        state.closed = true;
        let all: Vec<_> = state.flights.keys().copied().collect();
        drop(state);
        all.into_iter().filter_map(|id| self.land(id)).collect()
    }

    /// A caller waits no longer. Says whether it was still waiting: otherwise it is being told.
    pub fn leave(&self, id: FlightId, who: Who) -> bool {
        let mut state = self.lock();
        if !state.leave(id, who) {
            return false;
        }
        if let Some(Flight { waiters, .. }) = state.flights.get_mut(&id)
            && let Some(at) = waiters.iter().position(|(waiting, _)| *waiting == who)
        {
            waiters.swap_remove(at);
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

    fn lock(&self) -> MutexGuard<'_, State<Who, Waiter, Payload>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<Who: Copy + Eq + Hash, Waiter, Payload> State<Who, Waiter, Payload> {
    /// Whether a run cannot end before `who` does: its leader is `who`, or waits for a run of which
    /// the same holds.
    fn chain(&self, mut id: FlightId, who: Who) -> Chain {
        for _ in 0..CHAIN {
            let Some(flight) = self.flights.get(&id) else { return Chain::Others };
            if flight.leader == who {
                return Chain::TheCaller;
            }
            match self.waits.get(&flight.leader) {
                Some(&next) => id = next,
                None => return Chain::Others,
            }
        }
        Chain::TooMany
    }

    /// Takes a run out. Those who wait are still known to do so.
    fn take(&mut self, id: FlightId) -> Option<Flight<Who, Waiter, Payload>> {
        let flight = self.flights.remove(&id)?;
        self.close(&flight.key, id);
        if let Entry::Occupied(mut led) = self.leads.entry(flight.leader) {
            led.get_mut().retain(|other| *other != id);
            if led.get().is_empty() {
                led.remove();
            }
        }
        Some(flight)
    }

    /// A caller does not wait for a run any more. Says whether it did until now.
    fn leave(&mut self, id: FlightId, who: Who) -> bool {
        let waits = self.waits.get(&who) == Some(&id);
        if waits {
            self.waits.remove(&who);
        }
        waits
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
mod loom_tests;

#[cfg(all(test, loom))]
mod loom_tests_of_landing;

#[cfg(all(test, not(loom)))]
mod tests;
