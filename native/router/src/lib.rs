//! Which worker a request should go to.
//!
//! A [`Router`] compares a few workers by what an answer of theirs is expected to take: the latency
//! that was measured, times what is in flight, times a penalty for failures. Deciding takes no lock
//! and allocates nothing. Time is an argument, in nanoseconds of a clock that never goes back, and so is
//! the [`Memory`] of the thread that decides, randomness included.
#![warn(missing_docs)]

mod choice;
mod command;
mod ejections;
mod estimate;
mod explanation;
mod health;
mod load;
mod memory;
mod outcome;
mod pool;
pub mod published;
mod reason;
mod record;
mod shared_cell;
mod slot;
mod spec;
mod stamped;
mod sticky;
mod tally;
mod ticket;
mod worker;

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use telemetry_common::lock::lock;

use choice::{Choice, Chooser, Rules};
use command::Command;
use ejections::Ejections;
use estimate::ErrorRate;
use pool::{Members, Pool};
use stamped::Tick;
use sticky::{Key, Sticky};
use worker::Worker;

#[cfg(doc)]
use telemetry_common::label;

pub use explanation::{Candidate, CommandExplanation, RouterReport, WorkerReport};
pub use memory::Memory;
pub use outcome::Outcome;
pub use pool::Change;
pub use reason::Reason;
pub use spec::{EjectionSpec, RouterSpec};
pub use tally::{Tally, WorkerTally};
pub use ticket::{Completion, Ticket};

/// A sample of more than so many times what is usual counts as that much: slow enough not to be asked,
/// and not so slow that a single stall is remembered for long.
const LONGEST: f32 = 10.0;

/// Who waited for less than so many nanoseconds has not waited.
const SHORT_WAIT: u64 = 10_000;

/// Routes requests to workers.
pub struct Router {
    spec: RouterSpec,
    rules: Rules,
    pool: Pool,
    sticky: Sticky,
    errors_of_all: ErrorRate,
    ejections: Ejections,
    /// Held by whoever ejects, so that no more are ejected than may be.
    ejecting: Mutex<()>,
    stopped: AtomicBool,
}

/// What a request is.
#[derive(Clone, Copy, Debug, Default)]
pub struct Request<'a> {
    /// What it is for: text, of which what is too long or no UTF-8 is treated as in
    /// [`label::normalise`].
    pub command: &'a [u8],
    /// Requests with the same key go to the same worker. Keys are cut as labels are.
    pub key: Option<&'a [u8]>,
}

impl Router {
    /// A router without workers.
    pub fn new(spec: RouterSpec) -> Self {
        Self {
            rules: Rules::new(&spec),
            pool: Pool::new(&spec),
            sticky: Sticky::new(spec.sticky_limit),
            errors_of_all: ErrorRate::default(),
            ejections: Ejections::default(),
            ejecting: Mutex::default(),
            stopped: AtomicBool::new(false),
            spec,
        }
    }

    /// A router that never has workers.
    pub fn off() -> Self {
        Self::new(RouterSpec::OFF)
    }

    /// Adds a worker, unless it is there. `false` if there is no room.
    pub fn add_worker(&self, id: &str, now_ns: u64) -> bool {
        !self.is_stopped() && self.pool.add(id, now_ns)
    }

    /// Takes a worker out. `false` if there was none.
    pub fn remove_worker(&self, id: &str) -> bool {
        self.pool.remove(id)
    }

    /// Makes these the workers. Those that were there stay as they are.
    pub fn put_workers<'a>(&self, ids: impl Iterator<Item = &'a str>, now_ns: u64) -> Change {
        if self.is_stopped() {
            return Change::default();
        }
        let change = self.pool.put(ids, now_ns);
        if change.removed > 0 {
            self.sticky.forget_gone();
        }
        change
    }

    /// Says that what a key names lives in a worker: requests with the key go there for as long as
    /// the worker is in the pool. `false` if it is not.
    pub fn bind(&self, key: &[u8], worker_id: &str) -> bool {
        let worker = self.pool.worker(worker_id);
        worker.is_some_and(|worker| {
            self.sticky.bind(Key::of(key), &worker);
            true
        })
    }

    /// Chooses a worker for a request whose end nobody may ever report, and tells its id, which is
    /// UTF-8. `None` if there are no workers.
    ///
    /// The request is presumed to be in flight for as long as such requests take.
    #[inline]
    pub fn route<R>(
        &self,
        request: Request<'_>,
        now_ns: u64,
        memory: &mut Memory,
        tell: impl FnOnce(&[u8], Reason) -> R,
    ) -> Option<R> {
        self.decide(request, now_ns, memory, |choice, _| {
            choice.worker.load.presume(Tick::at(now_ns), choice.latency, choice.presumed);
            tell(choice.worker.text(), choice.reason)
        })
    }

    /// Chooses a worker for a request whose end will be reported. `None` if there are no workers.
    pub fn checkout(
        self: &Arc<Self>,
        request: Request<'_>,
        now_ns: u64,
        memory: &mut Memory,
    ) -> Option<Ticket> {
        self.decide(request, now_ns, memory, |choice, command| {
            let worker = Arc::clone(choice.worker);
            Ticket::new(Arc::clone(self), worker, command.cloned(), now_ns)
        })
    }

    #[inline]
    fn decide<R>(
        &self,
        request: Request<'_>,
        now_ns: u64,
        memory: &mut Memory,
        then: impl FnOnce(&Choice<'_>, Option<&Arc<Command>>) -> R,
    ) -> Option<R> {
        memory.refresh(&self.pool);
        let Memory { view, looks } = memory;
        let lane = view.lane;
        let (members, command) = view.command(request.command, &self.pool);
        let chooser = self.chooser(members, command, now_ns);
        let by_key;
        let choice = match request.key {
            None => chooser.choose(looks)?,
            Some(key) => {
                by_key = self.by_key(members, Key::of(key), now_ns)?;
                let (worker, reason) = &by_key;
                let (latency, presumed) =
                    (chooser.latency(worker), worker.load.presumed(chooser.now));
                Choice { worker, latency, presumed, reason: *reason }
            }
        };
        // First what waits for all earlier stores: the other is to a line that may be far away.
        if !choice.worker.decided(choice.reason) {
            self.pool.take_counts(choice.worker);
        }
        if let Some(command) = command {
            command.decided(choice.worker, lane);
        }
        let result = then(&choice, command);
        looks.draw(members, self.rules.choices);
        Some(result)
    }

    #[inline]
    fn chooser<'a>(
        &'a self,
        members: &'a Members,
        command: Option<&'a Arc<Command>>,
        now_ns: u64,
    ) -> Chooser<'a> {
        let now = Tick::at(now_ns);
        let usual = command.and_then(|command| command.usual.get(now, self.rules.half_life));
        Chooser {
            rules: &self.rules,
            members,
            ejections: &self.ejections,
            command: command.map(|command| &**command),
            usual: usual.map(|(usual, _)| usual),
            now_ns,
            now,
        }
    }

    /// The worker of a key: the one that it had while that is well, else the one that its hash
    /// prefers among those that are. What is bound stays where it is.
    fn by_key(&self, members: &Members, key: Key, now_ns: u64) -> Option<(Arc<Worker>, Reason)> {
        let is_well = |worker: &Worker| !worker.health.is_ejected(now_ns);
        match self.sticky.get(key) {
            Some((worker, true)) => return Some((worker, Reason::Bound)),
            Some((worker, false)) if is_well(&worker) => return Some((worker, Reason::Sticky)),
            _ => {}
        }
        let workers = members.workers.iter();
        let preferred = key
            .preferred(workers.clone().filter(|worker| is_well(worker)))
            .map(|worker| (worker, Reason::Rendezvous))
            .or_else(|| key.preferred(workers).map(|worker| (worker, Reason::Panic)));
        let (worker, reason) = preferred?;
        Some(match self.sticky.assign(key, worker) {
            Some(bound) => (bound, Reason::Bound),
            None => (Arc::clone(worker), reason),
        })
    }

    /// A request of a worker is over that may not have been routed by ticket, such as one that only
    /// an event tells of. One of a worker that has requests by ticket and none besides is taken for
    /// one of those, which counts when its ticket is completed.
    pub fn completed(
        &self,
        command: &str,
        worker_id: &str,
        outcome: Outcome,
        duration_ns: u64,
        now_ns: u64,
    ) {
        let Some(worker) = self.pool.worker(worker_id) else {
            return;
        };
        let command = self.command(command);
        let load = &worker.load;
        let was_presumed = load.end_presumed(Tick::at(now_ns));
        if was_presumed || load.tickets() == 0 {
            self.learn(&worker, command.as_deref(), outcome, duration_ns, now_ns);
        }
    }

    /// A request has waited for a worker in a queue.
    pub fn waited(&self, worker_id: &str, wait_ns: u64, now_ns: u64) {
        if let Some(worker) = self.pool.worker(worker_id) {
            worker.queue_wait.observe(wait_ns as f32, Tick::at(now_ns), self.rules.half_life);
            if wait_ns >= SHORT_WAIT {
                worker.not_plain_before(now_ns.saturating_add(self.rules.faded_ns));
            }
        }
    }

    fn command(&self, name: &str) -> Option<Arc<Command>> {
        let known = self.pool.members().commands.get(name).cloned();
        known.or_else(|| self.pool.add_command(name))
    }

    /// Learns from a request that is over.
    pub(crate) fn learn(
        &self,
        worker: &Worker,
        command: Option<&Command>,
        outcome: Outcome,
        duration_ns: u64,
        now_ns: u64,
    ) {
        let (now, half_life) = (Tick::at(now_ns), self.rules.half_life);
        let duration = duration_ns as f32;
        let (own, counts) = command.and_then(|command| command.of(worker)).unzip();
        let usual = command.and_then(|command| command.usual.get(now, half_life));
        let usual = usual.map(|(usual, _)| usual);
        // What was expected of it: what is no success may be slower than that, but is not fast.
        let expected = own.and_then(|own| own.get(now, half_life)).map(|(own, _)| own);
        let sample = match (outcome, expected.or(usual)) {
            (Outcome::Success, _) => Some(duration),
            (_, Some(expected)) => Some(duration).filter(|duration| *duration > expected),
            (_, None) => None,
        };
        if let Some(sample) = sample {
            let sample = usual.map_or(sample, |usual| sample.min(usual * LONGEST));
            if let Some(own) = own {
                own.observe(sample, now, half_life);
            }
            if let Some(usual) = usual {
                worker.slowness.observe(sample / usual, now, half_life);
            }
            if let Some(command) = command {
                command.usual.observe(sample, now, half_life);
            }
        }
        let health = &worker.health;
        let count = |counter: Option<&AtomicU64>| {
            if let Some(counter) = counter {
                counter.fetch_add(1, Relaxed);
            }
        };
        match outcome {
            Outcome::Success => {
                count(counts.map(|counts| &counts.successes));
                health.succeeded(now, half_life);
                health.forgive(now_ns);
                self.errors_of_all.observe_of_all(false, now, half_life);
            }
            Outcome::Failure => {
                count(counts.map(|counts| &counts.failures));
                health.failed(now, half_life);
                worker.not_plain_before(now_ns.saturating_add(self.rules.faded_ns));
                self.errors_of_all.observe_of_all(true, now, half_life);
                self.eject_if_outlier(worker, now_ns);
            }
            Outcome::Unknown => {}
        }
    }

    #[cold]
    fn eject_if_outlier(&self, worker: &Worker, now_ns: u64) {
        let (spec, now) = (&self.spec.ejection, Tick::at(now_ns));
        let health = &worker.health;
        let rate = health.error_rate(now, self.rules.half_life);
        let rate_of_all = self.errors_of_all.get(now, self.rules.half_life);
        if health.is_ejected(now_ns) || !health.is_outlier(spec, rate, rate_of_all) {
            return;
        }
        let _ejecting = lock(&self.ejecting);
        let members = self.pool.members();
        let is_ejected = |worker: &&Arc<Worker>| worker.health.is_ejected(now_ns);
        let ejected = members.workers.iter().filter(is_ejected).count();
        let allowed = members.workers.len() as f32 * spec.share.clamp(0.0, 0.5);
        if !health.is_ejected(now_ns) && ejected < allowed as usize {
            let until = health.eject(now_ns, spec, self.rules.slow_start_ns);
            worker.not_plain_before(until.saturating_add(self.rules.slow_start_ns));
            self.ejections.add(until);
        }
    }

    /// Forgets what was measured and counted, ejections and keys that are not bound included.
    /// Workers and what is in flight stay.
    pub fn reset(&self) {
        self.pool.reset();
        self.sticky.forget_unbound();
        self.errors_of_all.clear();
        self.ejections.clear();
    }

    /// Takes out all workers; nothing is routed any more.
    pub fn stop(&self) {
        self.stopped.store(true, Relaxed);
        self.pool.clear();
        self.sticky.clear();
    }

    /// Whether it was stopped.
    pub fn is_stopped(&self) -> bool {
        self.stopped.load(Relaxed)
    }

    /// Bytes allocated for workers, commands and keys, by how many there are: free room in tables is not
    /// told.
    pub fn memory_bytes(&self) -> usize {
        self.pool.memory_bytes() + self.sticky.memory_bytes()
    }
}
