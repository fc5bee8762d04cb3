//! The choice among workers.

use std::sync::Arc;

use super::command::Command;
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
    /// After how long nothing is left of what was measured.
    pub(crate) faded_ns: u64,
}

/// What is not known is taken for this long, in nanoseconds.
const UNKNOWN: f32 = 1e8;

/// How many times what is usual an answer may be expected to cost for no more workers to be compared:
/// one that is idle and as fast as most.
const GOOD_ENOUGH: f32 = 1.25;
/// With so many requests in flight at each of those compared, one more or less at another makes little
/// difference.
const MUCH: f32 = 4.0;

impl Rules {
    pub(crate) fn new(spec: &RouterSpec) -> Self {
        let half_life_ns = spec.half_life_ms.saturating_mul(1_000_000);
        Self {
            choices: spec.choices.max(2),
            half_life: HalfLife::from_ns(half_life_ns),
            // A millionth.
            faded_ns: half_life_ns.saturating_mul(20),
            error_penalty: spec.error_penalty.max(0.0),
            exploration: (spec.exploration.min(1_000) << 16).div_ceil(1_000),
            slow_start_ns: spec.slow_start_ns(),
        }
    }
}

/// A request that is looking for a worker.
pub(crate) struct Chooser<'a> {
    pub(crate) rules: &'a Rules,
    pub(crate) members: &'a Members,
    pub(crate) ejections: &'a Ejections,
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
    /// Requests that are presumed to be in flight.
    pub(crate) presumed: f32,
    /// All that are in flight.
    pub(crate) in_flight: f32,
    /// The least is the best.
    pub(crate) score: f32,
}

impl Chooser<'_> {
    fn usual(&self) -> f32 {
        self.usual.unwrap_or(UNKNOWN)
    }

    /// How long a worker will take for the command, in nanoseconds: what it took lately, or where that
    /// was never seen, what the command usually takes times how slow the worker usually is.
    #[inline(always)]
    pub(crate) fn latency(&self, worker: &Worker) -> f32 {
        let own = self.command.and_then(|command| command.latency(worker));
        let own = own.and_then(|own| own.towards(self.usual(), self.now, self.rules.half_life));
        own.unwrap_or_else(|| self.latency_by_slowness(worker))
    }

    #[cold]
    #[inline(never)]
    fn latency_by_slowness(&self, worker: &Worker) -> f32 {
        let slowness = worker.slowness.towards(1.0, self.now, self.rules.half_life);
        self.usual() * slowness.unwrap_or(1.0)
    }

    /// How long requests waited for a worker lately, in nanoseconds. Forgotten where none does.
    pub(crate) fn queue_wait(&self, worker: &Worker) -> f32 {
        let wait = &worker.queue_wait;
        wait.towards(0.0, self.now, self.rules.half_life).unwrap_or(0.0)
    }

    /// How a worker is judged.
    #[inline(always)]
    pub(crate) fn score(&self, worker: &Worker) -> Score {
        let latency = self.latency(worker);
        let presumed = worker.load.presumed(self.now);
        let in_flight = worker.load.tickets() as f32 + presumed;
        let score = latency * (in_flight + 1.0);
        let score =
            if worker.is_plain(self.now_ns) { score } else { self.look_closer(worker, score) };
        Score { latency, presumed, in_flight, score }
    }

    /// What becomes of a score by what counts beside latency and load.
    #[inline(never)]
    fn look_closer(&self, worker: &Worker, score: f32) -> f32 {
        let rules = self.rules;
        let error_rate = worker.health.error_rate(self.now, rules.half_life);
        let warmth = worker.health.warmth(self.now_ns, rules.slow_start_ns);
        (score + self.queue_wait(worker))
            * (1.0 + rules.error_penalty * error_rate)
            // From a half of its share to all of it.
            * (2.0 - warmth)
    }

    /// The worker for the request, unless there is none.
    #[inline]
    pub(crate) fn choose(&self, looks: &mut Looks) -> Option<Choice<'_>> {
        let may_be_ejected = self.ejections.any(self.now_ns);
        if may_be_ejected || looks.chance < self.rules.exploration {
            self.choose_with_care(looks, may_be_ejected)
        } else {
            self.best(looks, Among::All).choice(self.members, Reason::Best)
        }
    }

    /// Where a worker may be ejected, or one is to be chosen at random.
    #[cold]
    fn choose_with_care(&self, looks: &mut Looks, may_be_ejected: bool) -> Option<Choice<'_>> {
        if may_be_ejected && self.most_are_ejected(looks) {
            return self.best(looks, Among::All).choice(self.members, Reason::Panic);
        }
        if looks.chance < self.rules.exploration
            && let Some(idle) = self.idle(looks)
        {
            return idle.choice(self.members, Reason::Explore);
        }
        let best = self.best(looks, Among::Well);
        let best = if best.is_somebody() { best } else { self.best_of_all() };
        best.choice(self.members, Reason::Best)
    }

    /// A worker at random, if it has nothing to do.
    fn idle(&self, looks: &mut Looks) -> Option<Look> {
        let count = self.members.workers.len() as u32;
        let at = if count > 0 { looks.rng.u32(..count) } else { 0 };
        let look = self.look(at, Among::Well);
        (look.score.in_flight < 1.0).then_some(look)
    }

    /// The best of those that may be compared. Of few workers: they are looked at in turn from
    /// anywhere on, until two have been compared and that is enough. Of many: one that was drawn and the
    /// one that is remembered, and another that was drawn if that is not enough.
    ///
    /// Inlined, so that what the two looks show stays in registers: on their way through memory it would
    /// be waited for.
    #[inline(always)]
    fn best(&self, looks: &mut Looks, among: Among) -> Look {
        let is_in_turn = self.members.workers.len() <= self.rules.choices;
        let [first, second] = looks.drawn();
        let other = match looks.kept {
            Some(kept) if !is_in_turn && kept != first => kept,
            _ => second,
        };
        let one = self.look_here(first, among);
        let two = if other == first { Look::NOBODY } else { self.look_here(other, among) };
        let (mut best, mut next) = one.in_order(two);
        let least_busy = one.score.in_flight.min(two.score.in_flight);
        let is_enough = next.is_somebody() && self.is_enough(best, least_busy);
        if is_in_turn {
            if !is_enough {
                best = self.best_in_turn(second, [best, next], least_busy, among);
            }
        } else {
            if !is_enough {
                [best, next] = self.best_with(second, [best, next], among);
            }
            looks.kept = best.better_then(next);
        }
        best
    }

    /// Whether no more need to be compared.
    #[inline(always)]
    fn is_enough(&self, best: Look, least_busy: f32) -> bool {
        least_busy >= MUCH || best.score.score <= self.usual() * GOOD_ENOUGH
    }

    /// The best where two workers have been looked at and more are to be, those after `at`.
    #[inline(never)]
    fn best_in_turn(
        &self,
        mut at: u32,
        [mut best, second]: [Look; 2],
        mut least_busy: f32,
        among: Among,
    ) -> Look {
        let count = self.members.workers.len();
        let mut compared = u32::from(best.is_somebody()) + u32::from(second.is_somebody());
        for _ in 2..count {
            at = next(at, count);
            let look = self.look(at, among);
            compared += u32::from(look.is_somebody());
            least_busy = least_busy.min(look.score.in_flight);
            (best, _) = best.in_order(look);
            if compared >= 2 && self.is_enough(best, least_busy) {
                break;
            }
        }
        best
    }

    /// The best and the next where two workers have been looked at and another is to be.
    #[inline(never)]
    fn best_with(&self, at: u32, [best, next]: [Look; 2], among: Among) -> [Look; 2] {
        if at == best.at || at == next.at {
            return [best, next];
        }
        let (best, worse) = best.in_order(self.look_here(at, among));
        [best, next.in_order(worse).0]
    }

    /// A look at a worker.
    #[inline(never)]
    fn look(&self, at: u32, among: Among) -> Look {
        self.look_here(at, among)
    }

    #[inline(always)]
    fn look_here(&self, at: u32, among: Among) -> Look {
        let worker = self.members.workers.get(at as usize);
        match worker.filter(|worker| among.has(worker, self.now_ns)) {
            Some(worker) => Look { at, score: self.score(worker) },
            None => Look::NOBODY,
        }
    }

    /// The best of all that are well, where none of those that were compared is.
    #[cold]
    fn best_of_all(&self) -> Look {
        let all = 0..self.members.workers.len() as u32;
        let looks = all.map(|at| self.look(at, Among::Well));
        looks.fold(Look::NOBODY, |best, look| best.in_order(look).0)
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

/// Which workers may be compared.
#[derive(Clone, Copy)]
enum Among {
    All,
    /// Those that are not ejected.
    Well,
}

impl Among {
    #[inline(always)]
    fn has(self, worker: &Worker, now_ns: u64) -> bool {
        match self {
            Self::All => true,
            Self::Well => !worker.health.is_ejected(now_ns),
        }
    }
}

/// A worker for a request.
pub(crate) struct Choice<'a> {
    pub(crate) worker: &'a Arc<Worker>,
    /// How long it is expected to take, in nanoseconds.
    pub(crate) latency: f32,
    /// The requests that are presumed to be in flight there.
    pub(crate) presumed: f32,
    pub(crate) reason: Reason,
}

/// What a look at a worker has shown.
#[derive(Clone, Copy)]
struct Look {
    /// Where it is in the list.
    at: u32,
    score: Score,
}

impl Look {
    /// Worse than everybody.
    const NOBODY: Self = Self {
        at: u32::MAX,
        score: Score {
            latency: UNKNOWN,
            presumed: 0.0,
            in_flight: f32::INFINITY,
            score: f32::INFINITY,
        },
    };

    #[inline(always)]
    fn is_somebody(self) -> bool {
        self.at != Self::NOBODY.at
    }

    /// The better one, and the other.
    #[inline(always)]
    fn in_order(self, other: Self) -> (Self, Self) {
        if other.score.score < self.score.score { (other, self) } else { (self, other) }
    }

    /// Which of the two is better once the first, which is the better one now, has got a request.
    #[inline(always)]
    fn better_then(self, next: Self) -> Option<u32> {
        let Score { in_flight, score, .. } = self.score;
        let then = score * (in_flight + 2.0) / (in_flight + 1.0);
        // Without a branch, as it cannot be predicted, and is not needed before the next decision.
        let at = std::hint::select_unpredictable(next.score.score < then, next.at, self.at);
        self.is_somebody().then_some(at)
    }

    #[inline(always)]
    fn choice(self, members: &Members, reason: Reason) -> Option<Choice<'_>> {
        let worker = members.workers.get(self.at as usize)?;
        let Score { latency, presumed, .. } = self.score;
        Some(Choice { worker, latency, presumed, reason })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn look(at: u32, in_flight: f32, score: f32) -> Look {
        Look { at, score: Score { latency: 1.0, presumed: 0.0, in_flight, score } }
    }

    #[test]
    fn the_worker_that_is_kept_is_the_better_one_with_another_request() {
        // With another request an idle worker waits twice as long, and one that has a request half as
        // long again.
        for (in_flight, then) in [(0.0, 20.0), (1.0, 15.0)] {
            let best = look(3, in_flight, 10.0);
            for (score, kept) in [(then - 1.0, 7), (then, 3), (then + 1.0, 3)] {
                let next = look(7, 0.0, score);
                assert_eq!(best.better_then(next), Some(kept), "{in_flight} {score}");
            }
            assert_eq!(best.better_then(Look::NOBODY), Some(3));
        }
        assert_eq!(Look::NOBODY.better_then(Look::NOBODY), None);
    }
}
