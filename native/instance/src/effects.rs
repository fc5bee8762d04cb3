//! The effects of the catalogue's events: what they tell workers, router, cache, call paths and alerts.
//!
//! A step is a type of its own, read from a definition, that is made an effect of. Another one is such a type in a
//! file here, and a row in the list below.

mod alarm;
mod call;
mod paths;
mod references;
mod routing;
mod workers;

use std::sync::Arc;

use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::alert::Alerts;
use crate::call_log::CallLog;
use crate::call_path::CallPaths;
use crate::event_gauge::EventGauges;
use crate::owner::Owners;
use crate::router_time::RouterTime;
use telemetry_cache::Cache;
use telemetry_common::moment::Clock;
use telemetry_recording::compile::{Compiler, Effects};
use telemetry_recording::effect::{Alarm, Claim, Effect};
use telemetry_recording::error::DefinitionError;
use telemetry_recording::family::Family;
use telemetry_recording::plan::Lookups;
use telemetry_router::Router;

pub(crate) use alarm::Overflows;
pub use workers::Workers;

/// What effects are made of. Each keeps of it what it needs.
pub(crate) struct Parts {
    pub(crate) alerts: Arc<Alerts>,
    pub(crate) cache: Option<Arc<Cache>>,
    pub(crate) call_log: Arc<CallLog>,
    pub(crate) call_paths: Arc<CallPaths>,
    pub(crate) clock: Clock,
    pub(crate) event_gauges: Arc<EventGauges>,
    pub(crate) lookups: Arc<Lookups>,
    pub(crate) router: Arc<Router>,
    pub(crate) router_time: Arc<RouterTime>,
    pub(crate) tool_owners: Arc<Owners>,
    pub(crate) worker_owners: Arc<Owners>,
    pub(crate) workers: Arc<Workers>,
}

/// A step as a definition declares it.
trait Step: DeserializeOwned {
    /// Makes an effect of it, if the fields are there that it names.
    fn make(
        self,
        parts: &Parts,
        compiler: &Compiler<'_>,
    ) -> Result<Box<dyn Effect>, DefinitionError>;
}

macro_rules! steps {
    ($($name:literal => $step:ty,)+) => {
        /// Makes the effect of a step by its name.
        fn make(
            name: &str,
            spec: Value,
            parts: &Parts,
            compiler: &Compiler<'_>,
        ) -> Result<Box<dyn Effect>, DefinitionError> {
            match name {
                $($name => read::<$step>(name, spec, compiler)?.make(parts, compiler),)+
                _ => Err(compiler.unknown(format!("step {name}"))),
            }
        }
    };
}

steps! {
    "bind" => references::Bind,
    "call" => call::Call,
    "completion" => routing::Completion,
    "dispatched" => paths::Dispatched,
    "enter" => paths::Enter,
    "in_pool" => workers::InPool,
    "leave" => paths::Leave,
    "lives" => references::Lives,
    "queued" => routing::Queued,
    "set" => workers::Set,
    "wait" => alarm::Wait,
    "worker_down" => workers::WorkerDown,
    "worker_up" => workers::WorkerUp,
}

fn read<T: DeserializeOwned>(
    name: &str,
    spec: Value,
    compiler: &Compiler<'_>,
) -> Result<T, DefinitionError> {
    serde_json::from_value(spec).map_err(|error| compiler.unknown(format!("{name}: {error}")))
}

impl Effects for Parts {
    fn effect(
        &self,
        name: &str,
        spec: Value,
        compiler: &Compiler<'_>,
    ) -> Result<Box<dyn Effect>, DefinitionError> {
        make(name, spec, self, compiler)
    }

    fn claim(
        &self,
        spec: Value,
        compiler: &Compiler<'_>,
    ) -> Result<Box<dyn Claim>, DefinitionError> {
        read::<paths::ClaimSpec>("claim", spec, compiler)?.make(self, compiler)
    }

    fn alarm(&self, spikes: (Arc<Family>, usize), logs: bool) -> Box<dyn Alarm> {
        Box::new(alarm::Errors::new(self, spikes, logs))
    }
}
