//! An instance: the families and plans of one definition, from start to stop.

use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{
    Arc, Mutex, MutexGuard, OnceLock, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard,
};
use telemetry_common::lock::lock;

use crossbeam_channel::Receiver;
use serde::Deserialize;

use crate::alert::{AlertSpec, Alerts};
use crate::anomaly::CurrentAnomaly;
use crate::call_log::{CallLog, CallLogSpec};
use crate::call_path::{CallPathSpec, CallPaths};
use crate::effects::{Overflows, Parts, Workers};
use crate::event_gauge::{EventGaugeSpec, EventGauges};
use crate::gauge::Gauge;
use crate::info::{FamilyInfo, Info, Refused, Rejected, SelfQuantity};
use crate::owner::Owners;
use crate::router_time::{RouterClock, RouterTime};
use crate::signal::Sent;
use crate::spike::Spikes;
use crate::usage::{Usage, UsageError};
use telemetry_cache::{Cache, CacheSpec};
use telemetry_common::heap;
use telemetry_common::id_set::IdSet;
use telemetry_common::label::{self, LabelSet, OVERFLOW_LABEL};
use telemetry_common::moment::{Clock, Moment};
use telemetry_common::refs::Refs;
use telemetry_common::scalar::ScalarSpec;
use telemetry_recording::error::DefinitionError;
use telemetry_recording::family::UsageKind;
use telemetry_recording::family::{Family, FamilySpec};
use telemetry_recording::field::Reject;
use telemetry_recording::local;
use telemetry_recording::observation::{Group, ObservationSpec};
use telemetry_recording::plan::{Context, Lookups, Plan, PlanId};
use telemetry_recording::plan_spec::PlanSpec;
use telemetry_recording::point::Point;
use telemetry_recording::series::Series;
use telemetry_router::{Change, Router, RouterSpec, published};
use telemetry_windows::exporter::Exporter;
use telemetry_windows::window::{WindowSpec, Windows, WindowsInfo};

/// Everything that an instance is made from.
#[derive(Clone, Debug, Deserialize)]
pub struct Definition {
    /// The families, by name.
    pub families: Vec<FamilySpec>,
    /// The plans, one for each event.
    pub plans: Vec<PlanSpec>,
    /// What events feed of measures.
    #[serde(default)]
    pub observations: Vec<ObservationSpec>,
    /// Values that are looked up when they are asked for.
    #[serde(default)]
    pub gauges: Vec<Gauge>,
    /// Metrics about the instance itself.
    #[serde(default)]
    pub self_metrics: Vec<ScalarSpec<SelfQuantity>>,
    /// Gauges whose value an event tells.
    #[serde(default)]
    pub event_gauges: Vec<EventGaugeSpec>,
    /// How many label sets each of those has at most.
    #[serde(default)]
    pub event_gauge_limit: usize,
    /// How many references keep their class.
    pub ref_limit: usize,
    /// How many workers the pool's set holds.
    pub worker_limit: usize,
    /// How requests are routed. Without it there is no router.
    #[serde(default)]
    pub router: Option<RouterSpec>,
    /// How time is cut into slices.
    pub windows: WindowSpec,
    /// What is signalled.
    pub alerts: AlertSpec,
    /// Whether what it counts is exported as deltas, so that what a series has counted since the last
    /// export has to be kept when the series goes.
    #[serde(default)]
    pub exports_deltas: bool,
    /// How many names of each kind of thing that is used are counted one by one.
    pub usage_capacity: usize,
    /// How results of method calls are cached, if they are.
    #[serde(default)]
    pub cache: Option<CacheSpec>,
    /// Which executions carry calls of a bridge.
    #[serde(default)]
    pub call_paths: CallPathSpec,
    /// How many calls are kept one by one.
    #[serde(default)]
    pub call_log: CallLogSpec,
}

/// A running instance.
pub struct Instance {
    families: Vec<Arc<Family>>,
    gauges: Vec<Gauge>,
    self_metrics: Vec<ScalarSpec<SelfQuantity>>,
    plans: Vec<Arc<Plan>>,
    parts: Parts,
    usage: Arc<Usage>,
    router_number: OnceLock<u64>,
    exporter: Mutex<Exporter>,
    state: RwLock<State>,
    page_bytes: AtomicUsize,
    started_ms: u64,
}

/// Written by whatever ends a slice or removes series, so that a sweep brings none back that a stop
/// or reset has just removed, and no count is in two slices. Recording does not touch it; reports
/// read it, so that what they see of series and slices belongs together.
pub(crate) struct State {
    stopped: bool,
    pub(crate) windows: Windows,
}

impl Instance {
    /// Compiles a definition and makes its plans known to [`local::record`].
    ///
    /// # Errors
    ///
    /// [`DefinitionError`] says what in the definition is not allowed; nothing is left behind.
    ///
    /// `clock` is asked for the time of an error, and tells the time that other calls give as `now`.
    pub fn start(definition: Definition, clock: Clock) -> Result<Self, DefinitionError> {
        if definition.windows.slice_ms == 0 {
            return Err(DefinitionError::SliceLength);
        }
        let families: Vec<_> = definition
            .families
            .into_iter()
            .map(|spec| Family::new(spec).map(Arc::new))
            .collect::<Result<_, _>>()?;
        let now = clock();
        families.iter().for_each(|family| family.begin(now.unix_ms));
        let lookups = Arc::new(Lookups {
            classes: Arc::new(Refs::new(definition.ref_limit)),
            pools: Arc::new(Refs::new(definition.worker_limit)),
        });
        let cache = definition.cache.map(|spec| Cache::new(spec, Arc::clone(&lookups.classes)));
        let cache = cache.map(Arc::new);
        let alerts = Arc::new(Alerts::new(definition.alerts, &families));
        let usage = Arc::new(Usage::new(definition.usage_capacity));
        let call_paths = Arc::new(CallPaths::new(definition.call_paths));
        let event_gauges =
            Arc::new(EventGauges::new(definition.event_gauges, definition.event_gauge_limit));
        let router = Arc::new(definition.router.map_or_else(Router::off, Router::new));
        let router_time = Arc::new(RouterTime::new(Clock::clone(&clock)));
        let workers = Workers::new(
            definition.worker_limit,
            &call_paths,
            &event_gauges,
            &router,
            &router_time,
            cache.as_ref(),
        );
        let parts = Parts {
            alerts: Arc::clone(&alerts),
            cache,
            call_log: Arc::new(CallLog::new(definition.call_log)),
            call_paths,
            clock: Clock::clone(&clock),
            event_gauges,
            lookups: Arc::clone(&lookups),
            router,
            router_time,
            tool_owners: Arc::new(Owners::new(definition.ref_limit)),
            worker_owners: Arc::new(Owners::new(definition.worker_limit)),
            workers: Arc::new(workers),
        };
        let listener = Overflows { alerts, usage: Arc::clone(&usage), clock: Clock::clone(&clock) };
        let context = Arc::new(Context { lookups, clock, listener: Box::new(listener) });
        let plans = definition.plans.into_iter();
        let plans = plans.map(|spec| Plan::compile(spec, &families, &parts, Arc::clone(&context)));
        let observations = definition.observations.into_iter();
        let observations =
            observations.map(|spec| Plan::of_measures(spec, &families, Arc::clone(&context)));
        let plans: Vec<_> =
            plans.chain(observations).map(|plan| plan.map(Arc::new)).collect::<Result<_, _>>()?;
        let windows = Windows::new(definition.windows, families.len(), now.ms);
        plans.iter().for_each(local::publish);
        let state = RwLock::new(State { stopped: false, windows });
        let (gauges, self_metrics) = (definition.gauges, definition.self_metrics);
        let limits = families.iter().map(|family| family.series_limit());
        let exporter = Exporter::new(definition.exports_deltas, limits, now.unix_ms);
        Ok(Self {
            families,
            gauges,
            self_metrics,
            plans,
            parts,
            usage,
            router_number: OnceLock::new(),
            exporter: Mutex::new(exporter),
            state,
            page_bytes: AtomicUsize::new(0),
            started_ms: now.ms,
        })
    }

    /// Makes the router known to [`published::with_router`] under a number, in the place of any other.
    /// Where it was known under another number, nothing changes. `clock` tells the time that callers
    /// of the router give as `now`.
    pub fn publish_router(&self, number: u64, clock: RouterClock) {
        let state = self.write();
        if !state.stopped && self.router_number.set(number).is_ok() {
            // Together with the number, so it is the first.
            self.parts.router_time.set(clock);
            published::publish(number, self.router());
        }
    }

    /// Where requests go.
    pub fn router(&self) -> &Arc<Router> {
        &self.parts.router
    }

    /// Makes these the workers of the router, which gives back what those took that have left.
    pub fn put_workers<'a>(&self, ids: impl Iterator<Item = &'a str>, now_ns: u64) -> Change {
        let change = self.router().put_workers(ids, now_ns);
        if change.removed > 0 {
            published::forget();
        }
        change
    }

    /// The time of the router.
    pub fn router_now(&self) -> u64 {
        self.parts.router_time.now()
    }

    /// The id of each plan, in the definition's order, those of observations last.
    pub fn plan_ids(&self) -> impl Iterator<Item = PlanId> {
        self.plans.iter().map(|plan| plan.id())
    }

    /// Ends recording and frees the series: when it returns, nothing writes to the instance any
    /// more. Also done when the instance is dropped.
    pub fn stop(&self) {
        let mut state = self.write();
        if !state.stopped {
            state.stopped = true;
            if let Some(number) = self.router_number.get() {
                published::withdraw(*number, self.router());
            }
            self.router().stop();
            local::withdraw(self.plans.iter());
            self.count_uses((self.parts.clock)());
            self.families.iter().for_each(|family| drop(family.clear()));
            self.cache().inspect(|cache| cache.clear());
        }
    }

    /// Forgets all series, gauges, slices and rejections. Classes of references, living workers and who
    /// counts what stay known, since they are not counts of events.
    pub fn reset(&self, now: Moment) {
        let mut state = self.write();
        if state.stopped {
            return;
        }
        state.windows.clear(now.ms);
        self.exporter().reset(now.unix_ms);
        self.parts.alerts.clear();
        self.router().reset();
        self.parts.event_gauges.clear();
        self.parts.call_log.clear();
        let removed: Vec<_> = self
            .families
            .iter()
            .map(|family| {
                family.begin(now.unix_ms);
                family.clear()
            })
            .collect();
        local::drop_caches();
        // From here no thread can reach them, so all that they counted is known. Usage goes on.
        for (family, series) in self.families.iter().zip(removed) {
            series.iter().for_each(|series| self.count_uses_of(family, series, now));
        }
        for plan in &self.plans {
            plan.clear();
        }
        self.cache().inspect(|cache| cache.clear());
    }

    /// Removes series that had no event for `timeout_ms`; returns how many. What they counted stays
    /// in its slices.
    pub fn retire_idle(&self, now: Moment, timeout_ms: u64) -> usize {
        let mut state = self.write();
        if state.stopped {
            return 0;
        }
        let mut retired = 0;
        let mut collector = state.windows.collector();
        let mut exporter = self.exporter();
        for (index, family) in self.families.iter().enumerate() {
            family.tell_time(now.unix_ms);
            let removed = |series: &Series| self.count_uses_of(family, series, now);
            let on_retire = |series: &Series, delta: &mut Point| {
                if !family.layout().has_slices() {
                    return;
                }
                if series.take_delta(family.layout(), delta) {
                    collector.push(index, series.labels(), delta);
                }
                exporter.keep_unexported(index, series, family.layout(), delta);
            };
            retired +=
                family.retire_idle(now.ms, timeout_ms, local::drop_caches, removed, on_retire);
        }
        retired
    }

    /// Does what time brings: ends the slice that is under way if its time has come, and signals
    /// what is over. To be called at least once in the length of a slice, or slices get longer.
    pub fn tick(&self, now: Moment) {
        self.families.iter().for_each(|family| family.tell_time(now.unix_ms));
        self.parts.alerts.tick(now);
        self.cache().inspect(|cache| cache.tick(now.ms));
        self.parts.call_log.tick(now.ms);
        let state = self.write();
        if state.windows.is_due(now.ms) {
            self.end_slice_of(state, now);
        }
    }

    /// Forgets processes that ended in a call of a bridge; `is_alive` says whether one still lives. To be called now and
    /// then.
    pub fn forget_processes(&self, now: Moment, is_alive: impl Fn(u64) -> bool) {
        let since_start_ms = now.ms.saturating_sub(self.started_ms);
        self.parts.call_paths.tick(since_start_ms, now.ms, is_alive);
    }

    /// Takes a worker that is gone from those that are alive, as if an event had told so.
    pub fn forget_worker(&self, id: &[u8]) {
        self.parts.workers.down(&label::normalise(id));
    }

    /// Ends the slice of time that is under way.
    pub fn end_slice(&self, now: Moment) {
        self.end_slice_of(self.write(), now);
    }

    fn end_slice_of(&self, mut state: RwLockWriteGuard<'_, State>, now: Moment) {
        if state.stopped {
            return;
        }
        let mut collector = state.windows.collector();
        for (index, family) in self.families.iter().enumerate() {
            if !family.layout().has_slices() {
                continue;
            }
            let mut delta = Point::new(family.layout());
            let mut take = |series: &Series| {
                let taken = series.take_delta(family.layout(), &mut delta);
                if taken {
                    collector.push(index, series.labels(), &delta);
                    self.parts.alerts.slice(index, series.labels(), &delta, now);
                }
                taken
            };
            for batch in family.series().chunks(Series::BATCH) {
                Series::read_ahead(batch, family.layout());
                for series in batch {
                    if take(series) {
                        self.count_uses_of(family, series, now);
                    }
                }
            }
            // Its uses were told as they came.
            if let Some(overflow) = family.existing_overflow() {
                take(&overflow);
            }
        }
        self.parts.alerts.end_slice(now);
        let layouts: Vec<_> = self.families.iter().map(|family| family.layout()).collect();
        state.windows.end_slice(now.ms, &layouts);
    }

    /// The last failed and the slowest calls.
    pub fn call_log(&self) -> &CallLog {
        &self.parts.call_log
    }

    /// Which executions carry calls of a bridge.
    pub fn call_paths(&self) -> &CallPaths {
        &self.parts.call_paths
    }

    /// Results of method calls, if they are cached.
    pub fn cache(&self) -> Option<&Arc<Cache>> {
        self.parts.cache.as_ref()
    }

    /// Spikes of errors.
    pub fn spikes(&self) -> &Spikes {
        &self.parts.alerts.spikes
    }

    /// Unusual latencies that go on.
    pub fn anomalies(&self) -> Vec<CurrentAnomaly> {
        self.parts.alerts.current()
    }

    /// Where signals come out.
    pub fn signals(&self) -> Receiver<Sent> {
        self.parts.alerts.signals.receiver()
    }

    /// Who was used how often, as it stands now.
    pub fn usage(&self, now: Moment) -> &Usage {
        let _nobody_else_counts = self.write();
        // A stop or a reset has counted them for the last time before it let series go.
        self.count_uses(now);
        &self.usage
    }

    /// Who was used how often, as far as it has been told.
    pub fn usage_so_far(&self) -> &Usage {
        &self.usage
    }

    /// Says what there is of a kind, so that reports can tell what of it was never used.
    ///
    /// # Errors
    ///
    /// [`UsageError`] if there is more than fits.
    pub fn declare(&self, kind: UsageKind, names: &[&str]) -> Result<(), UsageError> {
        self.usage.declare(kind, names.iter().copied())
    }

    /// Adds to the usage what series have counted since the last time. One caller at a time.
    fn count_uses(&self, now: Moment) {
        for family in self.families.iter().filter(|family| family.usage().is_some()) {
            // Events of the overflow series have been told as they came.
            for series in family.series() {
                self.count_uses_of(family, &series, now);
            }
        }
    }

    fn count_uses_of(&self, family: &Family, series: &Series, now: Moment) {
        let Some((usage, counter)) = family.usage_counter() else {
            return;
        };
        let uses = series.take_uses(counter.cells());
        if uses > 0 {
            let name = usage.name(series.labels());
            self.usage.add(usage.kind(), &name, uses, now.unix_ms_u64());
        }
    }

    /// How much whoever renders the live page keeps for it, which counts as the instance's.
    pub fn tell_page_bytes(&self, bytes: usize) {
        self.page_bytes.store(bytes, Relaxed);
    }

    pub(crate) fn state(&self) -> RwLockReadGuard<'_, State> {
        self.state.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// What is known of exports. Not to be asked for before the state.
    pub fn exporter(&self) -> MutexGuard<'_, Exporter> {
        lock(&self.exporter)
    }

    fn write(&self) -> RwLockWriteGuard<'_, State> {
        self.state.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// The family with this name.
    pub fn family(&self, name: &str) -> Option<&Arc<Family>> {
        self.families.iter().find(|family| family.name() == name)
    }

    /// The gauges, in the definition's order.
    pub fn gauges(&self) -> &[Gauge] {
        &self.gauges
    }

    /// The metrics about the instance itself, in the definition's order.
    pub fn self_metrics(&self) -> &[ScalarSpec<SelfQuantity>] {
        &self.self_metrics
    }

    /// All families, in the definition's order.
    pub fn families(&self) -> &[Arc<Family>] {
        &self.families
    }

    /// Gauges whose value an event tells.
    pub fn event_gauges(&self) -> &EventGauges {
        &self.parts.event_gauges
    }

    /// The workers that are alive.
    pub fn workers(&self) -> &IdSet {
        self.parts.workers.alive()
    }

    /// The series with these label values, normalised as those of events are, and the place of the
    /// histogram with this name in it. Labels that are all [`OVERFLOW_LABEL`] mean the overflow
    /// series.
    pub fn find_histogram(
        &self,
        histogram: &str,
        labels: &[&[u8]],
    ) -> Option<(Arc<Series>, usize)> {
        let (family, index) = self.place_of_histogram(histogram)?;
        let normal: Vec<_> = labels.iter().map(|value| label::normalise(value)).collect();
        let series = if !normal.is_empty() && normal.iter().all(|value| value == OVERFLOW_LABEL) {
            family.existing_overflow()?
        } else {
            family.get(&LabelSet::new(normal.iter().map(|value| &**value)))?
        };
        Some((series, index))
    }

    /// The family that has a histogram with this name, and the place of the histogram in it.
    pub fn place_of_histogram(&self, histogram: &str) -> Option<(&Arc<Family>, usize)> {
        self.families.iter().find_map(|family| {
            let metrics = family.layout().histograms();
            Some((family, metrics.iter().position(|metric| metric.name == histogram)?))
        })
    }

    /// Rejected events by name and reason. Two plans may be for events of the same name.
    fn rejected(&self) -> Vec<Rejected> {
        let mut rejected: Vec<Rejected> = Vec::new();
        for plan in &self.plans {
            for reason in Reject::ALL {
                let (event, count) = (plan.event(), plan.rejected(reason));
                let is_same =
                    |other: &&mut Rejected| other.event == event && other.reason == reason.name();
                match rejected.iter_mut().find(is_same) {
                    _ if count == 0 => {}
                    Some(same) => same.count += count,
                    None => {
                        rejected.push(Rejected {
                            event: event.to_owned(),
                            reason: reason.name(),
                            count,
                        });
                    }
                }
            }
        }
        rejected
    }

    /// The instance's own state.
    pub fn info(&self) -> Info {
        let memory_bytes = self.families.iter().map(|family| family.memory_bytes());
        self.info_with(memory_bytes, self.read().windows().info())
    }

    /// The instance's own state, when the memory of each family is known.
    pub fn info_with(
        &self,
        memory_bytes: impl Iterator<Item = usize>,
        windows: WindowsInfo,
    ) -> Info {
        let families = self.families.iter().zip(memory_bytes);
        let families = families.map(|(family, memory_bytes)| FamilyInfo {
            event: family.name().to_owned(),
            series: family.series_count(),
            limit: family.series_limit(),
            overflow: family.overflow_total(),
            memory_bytes,
        });
        let families: Vec<_> = families.collect();
        let refused = self.plans.iter().flat_map(|plan| plan.groups()).flat_map(Group::refusals);
        let refused = refused.filter(|(_, _, count)| *count > 0);
        let refused = refused.map(|(metric, reason, count)| Refused {
            metric: metric.to_owned(),
            reason: reason.name(),
            count,
        });
        let refs = &self.parts.lookups.classes;
        let workers = self.parts.workers.alive();
        Info {
            memory_bytes: heap::sum([
                heap::sum(families.iter().map(|family| family.memory_bytes)),
                refs.memory_bytes(),
                workers.memory_bytes(),
                self.event_gauges().memory_bytes(),
                self.parts.lookups.pools.memory_bytes(),
                self.parts.call_paths.memory_bytes(),
                self.parts.tool_owners.memory_bytes(),
                self.parts.worker_owners.memory_bytes(),
                self.call_log().memory_bytes(),
                windows.memory_bytes,
                self.parts.alerts.memory_bytes(),
                self.parts.alerts.spikes.memory_bytes(),
                self.usage.memory_bytes(),
                self.cache().map_or(0, |cache| cache.memory_bytes()),
                self.router().memory_bytes(),
                self.page_bytes.load(Relaxed),
            ]),
            series: families,
            rejected: self.rejected(),
            metrics_rejected: refused.collect(),
            refs: refs.len(),
            workers: workers.len(),
            workers_overflow: workers.overflow_total(),
            windows,
            signals_dropped: self.parts.alerts.signals.dropped_total(),
            spikes_untracked: self.parts.alerts.spikes.untracked(),
        }
    }
}

impl Drop for Instance {
    fn drop(&mut self) {
        self.stop();
    }
}
