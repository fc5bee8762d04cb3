//! What was measured of a method: the inputs of the rule.

use super::ghosts::{Ghosts, Result};
use super::rule::{Inputs, RuleSpec};

/// A share of recent things: once twice `memory` of them were counted, all counts are halved, so that
/// the last ones weigh most.
#[derive(Clone, Copy, Debug)]
struct Share {
    part: u64,
    whole: u64,
    memory: u64,
}

impl Share {
    fn of_the_last(memory: u64) -> Self {
        Self { part: 0, whole: 0, memory }
    }

    fn add(&mut self, part: u64, whole: u64) {
        self.part += part;
        self.whole += whole;
        while self.whole >= 2 * self.memory {
            self.part /= 2;
            self.whole /= 2;
        }
    }

    fn get(&self) -> f64 {
        if self.whole == 0 { 0.0 } else { self.part as f64 / self.whole as f64 }
    }
}

/// A call whose function was run.
#[derive(Clone, Copy, Debug)]
pub struct Computed {
    /// Hash of the key.
    pub key: u64,
    /// What came of it.
    pub result: Result,
    /// How long it took, if that is known.
    pub duration_ns: Option<u64>,
}

/// Calls of a method, seen in the order in which they end.
pub struct Observed {
    ghosts: Ghosts,
    calls: u64,
    hits: Share,
    changes: Share,
    answered: u64,
    joined: u64,
    unanswered: u64,
    duration_ns: u128,
    timed: u64,
    saved_ns: f64,
}

impl Observed {
    /// How many calls the hit rate remembers in full; those before weigh less and less.
    pub const RATE_MEMORY: u64 = 1_000;
    /// How many repetitions the variance remembers in full.
    pub const VARIANCE_MEMORY: u64 = 100;

    /// Nothing yet; `ghost_keys` recent keys will be remembered.
    pub fn new(ghost_keys: usize) -> Self {
        Self {
            ghosts: Ghosts::new(ghost_keys),
            calls: 0,
            hits: Share::of_the_last(Self::RATE_MEMORY),
            changes: Share::of_the_last(Self::VARIANCE_MEMORY),
            answered: 0,
            joined: 0,
            unanswered: 0,
            duration_ns: 0,
            timed: 0,
            saved_ns: 0.0,
        }
    }

    /// Calls that were answered from the cache.
    pub fn answered(&mut self, hits: u64) {
        self.calls += hits;
        self.hits.add(hits, hits);
        self.answered += hits;
        self.saved_ns += hits as f64 * self.mean_ns().unwrap_or(0.0);
    }

    /// Calls that waited for another caller's run: `joined` got its result, `unanswered` got none.
    pub fn waited(&mut self, joined: u64, unanswered: u64) {
        self.calls += joined;
        self.hits.add(joined, joined + unanswered);
        self.joined += joined;
        self.unanswered += unanswered;
    }

    /// A call whose function was run.
    pub fn computed(&mut self, call: Computed, now_ms: u64, rule: &RuleSpec) {
        let ttl_ms = rule.trial_ttl_ms(self.inputs());
        let seen = self.ghosts.see(call.key, call.result, now_ms, ttl_ms);
        self.calls += 1;
        self.hits.add(u64::from(seen.hit), 1);
        if let Some(changed) = seen.changed {
            self.changes.add(u64::from(changed), 1);
        }
        if let Some(duration_ns) = call.duration_ns {
            self.duration_ns += u128::from(duration_ns);
            self.timed += 1;
        }
    }

    /// What the rule looks at.
    pub fn inputs(&self) -> Inputs {
        Inputs { calls: self.calls, hit_rate: self.hits.get(), variance: self.changes.get() }
    }

    /// How long the function takes on average, where a duration is known.
    pub fn mean_ns(&self) -> Option<f64> {
        (self.timed > 0).then(|| self.duration_ns as f64 / self.timed as f64)
    }

    /// How many calls the cache has answered, of those that were told.
    pub fn hits(&self) -> u64 {
        self.answered
    }

    /// How many got the result of another caller's run.
    pub fn joined(&self) -> u64 {
        self.joined
    }

    /// How many waited for another caller's run and got no result.
    pub fn unanswered(&self) -> u64 {
        self.unanswered
    }

    /// What they would have taken: each as long as the mean was when it was told.
    pub fn saved_ns(&self) -> f64 {
        self.saved_ns
    }

    /// How many recent keys are remembered.
    pub fn ghosts(&self) -> usize {
        self.ghosts.len()
    }

    /// Bytes allocated.
    pub fn memory_bytes(&self) -> usize {
        self.ghosts.memory_bytes()
    }
}
