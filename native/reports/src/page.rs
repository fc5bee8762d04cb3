//! What the live page shows: the numbers of a window, and how they came about over the last hour.
//!
//! Its size is bounded, whatever there is: so many methods have a row of their own and the others are
//! summed, of other lists there are the first, each with how long it is in full, and time is cut into
//! at most [`MOST_SLOTS`] parts.

mod heatmap;
mod history;
mod slots;

use serde::{Deserialize, Serialize};

use crate::errors::Errors;
use crate::report::{Calls, CountBy, Operation, Sessions, Tool, View};
use crate::source::{Live, Source};
use telemetry_cache::report::{CacheReport, MethodReport};
use telemetry_common::moment::Moment;
use telemetry_instance::call_log::LoggedCall;
use telemetry_instance::instance::Instance;
use telemetry_instance::signal::{DescribedAnomaly, DescribedSpike, DescribedSpikeOver};
use telemetry_instance::usage::{ByKind, KindReport, Used};
use telemetry_recording::family::Role;
use telemetry_recording::metric::NANOSECONDS_PER_MICROSECOND;
use telemetry_router::{RouterReport, WorkerReport};
use telemetry_windows::quantiles::Distribution;
use telemetry_windows::window::{Interval, Window};

pub use heatmap::Heatmap;
pub use history::SharedMemo;
pub use history::{History, QueueHistory, Series};
pub use slots::MOST_SLOTS;

/// How much there is of every list but the one of methods.
pub const MOST_ROWS: usize = 50;
/// How many single calls there are of those that failed and of the slowest, whatever the instance keeps.
pub const MOST_CALLS: usize = 20;
/// How many reasons a method has.
pub const MOST_REASONS: usize = 3;
const MOST_USED: usize = 10;

/// What is wanted.
#[derive(Clone, Debug, Deserialize)]
pub struct PageSpec {
    /// The name of the instance, for whoever looks.
    pub instance: String,
    /// Whether its handlers are attached.
    pub attached: bool,
    /// How many methods have a row of their own, those that were called most.
    pub methods: usize,
}

/// What the live page shows.
#[derive(Clone, Debug, Serialize)]
pub struct Page {
    /// The name of the instance.
    pub instance: String,
    /// Whether its handlers are attached.
    pub attached: bool,
    /// When all this was so, in milliseconds since 1970, UTC.
    pub now_unix_ms: i64,
    /// The time that the numbers cover, but for the history and what is told as it is now.
    pub interval: Interval,
    /// Method calls.
    pub methods: Methods,
    /// The last hour.
    pub history: History,
    /// Errors.
    pub errors: PageErrors,
    /// The slowest calls, the slowest first.
    pub slowest: First<LoggedCall>,
    /// The worker pool.
    pub pool: PagePool,
    /// Tool calls, those that took most time in total first.
    pub tools: First<Tool>,
    /// Sessions.
    pub sessions: Sessions,
    /// What was used how often in all time.
    pub usage: PageUsage,
    /// Where requests were sent.
    pub router: PageRouter,
    /// Results that were kept, if there is a cache.
    pub cache: Option<PageCache>,
    /// The instance's own state.
    pub state: State,
}

/// The first of a list.
#[derive(Clone, Debug, Serialize)]
pub struct First<Row> {
    /// The first rows.
    pub rows: Vec<Row>,
    /// How many rows there are in full.
    pub total: usize,
}

impl<Row> First<Row> {
    fn new(mut rows: Vec<Row>, most: usize) -> Self {
        let total = rows.len();
        rows.truncate(most);
        Self { rows, total }
    }
}

/// Method calls.
#[derive(Clone, Debug, Serialize)]
pub struct Methods {
    /// The methods that were called most, most calls first.
    pub rows: Vec<MethodRow>,
    /// How many methods there are in full.
    pub total: usize,
    /// All methods without a row, as one.
    pub rest: Option<Total>,
    /// All methods.
    pub all: Option<Total>,
}

/// Calls of one method.
#[derive(Clone, Debug, Serialize)]
pub struct MethodRow {
    /// As in the report, with the most frequent reasons only.
    #[serde(flatten)]
    pub operation: Operation,
    /// Over the last hour.
    pub series: Series,
}

/// Calls of several methods.
#[derive(Clone, Debug, Serialize)]
pub struct Total {
    /// Of how many methods.
    pub methods: usize,
    /// Completed calls, exceptions included.
    pub count: u64,
    /// Exceptions and calls that reported no success.
    pub errors: u64,
    /// Errors divided by completed calls.
    pub error_rate: f64,
    /// Exact mean, minimum and maximum, and quantiles, in microseconds.
    pub latency_us: Distribution,
}

/// Errors.
#[derive(Clone, Debug, Serialize)]
pub struct PageErrors {
    /// How many calls failed.
    pub errors: u64,
    /// The same by kind.
    pub by_kind: CountBy,
    /// The same by reason, the most frequent first.
    pub by_reason: First<(String, u64)>,
    /// The last calls that failed, the newest first.
    pub last_failures: First<LoggedCall>,
    /// Spikes that go on, the earliest first.
    pub spikes: First<DescribedSpike>,
    /// Spikes that were over within the history, the latest first.
    pub recent_spikes: First<DescribedSpikeOver>,
    /// Unusual latencies that go on, the earliest first.
    pub anomalies: First<DescribedAnomaly>,
}

/// The worker pool.
#[derive(Clone, Debug, Serialize)]
pub struct PagePool {
    /// Workers that are alive.
    pub size: u64,
    /// Workers that were started.
    pub spawned: u64,
    /// Workers that died, by reason, the most frequent first.
    pub died: First<(String, u64)>,
    /// How long workers took to start, in microseconds.
    pub startup_us: Distribution,
    /// How long dead workers had lived, in milliseconds.
    pub lifetime_ms: Distribution,
    /// How long requests waited for a worker, in microseconds.
    pub queue_wait_us: Distribution,
    /// The same by command, those with most waits first.
    pub commands: First<CommandRow>,
}

/// How long requests of a command waited for a worker.
#[derive(Clone, Debug, Serialize)]
pub struct CommandRow {
    /// The command.
    pub command: String,
    /// In microseconds.
    pub queue_wait_us: Distribution,
}

/// What was used how often.
#[derive(Clone, Debug, Serialize)]
pub struct PageUsage {
    /// All uses of all kinds.
    pub total: u64,
    /// The part of the total that was restored.
    pub before: u64,
    /// The same by kind, with names.
    pub kinds: ByKind<PageKind>,
}

/// What was used how often, of one kind.
#[derive(Clone, Debug, Serialize)]
pub struct PageKind {
    /// All uses.
    pub total: u64,
    /// Whether all counts are exact.
    pub exact: bool,
    /// The names that were used most, and how many are known.
    pub most_used: First<Used>,
    /// Declared names without a use.
    pub never_used: First<String>,
}

/// Where requests were sent.
#[derive(Clone, Debug, Serialize)]
pub struct PageRouter {
    /// The workers that were chosen most often.
    pub workers: First<WorkerReport>,
    /// How many commands are told apart.
    pub commands: usize,
    /// How many requests were routed, by reason.
    pub decisions: CountBy,
    /// How many keys have a worker.
    pub sticky_keys: usize,
    /// How many workers found no room.
    pub refused: u64,
}

/// Results that were kept.
#[derive(Clone, Debug, Serialize)]
pub struct PageCache {
    /// The methods that saved most time.
    pub methods: First<MethodReport>,
    /// Calls that were answered by a result that was kept, over all methods.
    pub hits: u64,
    /// Calls that were answered by another caller's run.
    pub joined: u64,
    /// Calls whose function was run.
    pub misses: u64,
    /// How long the hits would have taken.
    pub time_saved_us: f64,
    /// Results that are kept.
    pub entries: u64,
    /// Bytes that they take.
    pub bytes: u64,
    /// Bytes that they may take.
    pub max_bytes: u64,
}

/// The instance's own state.
#[derive(Clone, Debug, Serialize)]
pub struct State {
    /// How many series there are.
    pub series: usize,
    /// Events that went to an overflow series.
    pub overflow: u64,
    /// Events that were rejected.
    pub rejected: u64,
    /// Alerts for which there was no room.
    pub signals_dropped: u64,
    /// Bytes allocated.
    pub memory_bytes: usize,
}

impl Page {
    /// Reads an instance while it goes on recording. The memo is always the same of an instance.
    pub fn new(
        instance: &Instance,
        memo: &SharedMemo,
        spec: &PageSpec,
        window: Window,
        now: Moment,
    ) -> Self {
        // Each of these takes the lock that the reader holds, so they come one after the other.
        let usage = PageUsage::new(instance, now);
        let state = State::new(instance);
        let errors = Errors::new(instance, window, now);
        let reader = instance.read();
        let source = Live::new(&reader, window, now);
        let view = View(&source);
        let interval = source.interval();
        let calls = view.merged_calls(Role::Calls, 2);
        let (pool, tools, sessions) =
            (view.pool(), view.calls(Role::Tools, 1, Tool::from_calls), view.sessions());
        let mut ranked: Vec<_> = calls.iter().collect();
        ranked.sort_by_key(|(_, calls)| std::cmp::Reverse(calls.count));
        let rest = ranked.split_off(ranked.len().min(spec.methods));
        let operation = |(labels, calls): &(&Vec<String>, &Calls)| {
            Operation::from_calls((*labels).clone(), calls)
        };
        let mut operations: Vec<_> = ranked.iter().filter_map(operation).collect();
        view.explain(&mut operations);
        let names: Vec<_> = ranked.iter().map(|(labels, _)| labels.as_slice()).collect();
        let total = |rows: &[(&Vec<String>, &Calls)]| Total::new(&view, rows);
        let (rest_total, all) = (total(&rest), total(&calls.iter().collect::<Vec<_>>()));
        let (history, series) = memo.with(|memo| {
            let shown = history::read(reader, now, &names, memo);
            instance.tell_page_bytes(memo.memory_bytes());
            shown
        });
        let row = |(mut operation, series): (Operation, _)| {
            operation.reasons.truncate(MOST_REASONS);
            MethodRow { operation, series }
        };
        let rows = operations.into_iter().zip(series).map(row).collect();
        let methods = Methods { rows, total: calls.len(), rest: rest_total, all };
        let slowest = instance.call_log().slowest(&interval);
        Self {
            instance: spec.instance.clone(),
            attached: spec.attached,
            now_unix_ms: now.unix_ms,
            interval,
            methods,
            errors: PageErrors::new(errors, history.begins_unix_ms()),
            history,
            slowest: First::new(slowest, MOST_CALLS),
            pool: PagePool::new(pool),
            tools: First::new(tools, MOST_ROWS),
            sessions,
            usage,
            router: PageRouter::new(instance.router().report(instance.router_now())),
            cache: instance.cache().map(|cache| PageCache::new(CacheReport::new(cache))),
            state,
        }
    }

    /// The page as JSON text.
    ///
    /// # Errors
    ///
    /// None that a page can cause: all keys are text and all numbers finite.
    pub fn to_json(&self) -> serde_json::Result<String> {
        serde_json::to_string(self)
    }
}

impl Total {
    fn new(view: &View<'_>, rows: &[(&Vec<String>, &Calls)]) -> Option<Self> {
        let metric = view.family(Role::Calls)?.layout().histograms().first()?;
        let calls: Vec<_> = rows.iter().map(|(_, calls)| *calls).collect();
        let sum = Calls::sum_of(&calls, metric);
        (sum.count > 0).then(|| Self {
            methods: rows.len(),
            count: sum.count,
            errors: sum.errors,
            error_rate: sum.errors as f64 / sum.count as f64,
            latency_us: sum.latency.distribution(NANOSECONDS_PER_MICROSECOND),
        })
    }
}

/// Counts, the largest first.
fn ranked(counts: CountBy) -> First<(String, u64)> {
    let mut counts: Vec<_> = counts.into_iter().collect();
    counts.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
    First::new(counts, MOST_ROWS)
}

impl PageErrors {
    fn new(errors: Errors, from_unix_ms: i64) -> Self {
        let mut recent = errors.recent_spikes;
        recent.retain(|spike| spike.last_unix_ms >= from_unix_ms);
        Self {
            errors: errors.errors,
            by_kind: errors.by_kind,
            by_reason: ranked(errors.by_reason),
            last_failures: First::new(errors.last_failures, MOST_CALLS),
            spikes: First::new(errors.spikes, MOST_ROWS),
            recent_spikes: First::new(recent, MOST_ROWS),
            anomalies: First::new(errors.anomalies, MOST_ROWS),
        }
    }
}

impl PagePool {
    fn new(pool: crate::report::Pool) -> Self {
        let row = |(command, queue_wait_us)| CommandRow { command, queue_wait_us };
        let mut commands: Vec<_> = pool.queue_wait_us_by_command.into_iter().map(row).collect();
        commands.retain(|row| row.queue_wait_us.count > 0);
        commands.sort_by_key(|row| std::cmp::Reverse(row.queue_wait_us.count));
        Self {
            size: pool.size,
            spawned: pool.spawned,
            died: ranked(pool.died),
            startup_us: pool.startup_us,
            lifetime_ms: pool.lifetime_ms,
            queue_wait_us: pool.queue_wait_us,
            commands: First::new(commands, MOST_ROWS),
        }
    }
}

impl PageUsage {
    fn new(instance: &Instance, now: Moment) -> Self {
        let report = instance.usage(now).report(MOST_USED);
        let kind = |kind: &KindReport| PageKind {
            total: kind.total,
            exact: kind.exact,
            most_used: First { rows: kind.most_used.clone(), total: kind.names },
            never_used: First::new(kind.never_used.clone(), MOST_USED),
        };
        let kinds = ByKind::new(|of| kind(report.kinds.get(of)));
        Self { total: report.total, before: report.before, kinds }
    }
}

impl PageRouter {
    fn new(report: RouterReport) -> Self {
        let mut workers = report.workers;
        workers.sort_by_key(|worker| std::cmp::Reverse(worker.decisions));
        let decisions = report.decisions.into_iter();
        Self {
            workers: First::new(workers, MOST_ROWS),
            commands: report.commands.len(),
            decisions: decisions.map(|(reason, count)| (reason.to_owned(), count)).collect(),
            sticky_keys: report.sticky_keys,
            refused: report.refused,
        }
    }
}

impl PageCache {
    fn new(report: CacheReport) -> Self {
        let sum = |of: fn(&MethodReport) -> u64| report.methods.iter().map(of).sum();
        Self {
            hits: sum(|method| method.hits),
            joined: sum(|method| method.joined),
            misses: sum(|method| method.misses),
            time_saved_us: report.methods.iter().map(|method| method.time_saved_us).sum(),
            entries: report.entries,
            bytes: report.bytes,
            max_bytes: report.max_bytes,
            methods: First::new(report.methods, MOST_ROWS),
        }
    }
}

impl State {
    fn new(instance: &Instance) -> Self {
        let info = instance.info();
        Self {
            series: info.series.iter().map(|family| family.series).sum(),
            overflow: info.series.iter().map(|family| family.overflow).sum(),
            rejected: info.rejected.iter().map(|rejected| rejected.count).sum(),
            signals_dropped: info.signals_dropped,
            memory_bytes: info.memory_bytes,
        }
    }
}
