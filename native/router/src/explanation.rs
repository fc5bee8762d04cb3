//! What a router says of itself.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering::Relaxed;

use serde::Serialize;

use super::Router;
use super::choice::Chooser;
use super::command::Outcomes;
use super::reason::Reason;
use super::worker::Worker;

/// How a request for a command would be decided.
#[derive(Clone, Debug, Serialize)]
pub struct CommandExplanation {
    /// The command.
    pub command: String,
    /// How long it usually takes, in microseconds; `None` if it never did.
    pub usual_us: Option<f64>,
    /// The workers, best first.
    pub candidates: Vec<Candidate>,
}

/// A worker as a request for a command sees it.
#[derive(Clone, Debug, Serialize)]
pub struct Candidate {
    /// Its id.
    pub worker_id: String,
    /// What it is compared by: microseconds that an answer is expected to cost. The least is best.
    pub score: f64,
    /// The expected latency without load and failures, in microseconds; `None` if neither it nor the
    /// command is known.
    pub latency_us: Option<f64>,
    /// Where the latency comes from: `command`, `worker` or `usual`.
    pub latency_from: &'static str,
    /// How long requests waited for it in the pool's queue lately, in microseconds.
    pub queue_wait_us: f64,
    /// Requests in flight; those whose end is not reported are presumed.
    pub in_flight: f64,
    /// The share of its requests that failed lately, whatever they were.
    pub error_rate: f64,
    /// How often the command succeeded.
    pub successes: u64,
    /// How often it failed.
    pub failures: u64,
    /// For how many milliseconds more it is ejected; `None` if it is not.
    pub ejected_for_ms: Option<u64>,
    /// How often it was ejected.
    pub ejections: u64,
    /// The share, 0 to 1, of the command's requests that went to it.
    pub share: f64,
}

/// All workers.
#[derive(Clone, Debug, Serialize)]
pub struct RouterReport {
    /// The workers by id.
    pub workers: Vec<WorkerReport>,
    /// The commands that are told apart, by name.
    pub commands: Vec<String>,
    /// How many requests were routed, by reason.
    pub decisions: BTreeMap<&'static str, u64>,
    /// How many keys have a worker.
    pub sticky_keys: usize,
    /// How many workers found no room.
    pub refused: u64,
}

/// A worker.
#[derive(Clone, Debug, Serialize)]
pub struct WorkerReport {
    /// Its id.
    pub worker_id: String,
    /// Requests by ticket in flight.
    pub tickets: u32,
    /// Other requests, presumed to be in flight.
    pub presumed: f64,
    /// How many times as long as usual its requests take.
    pub slowness: f64,
    /// How long requests waited for it in the pool's queue lately, in microseconds.
    pub queue_wait_us: f64,
    /// The share of its requests that failed lately.
    pub error_rate: f64,
    /// How many requests were routed to it.
    pub decisions: u64,
    /// How many requests by ticket ended without a word.
    pub abandoned: u64,
    /// For how many milliseconds more it is ejected; `None` if it is not.
    pub ejected_for_ms: Option<u64>,
    /// How often it was ejected.
    pub ejections: u64,
    /// How far it has come up after its start or an ejection, 0 to 1.
    pub warmth: f64,
}

fn us(ns: f32) -> f64 {
    f64::from(ns) / 1e3
}

fn ms_until(until: Option<u64>, now_ns: u64) -> Option<u64> {
    until.map(|until| until.saturating_sub(now_ns).div_ceil(1_000_000))
}

impl Router {
    /// How a request for a command would be decided now. Changes nothing.
    pub fn explain(&self, command: &str, now_ns: u64) -> CommandExplanation {
        let members = self.pool.members();
        let known = members.commands.get(command);
        let chooser = self.chooser(&members, known, now_ns);
        let decisions = |worker: &Worker| known.map_or(0, |command| command.decisions(worker));
        let total: u64 = members.workers.iter().map(|worker| decisions(worker)).sum();
        let mut candidates: Vec<_> = members
            .workers
            .iter()
            .map(|worker| {
                let share = decisions(worker) as f64 / total.max(1) as f64;
                self.candidate(&chooser, worker, share)
            })
            .collect();
        candidates.sort_by(|one, other| {
            let key = |candidate: &Candidate| candidate.ejected_for_ms.is_some();
            key(one).cmp(&key(other)).then(one.score.total_cmp(&other.score))
        });
        CommandExplanation {
            command: command.to_owned(),
            usual_us: chooser.usual.map(us),
            candidates,
        }
    }

    fn candidate(&self, chooser: &Chooser<'_>, worker: &Worker, share: f64) -> Candidate {
        let (now, half_life) = (chooser.now, self.rules.half_life);
        let score = chooser.score(worker);
        let latency = chooser.command.and_then(|command| command.latency(worker));
        let outcomes = chooser.command.and_then(|command| command.outcomes(worker));
        let count = |count: fn(&Outcomes) -> u64| outcomes.map_or(0, count);
        let latency_from = if latency.is_some_and(|own| own.get(now, half_life).is_some()) {
            "command"
        } else if worker.slowness.get(now, half_life).is_some() {
            "worker"
        } else {
            "usual"
        };
        let is_known = chooser.usual.is_some() || latency_from == "command";
        Candidate {
            worker_id: worker.id().to_string(),
            score: us(score.score),
            latency_us: is_known.then_some(us(score.latency)),
            latency_from,
            queue_wait_us: us(chooser.queue_wait(worker)),
            in_flight: f64::from(score.in_flight),
            error_rate: f64::from(worker.health.error_rate(now, half_life)),
            successes: count(|own| own.successes.load(Relaxed)),
            failures: count(|own| own.failures.load(Relaxed)),
            ejected_for_ms: ms_until(worker.health.ejected_until(chooser.now_ns), chooser.now_ns),
            ejections: worker.health.ejections(),
            share,
        }
    }

    /// How all workers do.
    pub fn report(&self, now_ns: u64) -> RouterReport {
        let total = self.pool.total();
        let members = self.pool.members();
        let chooser = self.chooser(&members, None, now_ns);
        let mut commands: Vec<_> = members.commands.keys().map(|name| name.to_string()).collect();
        commands.sort_unstable();
        RouterReport {
            workers: members
                .workers
                .iter()
                .map(|worker| self.worker_report(&chooser, worker))
                .collect(),
            commands,
            decisions: Reason::ALL.map(Reason::name).into_iter().zip(total.decisions).collect(),
            sticky_keys: self.sticky.len(),
            refused: self.pool.refused(),
        }
    }

    fn worker_report(&self, chooser: &Chooser<'_>, worker: &Worker) -> WorkerReport {
        let (now, half_life) = (chooser.now, self.rules.half_life);
        let slowness = worker.slowness.towards(1.0, now, half_life);
        WorkerReport {
            worker_id: worker.id().to_string(),
            tickets: worker.load.tickets(),
            presumed: f64::from(worker.load.presumed(now)),
            slowness: f64::from(slowness.unwrap_or(1.0)),
            queue_wait_us: us(chooser.queue_wait(worker)),
            error_rate: f64::from(worker.health.error_rate(now, half_life)),
            decisions: worker.counts().decisions.iter().sum(),
            abandoned: worker.abandoned(),
            ejected_for_ms: ms_until(worker.health.ejected_until(chooser.now_ns), chooser.now_ns),
            ejections: worker.health.ejections(),
            warmth: f64::from(worker.health.warmth(chooser.now_ns, self.rules.slow_start_ns)),
        }
    }

    /// How many requests were routed for a reason, those of workers that have left included.
    pub fn decisions(&self, reason: Reason) -> u64 {
        self.pool.total().decisions[reason as usize]
    }
}
