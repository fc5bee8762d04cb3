//! Which executions carry calls of a bridge, and which emitter's events count.

use std::sync::Arc;

use serde::Deserialize;

use super::{Parts, Step};
use crate::call_path::{CallPaths, Operation, Phase};
use crate::owner::{Emitter, Owners};
use telemetry_common::label;
use telemetry_recording::compile::Compiler;
use telemetry_recording::effect::{Admitted, Claim, Effect, Event, Path};
use telemetry_recording::error::DefinitionError;
use telemetry_recording::notes::Notes;

/// The process starts an operation of a bridge.
#[derive(Deserialize)]
pub(super) struct Enter {
    /// Which one.
    operation: Operation,
    /// A choice field and the index at which it does; always without one.
    #[serde(default)]
    when: Option<(usize, usize)>,
}

struct Entering {
    step: Enter,
    call_paths: Arc<CallPaths>,
}

impl Step for Enter {
    fn make(
        self,
        parts: &Parts,
        compiler: &Compiler<'_>,
    ) -> Result<Box<dyn Effect>, DefinitionError> {
        compiler.fields(self.when.map(|(field, _)| field))?;
        Ok(Box::new(Entering { step: self, call_paths: Arc::clone(&parts.call_paths) }))
    }
}

impl Effect for Entering {
    fn happen(&self, event: &Event<'_, '_>) -> Notes {
        let applies = |(at, index)| event.fields.choice(at) == index;
        if self.call_paths.follows() && self.step.when.is_none_or(applies) {
            self.call_paths.enter(event.process(), self.step.operation);
        }
        Notes::NONE
    }
}

/// The process ends an operation of a bridge.
#[derive(Deserialize)]
pub(super) struct Leave {
    /// Which one.
    operation: Operation,
}

struct Leaving {
    operation: Operation,
    call_paths: Arc<CallPaths>,
}

impl Step for Leave {
    fn make(
        self,
        parts: &Parts,
        _compiler: &Compiler<'_>,
    ) -> Result<Box<dyn Effect>, DefinitionError> {
        let call_paths = Arc::clone(&parts.call_paths);
        Ok(Box::new(Leaving { operation: self.operation, call_paths }))
    }
}

impl Effect for Leaving {
    fn happen(&self, event: &Event<'_, '_>) -> Notes {
        self.call_paths.leave(|| event.process(), self.operation);
        Notes::NONE
    }

    /// A call that ends is over, whatever else is said of it.
    fn reject(&self, process: &dyn Fn() -> u64) {
        self.call_paths.leave(process, self.operation);
    }
}

/// A worker gets a request.
#[derive(Deserialize)]
pub(super) struct Dispatched {
    /// The field with the process that has made it, if that is not the one that emits the event.
    process: usize,
    /// The field with the worker.
    worker: usize,
    /// The field with the command.
    command: usize,
}

struct Dispatching {
    step: Dispatched,
    call_paths: Arc<CallPaths>,
}

impl Step for Dispatched {
    fn make(
        self,
        parts: &Parts,
        compiler: &Compiler<'_>,
    ) -> Result<Box<dyn Effect>, DefinitionError> {
        compiler.fields([self.process, self.worker, self.command])?;
        Ok(Box::new(Dispatching { step: self, call_paths: Arc::clone(&parts.call_paths) }))
    }
}

impl Effect for Dispatching {
    fn happen(&self, event: &Event<'_, '_>) -> Notes {
        let process = event.fields.number(self.step.process).unwrap_or_else(|| event.process());
        let worker = label::normalise(event.fields.text(self.step.worker));
        let command = label::cut(event.fields.text(self.step.command));
        self.call_paths.dispatched(process, &worker, command);
        Notes::NONE
    }
}

/// When the claimed steps of an event are done, if another emitter may tell of the same.
#[derive(Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum ClaimSpec {
    /// SkipIf it is an execution that carries a call of a bridge.
    Execution {
        /// The field with the command.
        command: usize,
        /// The field with the worker.
        worker: usize,
        /// Which end it is, if it is one that a worker was given.
        phase: Option<Phase>,
    },
    /// SkipIf its process is in a call of a bridge.
    Call,
    /// If the emitter owns the name of the tool.
    Tool {
        /// The field with the name.
        name: usize,
        /// Who emits.
        emitter: Emitter,
    },
    /// If the emitter owns the id of the worker.
    Worker {
        /// The field with the id.
        id: usize,
        /// Who emits.
        emitter: Emitter,
    },
}

impl ClaimSpec {
    pub(super) fn make(
        self,
        parts: &Parts,
        compiler: &Compiler<'_>,
    ) -> Result<Box<dyn Claim>, DefinitionError> {
        let call_paths = Arc::clone(&parts.call_paths);
        Ok(match self {
            Self::Execution { command, worker, phase } => {
                compiler.fields([command, worker])?;
                Box::new(OfExecution { command, worker, phase, call_paths })
            }
            Self::Call => Box::new(OfCall { call_paths }),
            Self::Tool { name, emitter } => {
                let owners = Arc::clone(&parts.tool_owners);
                Box::new(OfTool { name: compiler.field(name)?, emitter, owners })
            }
            Self::Worker { id, emitter } => {
                let owners = Arc::clone(&parts.worker_owners);
                Box::new(OfWorker { id: compiler.field(id)?, emitter, owners, call_paths })
            }
        })
    }
}

struct OfExecution {
    command: usize,
    worker: usize,
    phase: Option<Phase>,
    call_paths: Arc<CallPaths>,
}

impl Claim for OfExecution {
    fn admit(&self, event: &Event<'_, '_>) -> Admitted {
        let fields = event.fields;
        let given = fields.is_given(self.worker);
        let worker = given.then(|| label::normalise(fields.text(self.worker)));
        let command = label::cut(fields.text(self.command));
        let path =
            self.call_paths.of_execution(event.process(), worker.as_deref(), command, self.phase);
        Admitted { counts: path == Path::Direct, path: Some(path) }
    }
}

struct OfCall {
    call_paths: Arc<CallPaths>,
}

impl Claim for OfCall {
    fn admit(&self, event: &Event<'_, '_>) -> Admitted {
        Admitted { counts: !self.call_paths.is_inside(event.process()), path: None }
    }
}

struct OfTool {
    name: usize,
    emitter: Emitter,
    owners: Arc<Owners>,
}

impl Claim for OfTool {
    fn admit(&self, event: &Event<'_, '_>) -> Admitted {
        let name = label::normalise(event.fields.text(self.name));
        Admitted { counts: self.owners.admit(&name, self.emitter), path: None }
    }
}

struct OfWorker {
    id: usize,
    emitter: Emitter,
    owners: Arc<Owners>,
    call_paths: Arc<CallPaths>,
}

impl Claim for OfWorker {
    fn admit(&self, event: &Event<'_, '_>) -> Admitted {
        self.call_paths.hear_of_pool();
        let id = label::normalise(event.fields.text(self.id));
        Admitted { counts: self.owners.admit(&id, self.emitter), path: None }
    }
}
