//! The choice among workers.

use std::sync::Arc;

use fastrand::Rng;

use super::command::Command;
use super::pool::Members;
use super::reason::Reason;
use super::spec::RouterSpec;
use super::stamped::{HalfLife, Tick};
use super::worker::Worker;

/// Times in the units that decisions are made in.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rules {
    pub(crate) choices: usize,
    pub(crate) half_life: HalfLife,
    pub(crate) error_penalty: f32,
    pub(crate) exploration: u32,
    pub(crate) slow_start_ns: u64,
}

/// What is not known is taken for this long, in nanoseconds.
const UNKNOWN: f32 = 1e8;

/// How many times what is usual an answer may be expected to cost for no more workers to be compared:
/// one that is idle and as fast as most.
const GOOD_ENOUGH: f32 = 1.25;
/// With so many requests in flight at each of those compared, one more or less at another makes little
/// difference.
const MUCH: f32 = 8.0;

impl Rules {
    pub(crate) fn new(spec: &RouterSpec) -> Self {
        Self {
            choices: spec.choices.max(2),
            half_life: HalfLife::from_ns(spec.half_life_ms.saturating_mul(1_000_000)),
            error_penalty: spec.error_penalty.max(0.0),
            exploration: spec.exploration.min(1_000),
            slow_start_ns: spec.slow_start_ms.saturating_mul(1_000_000),
        }
    }
}

/// A request that is looking for a worker.
pub(crate) struct Chooser<'a> {
    pub(crate) rules: &'a Rules,
    pub(crate) members: &'a Members,
    pub(crate) command: Option<&'a Command>,
    /// How long the command usually takes, if that is known.
    pub(crate) usual: Option<f32>,
    pub(crate) now_ns: u64,
    pub(crate) now: Tick,
}

/// What a worker is judged by.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Score {
    /// What is expected of an answer, in nanoseconds.
    pub(crate) latency: f32,
    pub(crate) in_flight: f32,
    pub(crate) error_rate: f32,
    /// The least is the best.
    pub(crate) score: f32,
}

impl Chooser<'_> {
    fn usual(&self) -> f32 {
        self.usual.unwrap_or(UNKNOWN)
    }

    /// How long a worker will take for the command, in nanoseconds: what it took lately, or where that
    /// was never seen, what the command usually takes times how slow the worker usually is.
    #[inline]
    pub(crate) fn latency(&self, worker: &Worker) -> f32 {
        let (usual, now, half_life) = (self.usual(), self.now, self.rules.half_life);
        let own = self.command.and_then(|command| command.latency(worker.vitals().slot));
        own.and_then(|own| own.towards(usual, now, half_life)).unwrap_or_else(|| {
            let slowness = worker.vitals().slowness.towards(1.0, now, half_life);
            usual * slowness.unwrap_or(1.0)
        })
    }

    /// How long requests waited for a worker lately, in nanoseconds. Forgotten where none does.
    #[inline]
    pub(crate) fn queue_wait(&self, worker: &Worker) -> f32 {
        let wait = &worker.vitals().queue_wait;
        wait.towards(0.0, self.now, self.rules.half_life).unwrap_or(0.0)
    }

    #[inline]
    pub(crate) fn score(&self, worker: &Worker) -> Score {
        let (rules, vitals) = (self.rules, worker.vitals());
        let latency = self.latency(worker);
        let in_flight = vitals.load.in_flight(self.now);
        let error_rate = vitals.health.error_rate(self.now, rules.half_life);
        let warmth = vitals.health.warmth(self.now_ns, rules.slow_start_ns);
        let score = (latency * (in_flight + 1.0) + self.queue_wait(worker))
            * (1.0 + rules.error_penalty * error_rate)
            // From a half of its share to all of it.
            * (2.0 - warmth);
        Score { latency, in_flight, error_rate, score }
    }

    /// The worker for the request, unless there is none.
    #[inline]
    pub(crate) fn choose(&self, rng: &mut Rng) -> Option<(&Arc<Worker>, Reason)> {
        if rng.u32(..1_000) < self.rules.exploration
            && let Some(idle) = self.idle(rng)
        {
            return Some((idle, Reason::Explore));
        }
        let Best { worker, ejected, looks } = self.best(rng, false);
        if ejected * 2 > looks {
            return self.few_are_well(rng);
        }
        worker.map(|worker| (worker, Reason::Best))
    }

    /// A worker at random, if it has nothing to do.
    fn idle(&self, rng: &mut Rng) -> Option<&Arc<Worker>> {
        let worker = rng.choice(self.members.workers.iter())?;
        let vitals = worker.vitals();
        let idle = vitals.load.in_flight(self.now) < 1.0;
        (idle && !vitals.health.is_ejected(self.now_ns)).then_some(worker)
    }

    /// The best of a few workers: of two if that is good enough or there is much to do everywhere, else
    /// of more, up to all of them if there are no more than may be compared. It begins anywhere, so
    /// that equal ones are chosen equally often.
    #[inline]
    fn best(&self, rng: &mut Rng, with_ejected: bool) -> Best<'_> {
        let workers = &self.members.workers;
        let count = workers.len();
        let looks = count.min(self.rules.choices);
        let mut at = if count == 0 { 0 } else { rng.usize(..count) };
        let good_enough = self.usual() * GOOD_ENOUGH;
        let mut best: Option<(&Arc<Worker>, f32)> = None;
        let (mut ejected, mut compared, mut looked, mut least_busy) = (0, 0, 0, f32::INFINITY);
        while looked < looks {
            looked += 1;
            let worker = &workers[at];
            if !with_ejected && worker.vitals().health.is_ejected(self.now_ns) {
                ejected += 1;
            } else {
                let Score { score, in_flight, .. } = self.score(worker);
                compared += 1;
                least_busy = least_busy.min(in_flight);
                if best.is_none_or(|(_, least)| score < least) {
                    best = Some((worker, score));
                }
                let enough =
                    least_busy >= MUCH || best.is_some_and(|(_, least)| least <= good_enough);
                if compared >= 2 && enough {
                    break;
                }
            }
            at = if looks == count { at + 1 } else { rng.usize(..count) };
            if at == count {
                at = 0;
            }
        }
        Best { worker: best.map(|(worker, _)| worker), ejected, looks: looked }
    }

    /// Most of those that were compared are ejected: the best of all that are not or, if these are
    /// less than half of all, of all.
    #[cold]
    fn few_are_well(&self, rng: &mut Rng) -> Option<(&Arc<Worker>, Reason)> {
        let workers = &self.members.workers;
        let is_well = |worker: &&Arc<Worker>| !worker.vitals().health.is_ejected(self.now_ns);
        let well = workers.iter().filter(is_well);
        if well.clone().count() * 2 < workers.len() {
            return Some((self.best(rng, true).worker?, Reason::Panic));
        }
        let score = |worker: &Arc<Worker>| self.score(worker).score;
        let best = well.min_by(|one, other| score(one).total_cmp(&score(other)));
        Some((best?, Reason::Best))
    }
}

/// The best of those that were compared, how many of these were ejected, and how many there were.
struct Best<'a> {
    worker: Option<&'a Arc<Worker>>,
    ejected: usize,
    looks: usize,
}
