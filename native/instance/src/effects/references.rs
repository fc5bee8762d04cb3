//! What is known of references: their class, and the worker in whose memory lives what they name.

use std::sync::Arc;

use serde::Deserialize;

use super::{Parts, Step};
use telemetry_cache::Cache;
use telemetry_common::label;
use telemetry_recording::compile::Compiler;
use telemetry_recording::effect::{Effect, Event};
use telemetry_recording::error::DefinitionError;
use telemetry_recording::notes::Notes;
use telemetry_recording::plan::Lookups;
use telemetry_router::Router;

/// Remembers the class of a reference, if the event carries both.
#[derive(Deserialize)]
pub(super) struct Bind {
    /// The field with the reference.
    reference: usize,
    /// The field with the class.
    class: usize,
}

struct Binding {
    step: Bind,
    lookups: Arc<Lookups>,
}

impl Step for Bind {
    fn make(
        self,
        parts: &Parts,
        compiler: &Compiler<'_>,
    ) -> Result<Box<dyn Effect>, DefinitionError> {
        compiler.fields([self.reference, self.class])?;
        compiler.keep_references();
        Ok(Box::new(Binding { step: self, lookups: Arc::clone(&parts.lookups) }))
    }
}

impl Effect for Binding {
    fn needs(&self) -> [Option<usize>; 2] {
        [Some(self.step.reference), Some(self.step.class)]
    }

    fn happen(&self, event: &Event<'_, '_>) -> Notes {
        let reference = label::normalise(event.fields.text(self.step.reference));
        let class = label::normalise(event.fields.text(self.step.class));
        self.lookups.classes.bind(&reference, &class);
        Notes::NONE
    }
}

/// Tells the router and the cache in which worker's memory what a reference names lives, if the event
/// carries both.
#[derive(Deserialize)]
pub(super) struct Lives {
    /// The field with the reference.
    reference: usize,
    /// The field with the worker.
    worker: usize,
}

struct Living {
    step: Lives,
    router: Arc<Router>,
    cache: Option<Arc<Cache>>,
}

impl Step for Lives {
    fn make(
        self,
        parts: &Parts,
        compiler: &Compiler<'_>,
    ) -> Result<Box<dyn Effect>, DefinitionError> {
        compiler.fields([self.reference, self.worker])?;
        let router = Arc::clone(&parts.router);
        Ok(Box::new(Living { step: self, router, cache: parts.cache.clone() }))
    }
}

impl Effect for Living {
    fn needs(&self) -> [Option<usize>; 2] {
        [Some(self.step.reference), Some(self.step.worker)]
    }

    fn happen(&self, event: &Event<'_, '_>) -> Notes {
        let reference = event.fields.text(self.step.reference);
        let worker = label::normalise(event.fields.text(self.step.worker));
        self.router.bind(reference, &worker);
        if let Some(cache) = &self.cache {
            cache.bind_worker(&label::normalise(reference), &worker);
        }
        Notes::NONE
    }
}
