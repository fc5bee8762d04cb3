//! The log of single calls.

use std::sync::Arc;

use serde::Deserialize;

use super::{Parts, Step};
use crate::call_log::{Call as LoggedCall, CallLog};
use telemetry_common::moment::Clock;
use telemetry_recording::compile::Compiler;
use telemetry_recording::effect::{Effect, Event, Resumed};
use telemetry_recording::error::DefinitionError;
use telemetry_recording::notes::Notes;
use telemetry_recording::plan::{LabelSlots, Lookups, SkipIf};
use telemetry_recording::plan_spec::LabelSource;

/// Keeps a call that failed, or is among the slowest.
#[derive(Deserialize)]
pub(super) struct Call {
    /// Sources of the labels of its method: the name and the class.
    labels: Vec<LabelSource>,
    /// The field with its duration, in nanoseconds once stored.
    duration: usize,
    /// A flag that says, where it is set, that it is none.
    #[serde(default)]
    unless: Option<usize>,
}

struct Calls {
    key: LabelSlots,
    duration: usize,
    unless: SkipIf,
    call_log: Arc<CallLog>,
    lookups: Arc<Lookups>,
    clock: Clock,
}

impl Step for Call {
    fn make(
        self,
        parts: &Parts,
        compiler: &Compiler<'_>,
    ) -> Result<Box<dyn Effect>, DefinitionError> {
        Ok(Box::new(Calls {
            key: compiler.labels("the call", 2, &self.labels)?,
            duration: compiler.field(self.duration)?,
            unless: compiler.unless([self.unless, None])?,
            call_log: Arc::clone(&parts.call_log),
            lookups: Arc::clone(&parts.lookups),
            clock: Clock::clone(&parts.clock),
        }))
    }
}

impl Effect for Calls {
    fn happen(&self, event: &Event<'_, '_>) -> Notes {
        match event.fields.number(self.duration) {
            Some(duration)
                if self.call_log.is_slow(duration) && !self.unless.is_set(event.fields) =>
            {
                Notes::SLOW
            }
            _ => Notes::NONE,
        }
    }

    fn resume(&self, resumed: &Resumed<'_, '_>) {
        let Resumed { notes, fields, details, failure } = resumed;
        let is_slow = notes.has(Notes::SLOW);
        if failure.is_none() && !is_slow {
            return;
        }
        let key = self.key.resolve(fields, &self.lookups);
        let mut labels = key.values();
        let now = (self.clock)();
        let call = LoggedCall {
            method: labels.next().unwrap_or_default(),
            python_class: labels.next().unwrap_or_default(),
            duration_ns: fields.number(self.duration),
            failure: *failure,
            at_ms: now.ms,
            at_unix_ms: now.unix_ms,
        };
        if failure.is_some() {
            self.call_log.keep_failure(&call, details);
        }
        if is_slow {
            self.call_log.keep_slow(&call, details);
        }
    }
}
