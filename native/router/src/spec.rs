//! What a router is made from.

use serde::Deserialize;

/// How a router decides. Times are in milliseconds.
#[derive(Clone, Debug, Deserialize)]
pub struct RouterSpec {
    /// How many workers are compared for a request.
    pub choices: usize,
    /// After how much time without a word of it half of what was measured is forgotten.
    pub half_life_ms: u64,
    /// By how many times its latency a worker whose every request fails is made to look slower.
    pub error_penalty: f32,
    /// How many of 1,000 requests go to an idle worker at random.
    pub exploration: u32,
    /// For how long a new worker gets less than its share.
    pub slow_start_ms: u64,
    /// When a worker gets nothing for a while.
    pub ejection: EjectionSpec,
    /// How many commands are told apart.
    pub command_limit: usize,
    /// How many keys keep their worker.
    pub sticky_limit: usize,
    /// How many workers there may be.
    pub worker_limit: usize,
    /// How many of them have metrics of their own.
    pub metrics_limit: usize,
}

/// When a worker is ejected, and for how long.
#[derive(Clone, Debug, Deserialize)]
pub struct EjectionSpec {
    /// After so many failures in a row. `None` ejects nobody.
    pub failures: Option<u32>,
    /// After this share of failures, 0 to 1.
    pub error_rate: f32,
    /// For how long the first time; each further time twice as long.
    pub base_ms: u64,
    /// For how long at most.
    pub longest_ms: u64,
    /// The share of workers, at most a half, that may be ejected at once.
    pub share: f32,
}

impl RouterSpec {
    /// For how long a new worker gets less than its share, in nanoseconds.
    pub(crate) fn slow_start_ns(&self) -> u64 {
        self.slow_start_ms.saturating_mul(1_000_000)
    }

    /// No workers.
    pub(crate) const OFF: Self = Self {
        choices: 2,
        half_life_ms: 1,
        error_penalty: 0.0,
        exploration: 0,
        slow_start_ms: 0,
        ejection: EjectionSpec {
            failures: None,
            error_rate: 1.0,
            base_ms: 0,
            longest_ms: 0,
            share: 0.0,
        },
        command_limit: 0,
        sticky_limit: 0,
        worker_limit: 0,
        metrics_limit: 0,
    };
}
