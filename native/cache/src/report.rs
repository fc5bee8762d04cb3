//! What a cache tells of itself.

use serde::{Deserialize, Serialize};

use super::Cache;
use super::method::Method;
use super::rule::Verdict;
use telemetry_common::label::OVERFLOW_LABEL;
use telemetry_common::scalar::{Sample, Scalar, ScalarSpec};

/// A cache, as it is told.
#[derive(Clone, Debug, Serialize)]
pub struct CacheReport {
    /// Each method that was called, those that saved most time first.
    pub methods: Vec<MethodReport>,
    /// Results that are kept.
    pub entries: u64,
    /// Bytes that they take.
    pub bytes: u64,
    /// Bytes that they may take.
    pub max_bytes: u64,
}

/// What was observed of a method, and what follows from it.
#[derive(Clone, Debug, Serialize)]
pub struct MethodReport {
    /// The method.
    pub method: String,
    /// Its class.
    pub python_class: String,
    /// Whether results are kept now.
    pub cached: bool,
    /// Why.
    pub decision: String,
    /// How long a result lives that is stored now.
    pub ttl_ms: Option<u64>,
    /// Hits, joined and misses together.
    pub calls: u64,
    /// Calls that were answered by a result that was kept.
    pub hits: u64,
    /// Calls that were answered by the result of another caller's run.
    pub joined: u64,
    /// Calls whose function was run.
    pub misses: u64,
    /// Calls that waited for another caller's run and got no result, which are in none of the others.
    pub unanswered: u64,
    /// The share of recent calls, unanswered ones included, that a cache has answered or would have.
    pub hit_rate: f64,
    /// The share of recent repetitions whose result had changed.
    pub variance: f64,
    /// How long the function takes on average.
    pub mean_us: Option<f64>,
    /// How long the hits would have taken.
    pub time_saved_us: f64,
    /// Results that are kept.
    pub entries: u64,
    /// Bytes that they take.
    pub bytes: u64,
    /// Results that went because there was no room for them.
    pub evictions: u64,
    /// Results that were too large to be kept.
    pub too_large: u64,
}

impl CacheReport {
    /// A cache as it is now.
    pub fn new(cache: &Cache) -> Self {
        cache.store.settle();
        let methods = cache.methods();
        let mut methods: Vec<_> =
            methods.iter().map(|method| MethodReport::new(cache, method)).collect();
        methods.sort_by(|left, right| {
            let by_saved = right.time_saved_us.total_cmp(&left.time_saved_us);
            let names = |row: &MethodReport| (row.method.clone(), row.python_class.clone());
            by_saved.then(right.calls.cmp(&left.calls)).then_with(|| names(left).cmp(&names(right)))
        });
        let (entries, bytes) = (cache.store.entries(), cache.store.bytes());
        Self { methods, entries, bytes, max_bytes: cache.spec.max_bytes }
    }
}

impl MethodReport {
    fn new(cache: &Cache, method: &Method) -> Self {
        let (inputs, [hits, joined, unanswered], mean_ns, saved_ns) = method.observed(|observed| {
            let answered = [observed.hits(), observed.joined(), observed.unanswered()];
            (observed.inputs(), answered, observed.mean_ns(), observed.saved_ns())
        });
        let verdict = cache.verdict(method, inputs);
        let ttl_ms = match verdict {
            Verdict::Cached { ttl_ms } => Some(ttl_ms),
            _ => None,
        };
        let mut labels = method.labels().values().map(str::to_owned);
        Self {
            method: labels.next().unwrap_or_default(),
            python_class: labels.next().unwrap_or_default(),
            cached: verdict.is_cached(),
            decision: verdict.to_string(),
            ttl_ms,
            calls: inputs.calls,
            hits,
            joined,
            misses: inputs.calls.saturating_sub(hits + joined),
            unanswered,
            hit_rate: inputs.hit_rate,
            variance: inputs.variance,
            mean_us: mean_ns.map(|ns| ns / 1e3),
            time_saved_us: saved_ns / 1e3,
            entries: method.entries(),
            bytes: method.bytes(),
            evictions: method.evicted(),
            too_large: method.too_large(),
        }
    }

    fn quantity(&self, quantity: Quantity) -> f64 {
        match quantity {
            Quantity::Hits => self.hits as f64,
            Quantity::Joined => self.joined as f64,
            Quantity::Misses => self.misses as f64,
            Quantity::Evictions => self.evictions as f64,
            Quantity::TooLarge => self.too_large as f64,
            Quantity::TimeSavedSeconds => self.time_saved_us / 1e6,
            Quantity::Entries => self.entries as f64,
            Quantity::Bytes => self.bytes as f64,
            Quantity::HitRate => self.hit_rate,
            Quantity::Variance => self.variance,
            Quantity::Cached => f64::from(u8::from(self.cached)),
        }
    }
}

/// Something that a scrape tells of each method.
pub type Metric = ScalarSpec<Quantity>;

/// A number of a [`MethodReport`].
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Quantity {
    /// See [`MethodReport::hits`].
    Hits,
    /// See [`MethodReport::joined`].
    Joined,
    /// See [`MethodReport::misses`].
    Misses,
    /// See [`MethodReport::evictions`].
    Evictions,
    /// See [`MethodReport::too_large`].
    TooLarge,
    /// [`MethodReport::time_saved_us`] in seconds.
    TimeSavedSeconds,
    /// See [`MethodReport::entries`].
    Entries,
    /// See [`MethodReport::bytes`].
    Bytes,
    /// See [`MethodReport::hit_rate`].
    HitRate,
    /// See [`MethodReport::variance`].
    Variance,
    /// 1 while results are kept, else 0.
    Cached,
}

/// The cache's metrics, as many samples as there are methods.
pub fn scalars(cache: &Cache) -> Vec<Scalar> {
    let report = CacheReport::new(cache);
    let scalar = |metric: &Metric| {
        let sample = |row: &MethodReport| {
            let value = row.quantity(metric.of);
            if row.method == OVERFLOW_LABEL {
                Sample::new(&[(OVERFLOW_LABEL, "true")], value)
            } else {
                let labels = [("method", &*row.method), ("python_class", &*row.python_class)];
                Sample::new(&labels, value)
            }
        };
        metric.with(report.methods.iter().map(sample).collect())
    };
    cache.spec.metrics.iter().map(scalar).collect()
}
