//! What is signalled of events: spikes of errors, long waits, series over the limit.

use std::sync::Arc;

use serde::Deserialize;

use super::{Parts, Step};
use crate::alert::Alerts;
use crate::call_log::CallLog;
use crate::signal::{Overflow, QueueWait, Signal};
use crate::spike::SpikeChange;
use crate::usage::Usage;
use telemetry_common::label::{self, LabelSet};
use telemetry_common::moment::{Clock, Moment};
use telemetry_recording::compile::Compiler;
use telemetry_recording::effect::{Alarm, Effect, Event, Listener};
use telemetry_recording::error::DefinitionError;
use telemetry_recording::family::{Family, UsageSource};
use telemetry_recording::metric::NANOSECONDS_PER_MICROSECOND;
use telemetry_recording::notes::Notes;
use telemetry_recording::plan::count_at;

/// Looks for spikes of errors.
pub(super) struct Errors {
    alerts: Arc<Alerts>,
    clock: Clock,
    /// Where spikes are counted.
    family: Arc<Family>,
    cell: usize,
    /// Where calls are logged, if these may be.
    call_log: Option<Arc<CallLog>>,
}

impl Errors {
    pub(super) fn new(parts: &Parts, (family, cell): (Arc<Family>, usize), logs: bool) -> Self {
        Self {
            alerts: Arc::clone(&parts.alerts),
            clock: Clock::clone(&parts.clock),
            family,
            cell,
            call_log: logs.then(|| Arc::clone(&parts.call_log)),
        }
    }

    #[cold]
    fn changed(&self, change: SpikeChange, key: &LabelSet, now: Moment) {
        if let Some(over) = change.over {
            self.alerts.signals.send(now, Signal::ErrorSpikeOver(over));
        }
        if change.started {
            let series = self.family.get_or_create(key);
            let series = series.unwrap_or_else(|| self.family.overflow_for_event());
            count_at(&series.lanes().shared(), self.cell);
        }
        if let Some(spike) = change.spike {
            self.alerts.signals.send(now, Signal::ErrorSpike(spike));
        }
    }
}

impl Alarm for Errors {
    fn failed(
        &self,
        key: &LabelSet,
        kind: &str,
        reason: &str,
        calls: &mut dyn FnMut() -> Option<u64>,
    ) -> bool {
        let now = (self.clock)();
        let change = self.alerts.spikes.record(key, kind, reason, now.ms, calls);
        if change != SpikeChange::default() {
            self.changed(change, key, now);
        }
        self.call_log.as_ref().is_some_and(|log| log.takes_failure(now.ms))
    }
}

/// Signals a wait for a worker that is too long.
#[derive(Deserialize)]
pub(super) struct Wait {
    /// The field with the wait, in nanoseconds once stored.
    field: usize,
    /// The longest wait that is not signalled.
    above: u64,
    /// The field with the worker.
    worker: usize,
    /// The field with the command.
    command: usize,
}

struct Waits {
    step: Wait,
    alerts: Arc<Alerts>,
    clock: Clock,
}

impl Step for Wait {
    fn make(
        self,
        parts: &Parts,
        compiler: &Compiler<'_>,
    ) -> Result<Box<dyn Effect>, DefinitionError> {
        compiler.fields([self.field, self.worker, self.command])?;
        Ok(Box::new(Waits {
            step: self,
            alerts: Arc::clone(&parts.alerts),
            clock: Clock::clone(&parts.clock),
        }))
    }
}

impl Effect for Waits {
    fn needs(&self) -> [Option<usize>; 2] {
        [Some(self.step.field), None]
    }

    fn happen(&self, event: &Event<'_, '_>) -> Notes {
        let waited = event.fields.number(self.step.field);
        if let Some(waited) = waited.filter(|waited| *waited > self.step.above) {
            self.waited(waited, event);
        }
        Notes::NONE
    }
}

impl Waits {
    #[cold]
    fn waited(&self, waited: u64, event: &Event<'_, '_>) {
        let command = label::normalise(event.fields.text(self.step.command));
        let now = (self.clock)();
        if let Some(suppressed) = self.alerts.queue_waits.admit(&command, now.ms) {
            let worker_id = label::normalise(event.fields.text(self.step.worker)).into_owned();
            let command = command.into_owned();
            let wait_us = waited as f64 / NANOSECONDS_PER_MICROSECOND;
            let wait = QueueWait { worker_id, command, wait_us, suppressed };
            self.alerts.signals.send(now, Signal::QueueWait(wait));
        }
    }
}

/// Tells of events over a limit of series.
pub(crate) struct Overflows {
    pub(crate) alerts: Arc<Alerts>,
    pub(crate) usage: Arc<Usage>,
    pub(crate) clock: Clock,
}

impl Listener for Overflows {
    #[cold]
    fn overflowed(&self, family: &Family) {
        let overflow = Overflow { event: family.name().to_owned(), limit: family.series_limit() };
        self.alerts.signals.send((self.clock)(), Signal::Overflow(overflow));
    }

    fn used(&self, names: &UsageSource, labels: &LabelSet) {
        let now = (self.clock)().unix_ms_u64();
        self.usage.add(names.kind(), &names.name(labels), 1, now);
    }
}
