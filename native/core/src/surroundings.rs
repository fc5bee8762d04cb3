//! What the plans of an instance share beside its families.

use std::sync::{Arc, OnceLock};

use crate::cache::Cache;
use crate::call_log::CallLog;
use crate::call_path::CallPaths;
use crate::id_set::IdSet;
use crate::level::Levels;
use crate::owner::Owners;
use crate::refs::Refs;
use crate::router::Router;
use crate::signal::Signals;
use crate::spike::Spikes;
use crate::throttle::Throttle;
use crate::usage::Usage;
use crate::window::Moment;

/// Tells the time. Asked only when something out of the ordinary happens, such as an error.
pub type Clock = Box<dyn Fn() -> Moment + Send + Sync>;

/// Tells the time of a router, in nanoseconds. It may be some milliseconds old: deciding asks for it
/// every time.
pub type RouterClock = fn() -> u64;

/// What the steps of a plan may use beside the families.
pub struct Surroundings {
    /// Classes of references.
    pub refs: Arc<Refs>,
    /// The workers that are alive.
    pub workers: IdSet,
    /// Pools of workers.
    pub pools: Refs,
    /// Which executions carry calls of a bridge.
    pub call_paths: CallPaths,
    /// Which emitter counts a tool.
    pub tool_owners: Owners,
    /// Which emitter counts a worker.
    pub worker_owners: Owners,
    /// The last failed and the slowest calls.
    pub call_log: CallLog,
    /// Gauges whose value an event tells.
    pub levels: Levels,
    /// Where requests go.
    pub router: Arc<Router>,
    /// The time of the router, once it is published.
    pub router_clock: OnceLock<RouterClock>,
    /// The time.
    pub clock: Clock,
    /// Where signals go.
    pub signals: Signals,
    /// Spikes of errors.
    pub spikes: Spikes,
    /// Which commands' waits were signalled lately.
    pub queue_waits: Throttle,
    /// Who was used how often.
    pub usage: Usage,
    /// Results of method calls, if they are cached.
    pub cache: Option<Arc<Cache>>,
}

impl Surroundings {
    /// The time of the router.
    pub(crate) fn router_now(&self) -> u64 {
        self.router_clock.get().map_or_else(|| (self.clock)().ns(), |clock| clock())
    }

    /// A worker is gone.
    #[cold]
    pub(crate) fn worker_down(&self, id: &str) {
        self.workers.remove(id);
        self.call_paths.forget_worker(id);
        self.levels.forget_worker(id);
        self.router.remove_worker(id);
        if let Some(cache) = &self.cache {
            cache.worker_died(id);
        }
    }
}
