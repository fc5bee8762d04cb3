//! Requests whose end is reported.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::AcqRel};

use super::Router;
use super::command::Command;
use super::outcome::Outcome;
use super::worker::Worker;

/// A request on its way to a worker. It counts as in flight until it is completed, abandoned or
/// dropped, whatever comes first.
pub struct Ticket {
    router: Arc<Router>,
    worker: Arc<Worker>,
    command: Option<Arc<Command>>,
    started_ns: u64,
    is_over: AtomicBool,
}

/// What became of the report of an end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Completion {
    /// It was taken.
    Counted,
    /// The request was over before; nothing was counted.
    Again,
    /// The worker has left the pool meanwhile; there is nothing to learn of it.
    WorkerGone,
    /// The router has stopped meanwhile.
    Stopped,
}

impl Ticket {
    pub(crate) fn new(
        router: Arc<Router>,
        worker: Arc<Worker>,
        command: Option<Arc<Command>>,
        started_ns: u64,
    ) -> Self {
        worker.load.begin();
        Self { router, worker, command, started_ns, is_over: AtomicBool::new(false) }
    }

    /// The worker that the request goes to.
    pub fn worker_id(&self) -> &str {
        self.worker.id()
    }

    /// The request is over, after `duration_ns` or else the time since it began.
    pub fn complete(&self, outcome: Outcome, duration_ns: Option<u64>, now_ns: u64) -> Completion {
        if !self.release() {
            return Completion::Again;
        }
        if self.router.is_stopped() {
            return Completion::Stopped;
        }
        if self.worker.is_gone() {
            return Completion::WorkerGone;
        }
        let duration = duration_ns.unwrap_or_else(|| now_ns.saturating_sub(self.started_ns));
        self.router.learn(&self.worker, self.command.as_deref(), outcome, duration, now_ns);
        Completion::Counted
    }

    /// Whoever made the request is gone, so nobody knows what becomes of it. That it took at least
    /// until now is known.
    pub fn abandon(&self, now_ns: u64) {
        if self.release() {
            self.worker.abandon();
            let duration = now_ns.saturating_sub(self.started_ns);
            self.router.learn(
                &self.worker,
                self.command.as_deref(),
                Outcome::Unknown,
                duration,
                now_ns,
            );
        }
    }

    /// Ends it, once.
    fn release(&self) -> bool {
        let first = !self.is_over.swap(true, AcqRel);
        if first {
            self.worker.load.end();
        }
        first
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        if self.release() {
            self.worker.abandon();
        }
    }
}
