//! The choice among workers.

use std::sync::Arc;

use super::command::{Command, Lane};
use super::ejections::Ejections;
use super::memory::{Census, Looks, next};
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
    /// Out of 65,536.
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
            exploration: (spec.exploration.min(1_000) << 16).div_ceil(1_000),
            slow_start_ns: spec.slow_start_ms.saturating_mul(1_000_000),
        }
    }
}

/// A request that is looking for a worker.
pub(crate) struct Chooser<'a> {
    pub(crate) rules: &'a Rules,
    pub(crate) members: &'a Members,
    pub(crate) ejections: &'a Ejections,
    pub(crate) command: Option<&'a Command>,
    /// Where the thread counts decisions.
    pub(crate) lane: Lane,
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
        let own = self.command.and_then(|command| command.latency(worker.slot));
        own.and_then(|own| own.towards(usual, now, half_life)).unwrap_or_else(|| {
            let slowness = worker.slowness.towards(1.0, now, half_life);
            usual * slowness.unwrap_or(1.0)
        })
    }

    /// How long requests waited for a worker lately, in nanoseconds. Forgotten where none does.
    #[inline]
    pub(crate) fn queue_wait(&self, worker: &Worker) -> f32 {
        let wait = &worker.queue_wait;
        wait.towards(0.0, self.now, self.rules.half_life).unwrap_or(0.0)
    }

    #[inline]
    pub(crate) fn score(&self, worker: &Worker) -> Score {
        let rules = self.rules;
        let latency = self.latency(worker);
        let in_flight = worker.load.in_flight(self.now);
        let error_rate = worker.health.error_rate(self.now, rules.half_life);
        let warmth = worker.health.warmth(self.now_ns, rules.slow_start_ns);
        let score = (latency * (in_flight + 1.0) + self.queue_wait(worker))
            * (1.0 + rules.error_penalty * error_rate)
            // From a half of its share to all of it.
            * (2.0 - warmth);
        Score { latency, in_flight, error_rate, score }
    }

    /// The worker for the request, unless there is none.
    #[inline]
    pub(crate) fn choose(&self, looks: &mut Looks) -> Option<Choice<'_>> {
        let any_ejected = self.ejections.any(self.now_ns);
        if any_ejected && self.most_are_ejected(looks) {
            let (worker, latency) = self.best(looks, |_| true)?;
            return Some(Choice { worker, latency, reason: Reason::Panic });
        }
        let is_well = |worker: &Worker| !any_ejected || !worker.health.is_ejected(self.now_ns);
        if looks.chance < self.rules.exploration
            && let Some(worker) = self.idle(looks, is_well)
        {
            let latency = self.latency(worker);
            return Some(Choice { worker, latency, reason: Reason::Explore });
        }
        let best = self.best(looks, is_well).or_else(|| self.best_of_all(is_well));
        best.map(|(worker, latency)| Choice { worker, latency, reason: Reason::Best })
    }

    /// A worker at random, if it has nothing to do.
    #[cold]
    fn idle(&self, looks: &mut Looks, is_well: impl Fn(&Worker) -> bool) -> Option<&Arc<Worker>> {
        let worker = looks.rng.choice(self.members.workers.iter())?;
        (worker.load.in_flight(self.now) < 1.0 && is_well(worker)).then_some(worker)
    }

    /// The best of those that may be compared, and how long it will take.
    #[inline]
    fn best(
        &self,
        looks: &mut Looks,
        is_well: impl Fn(&Worker) -> bool,
    ) -> Option<(&Arc<Worker>, f32)> {
        let (at, latency) = if self.members.workers.len() <= self.rules.choices {
            self.best_in_turn(looks, is_well).map(|(at, score)| (at, score.latency))
        } else {
            self.best_of_some(looks, is_well)
        }?;
        Some((&self.members.workers[at as usize], latency))
    }

    /// Of few workers: they are looked at in turn from anywhere on, until two have been compared and
    /// that is enough.
    #[inline]
    fn best_in_turn(
        &self,
        looks: &Looks,
        is_well: impl Fn(&Worker) -> bool,
    ) -> Option<(u32, Score)> {
        let workers = &self.members.workers;
        let mut compared = Compared::new(self.usual() * GOOD_ENOUGH);
        let [mut at, _] = looks.drawn();
        for _ in 0..workers.len() {
            let worker = workers.get(at as usize)?;
            if is_well(worker) {
                compared.add(at, self.score(worker));
                if compared.is_enough() {
                    break;
                }
            }
            at = next(at, workers.len());
        }
        compared.best
    }

    /// Of many: one that was drawn and the one that is remembered if that is enough, else another that was
    /// drawn too.
    #[inline]
    fn best_of_some(
        &self,
        looks: &mut Looks,
        is_well: impl Fn(&Worker) -> bool,
    ) -> Option<(u32, f32)> {
        let good_enough = self.usual() * GOOD_ENOUGH;
        let [first, second] = looks.drawn();
        let kept = looks.kept.filter(|kept| *kept != first).unwrap_or(second);
        self.prefetch(first);
        self.prefetch(kept);
        let one = self.look(first, &is_well);
        let other = if kept == first { Look::NOBODY } else { self.look(kept, &is_well) };
        let least_busy = one.in_flight.min(other.in_flight);
        let (mut best, mut next) = one.in_order(other);
        let is_enough = next.is_somebody() && (least_busy >= MUCH || best.score <= good_enough);
        if !is_enough && second != first && second != kept {
            let (better, worse) = best.in_order(self.look(second, &is_well));
            (next, _) = next.in_order(worse);
            best = better;
        }
        best.is_somebody().then(|| {
            // Once the best has got the request, its score is another.
            let then = best.score * (best.in_flight + 2.0) / (best.in_flight + 1.0);
            looks.kept = Some(if next.score < then { next.at } else { best.at });
            (best.at, best.latency)
        })
    }

    /// Asks for what a decision reads and writes of the command at a worker.
    #[inline]
    fn prefetch(&self, at: u32) {
        if let (Some(command), Some(worker)) = (self.command, self.members.workers.get(at as usize))
        {
            command.prefetch(worker.slot, self.lane);
        }
    }

    /// A look at a worker.
    #[inline]
    fn look(&self, at: u32, is_well: &impl Fn(&Worker) -> bool) -> Look {
        let worker = self.members.workers.get(at as usize).filter(|worker| is_well(worker));
        worker.map_or(Look::NOBODY, |worker| {
            let Score { latency, in_flight, score, .. } = self.score(worker);
            Look { at, latency, in_flight, score }
        })
    }

    /// The best of all, where none of those that were compared is well.
    #[cold]
    fn best_of_all(&self, is_well: impl Fn(&Worker) -> bool) -> Option<(&Arc<Worker>, f32)> {
        let well = self.members.workers.iter().filter(|worker| is_well(worker));
        let scored = well.map(|worker| (worker, self.score(worker)));
        let best = scored.min_by(|(_, one), (_, other)| one.score.total_cmp(&other.score));
        best.map(|(worker, score)| (worker, score.latency))
    }

    /// Whether more than half of all workers are ejected. They are counted after every ejection, and
    /// from time to time, since ejections end: so seldom that it costs next to nothing.
    #[cold]
    fn most_are_ejected(&self, looks: &mut Looks) -> bool {
        const NS_PER_WORKER: u64 = 1_000;
        let epoch = self.ejections.epoch();
        let last = looks
            .last_census
            .filter(|census| census.epoch == epoch && self.now_ns < census.until_ns);
        if let Some(census) = last {
            return census.most_are_ejected;
        }
        let workers = &self.members.workers;
        let is_ejected = |worker: &&Arc<Worker>| worker.health.is_ejected(self.now_ns);
        let most_are_ejected = workers.iter().filter(is_ejected).count() * 2 > workers.len();
        let until_ns = self.now_ns + workers.len() as u64 * NS_PER_WORKER;
        looks.last_census = Some(Census { epoch, until_ns, most_are_ejected });
        most_are_ejected
    }
}

/// A worker for a request.
pub(crate) struct Choice<'a> {
    pub(crate) worker: &'a Arc<Worker>,
    /// How long it is expected to take, in nanoseconds.
    pub(crate) latency: f32,
    pub(crate) reason: Reason,
}

/// What was found among those that were compared.
struct Compared {
    /// Where the best one is.
    best: Option<(u32, Score)>,
    count: u32,
    least_busy: f32,
    good_enough: f32,
}

impl Compared {
    #[inline]
    fn new(good_enough: f32) -> Self {
        Self { best: None, count: 0, least_busy: f32::INFINITY, good_enough }
    }

    #[inline]
    fn add(&mut self, at: u32, score: Score) {
        self.count += 1;
        self.least_busy = self.least_busy.min(score.in_flight);
        if self.best.is_none_or(|(_, best)| score.score < best.score) {
            self.best = Some((at, score));
        }
    }

    /// Whether there is no need to compare more.
    #[inline]
    fn is_enough(&self) -> bool {
        self.count >= 2
            && (self.least_busy >= MUCH
                || self.best.is_some_and(|(_, best)| best.score <= self.good_enough))
    }
}

/// What a look at a worker has shown.
#[derive(Clone, Copy)]
struct Look {
    /// Where it is in the list.
    at: u32,
    latency: f32,
    in_flight: f32,
    score: f32,
}

impl Look {
    /// Worse than everybody.
    const NOBODY: Self =
        Self { at: u32::MAX, latency: UNKNOWN, in_flight: f32::INFINITY, score: f32::INFINITY };

    #[inline]
    fn is_somebody(self) -> bool {
        self.at != Self::NOBODY.at
    }

    /// The better one, and the other.
    #[inline]
    fn in_order(self, other: Self) -> (Self, Self) {
        if other.score < self.score { (other, self) } else { (self, other) }
    }
}
