//! The workers of the pool: which are alive, what they tell of themselves, and who is told when one comes or goes.

use std::sync::Arc;

use serde::Deserialize;

use super::{Parts, Step};
use crate::call_path::CallPaths;
use crate::event_gauge::EventGauges;
use crate::router_time::RouterTime;
use telemetry_cache::Cache;
use telemetry_common::id_set::IdSet;
use telemetry_common::label;
use telemetry_recording::compile::Compiler;
use telemetry_recording::effect::{Effect, Event};
use telemetry_recording::error::DefinitionError;
use telemetry_recording::notes::Notes;
use telemetry_recording::plan::{LabelSlots, Lookups};
use telemetry_recording::plan_spec::LabelSource;
use telemetry_router::Router;

/// The workers that are alive, and who is told of them.
pub struct Workers {
    alive: IdSet,
    call_paths: Arc<CallPaths>,
    event_gauges: Arc<EventGauges>,
    router: Arc<Router>,
    router_time: Arc<RouterTime>,
    cache: Option<Arc<Cache>>,
}

impl Workers {
    pub(crate) fn new(
        limit: usize,
        call_paths: &Arc<CallPaths>,
        event_gauges: &Arc<EventGauges>,
        router: &Arc<Router>,
        router_time: &Arc<RouterTime>,
        cache: Option<&Arc<Cache>>,
    ) -> Self {
        Self {
            alive: IdSet::new(limit),
            call_paths: Arc::clone(call_paths),
            event_gauges: Arc::clone(event_gauges),
            router: Arc::clone(router),
            router_time: Arc::clone(router_time),
            cache: cache.map(Arc::clone),
        }
    }

    /// Those that are alive.
    pub fn alive(&self) -> &IdSet {
        &self.alive
    }

    #[cold]
    fn up(&self, id: &str) {
        self.call_paths.hear_of_pool();
        self.alive.insert(id);
        self.event_gauges.welcome_worker(id);
        self.router.add_worker(id, self.router_time.now());
    }

    #[cold]
    pub(crate) fn down(&self, id: &str) {
        self.alive.remove(id);
        self.call_paths.forget_worker(id);
        self.event_gauges.forget_worker(id);
        self.router.remove_worker(id);
        if let Some(cache) = &self.cache {
            cache.worker_died(id);
        }
    }
}

/// Adds an id to the set of workers.
#[derive(Deserialize)]
pub(super) struct WorkerUp {
    /// The field with the id.
    id: usize,
}

struct Coming {
    id: usize,
    workers: Arc<Workers>,
}

impl Step for WorkerUp {
    fn make(
        self,
        parts: &Parts,
        compiler: &Compiler<'_>,
    ) -> Result<Box<dyn Effect>, DefinitionError> {
        let workers = Arc::clone(&parts.workers);
        Ok(Box::new(Coming { id: compiler.field(self.id)?, workers }))
    }
}

impl Effect for Coming {
    fn needs(&self) -> [Option<usize>; 2] {
        [Some(self.id), None]
    }

    fn happen(&self, event: &Event<'_, '_>) -> Notes {
        self.workers.up(&label::normalise(event.fields.text(self.id)));
        Notes::NONE
    }
}

/// Takes an id out of the set of workers.
#[derive(Deserialize)]
pub(super) struct WorkerDown {
    /// The field with the id.
    id: usize,
}

struct Going {
    id: usize,
    workers: Arc<Workers>,
}

impl Step for WorkerDown {
    fn make(
        self,
        parts: &Parts,
        compiler: &Compiler<'_>,
    ) -> Result<Box<dyn Effect>, DefinitionError> {
        let workers = Arc::clone(&parts.workers);
        Ok(Box::new(Going { id: compiler.field(self.id)?, workers }))
    }
}

impl Effect for Going {
    fn happen(&self, event: &Event<'_, '_>) -> Notes {
        self.workers.down(&label::normalise(event.fields.text(self.id)));
        Notes::NONE
    }
}

/// Remembers the pool of a worker, if the event carries both.
#[derive(Deserialize)]
pub(super) struct InPool {
    /// The field with the worker.
    worker: usize,
    /// The field with the pool.
    pool: usize,
    /// Names that tell no pool from another.
    except: Vec<String>,
}

struct Pooling {
    step: InPool,
    lookups: Arc<Lookups>,
}

impl Step for InPool {
    fn make(
        self,
        parts: &Parts,
        compiler: &Compiler<'_>,
    ) -> Result<Box<dyn Effect>, DefinitionError> {
        compiler.fields([self.worker, self.pool])?;
        Ok(Box::new(Pooling { step: self, lookups: Arc::clone(&parts.lookups) }))
    }
}

impl Effect for Pooling {
    fn needs(&self) -> [Option<usize>; 2] {
        [Some(self.step.worker), Some(self.step.pool)]
    }

    fn happen(&self, event: &Event<'_, '_>) -> Notes {
        let name = event.fields.text(self.step.pool);
        if self.step.except.iter().all(|other| other.as_bytes() != name) {
            let worker = label::normalise(event.fields.text(self.step.worker));
            self.lookups.pools.bind(&worker, &label::normalise(name));
        }
        Notes::NONE
    }
}

/// Sets a gauge.
#[derive(Deserialize)]
pub(super) struct Set {
    /// Name of the gauge.
    gauge: String,
    /// One source for each of its labels.
    labels: Vec<LabelSource>,
    /// The value.
    value: GaugeSource,
}

/// Where a number comes from.
#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "snake_case")]
enum GaugeSource {
    /// A measurement; an absent optional one sets nothing.
    Field(usize),
    /// Always the same.
    Constant(u64),
}

struct Setting {
    gauge: usize,
    labels: LabelSlots,
    value: GaugeSource,
    event_gauges: Arc<EventGauges>,
    lookups: Arc<Lookups>,
    workers: Arc<Workers>,
}

impl Step for Set {
    fn make(
        self,
        parts: &Parts,
        compiler: &Compiler<'_>,
    ) -> Result<Box<dyn Effect>, DefinitionError> {
        let found = parts.event_gauges.find(&self.gauge);
        let unknown = || compiler.unknown(format!("gauge {}", self.gauge));
        let (gauge, labels) = found.ok_or_else(unknown)?;
        if let GaugeSource::Field(field) = self.value {
            compiler.field(field)?;
        }
        Ok(Box::new(Setting {
            gauge,
            labels: compiler.labels(&self.gauge, labels, &self.labels)?,
            value: self.value,
            event_gauges: Arc::clone(&parts.event_gauges),
            lookups: Arc::clone(&parts.lookups),
            workers: Arc::clone(&parts.workers),
        }))
    }
}

impl Effect for Setting {
    fn happen(&self, event: &Event<'_, '_>) -> Notes {
        let value = match self.value {
            GaugeSource::Field(field) => event.fields.number(field),
            GaugeSource::Constant(value) => Some(value),
        };
        if let Some(value) = value {
            let labels = self.labels.resolve(event.fields, &self.lookups);
            let is_alive = |worker: &str| self.workers.alive().contains(worker);
            self.event_gauges.set(self.gauge, labels, value, is_alive);
        }
        Notes::NONE
    }
}
