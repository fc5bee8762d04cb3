//! What the router learns of workers.

use std::sync::Arc;

use serde::Deserialize;

use super::{Parts, Step};
use crate::call_path::CallPaths;
use crate::router_time::RouterTime;
use telemetry_common::label;
use telemetry_recording::compile::Compiler;
use telemetry_recording::effect::{Effect, Event, Resumed};
use telemetry_recording::error::DefinitionError;
use telemetry_recording::field::Fields;
use telemetry_recording::notes::Notes;
use telemetry_recording::plan::SkipIf;
use telemetry_router::{Outcome, Router};

/// Tells the router what became of a request, if the event names the worker that it went to.
#[derive(Deserialize)]
pub(super) struct Completion {
    /// A flag that says, where it is set, that no worker had anything to do with it.
    #[serde(default)]
    unless: Option<usize>,
    /// The field with what the request was for.
    command: usize,
    /// The field with the worker.
    worker: usize,
    /// The field with the duration, in nanoseconds once stored.
    duration: usize,
    /// The flag that says whether it succeeded; without one it did not.
    success: Option<usize>,
}

struct Completing {
    unless: SkipIf,
    command: usize,
    worker: usize,
    duration: usize,
    failed_unless: SkipIf,
    call_paths: Arc<CallPaths>,
    router: Arc<Router>,
    time: Arc<RouterTime>,
}

impl Step for Completion {
    fn make(
        self,
        parts: &Parts,
        compiler: &Compiler<'_>,
    ) -> Result<Box<dyn Effect>, DefinitionError> {
        Ok(Box::new(Completing {
            unless: compiler.unless([self.unless, None])?,
            command: compiler.field(self.command)?,
            worker: compiler.field(self.worker)?,
            duration: compiler.field(self.duration)?,
            failed_unless: compiler.unless([self.success, None])?,
            call_paths: Arc::clone(&parts.call_paths),
            router: Arc::clone(&parts.router),
            time: Arc::clone(&parts.router_time),
        }))
    }
}

impl Effect for Completing {
    /// Most emitters do not tell which worker it was.
    fn needs(&self) -> [Option<usize>; 2] {
        [Some(self.worker), None]
    }

    /// Notes a request that was not answered: the router is told when it is known why.
    fn happen(&self, event: &Event<'_, '_>) -> Notes {
        let paths = &self.call_paths;
        let is_told = match event.path {
            Some(path) => paths.completes(path),
            None => !paths.follows() || paths.call_completes(event.process()),
        };
        if self.unless.is_set(event.fields) || !is_told {
            return Notes::NONE;
        }
        if !self.failed_unless.is_set(event.fields) {
            return Notes::COMPLETED;
        }
        self.completed(event.fields, Outcome::Success);
        Notes::NONE
    }

    fn resume(&self, resumed: &Resumed<'_, '_>) {
        if resumed.notes.has(Notes::COMPLETED) {
            let is_callers_fault = resumed.details.is_callers_fault;
            let outcome = if is_callers_fault { Outcome::Unknown } else { Outcome::Failure };
            self.completed(resumed.fields, outcome);
        }
    }
}

impl Completing {
    fn completed(&self, fields: &Fields<'_>, outcome: Outcome) {
        let Some(duration) = fields.number(self.duration) else {
            return;
        };
        self.router.completed(
            &label::normalise(fields.text(self.command)),
            &label::normalise(fields.text(self.worker)),
            outcome,
            duration,
            self.time.now(),
        );
    }
}

/// Tells the router how long a request waited for its worker, if the event names it.
#[derive(Deserialize)]
pub(super) struct Queued {
    /// The field with the wait, in nanoseconds once stored.
    field: usize,
    /// The field with the worker.
    worker: usize,
}

struct Queueing {
    step: Queued,
    router: Arc<Router>,
    time: Arc<RouterTime>,
}

impl Step for Queued {
    fn make(
        self,
        parts: &Parts,
        compiler: &Compiler<'_>,
    ) -> Result<Box<dyn Effect>, DefinitionError> {
        compiler.fields([self.field, self.worker])?;
        let (router, time) = (Arc::clone(&parts.router), Arc::clone(&parts.router_time));
        Ok(Box::new(Queueing { step: self, router, time }))
    }
}

impl Effect for Queueing {
    fn needs(&self) -> [Option<usize>; 2] {
        [Some(self.step.field), Some(self.step.worker)]
    }

    fn happen(&self, event: &Event<'_, '_>) -> Notes {
        if let Some(wait) = event.fields.number(self.step.field) {
            let worker = label::normalise(event.fields.text(self.step.worker));
            self.router.waited(&worker, wait, self.time.now());
        }
        Notes::NONE
    }
}
