//! Statistics over one or more series of a histogram.

use hdrhistogram::Histogram as Snapshot;
use serde::Serialize;

use crate::histogram::empty_snapshot;
use crate::metric::HistogramMetric;
use crate::series::Series;

/// Merged samples of one histogram metric, with exact sum, minimum and maximum.
///
/// Merging adds the counts, so quantiles of the merged samples are as exact as those of one
/// series. Taken while recording goes on, the scalars may be ahead of or behind the counts by the
/// events in flight.
pub struct Samples {
    counts: Snapshot<u64>,
    sum: u64,
    min: Option<u64>,
    max: Option<u64>,
}

impl Samples {
    /// No samples of a metric.
    pub fn new(metric: &HistogramMetric) -> Self {
        Self { counts: empty_snapshot(metric.precision), sum: 0, min: None, max: None }
    }

    /// Adds what a series holds for the family's n-th histogram.
    pub fn add(&mut self, series: &Series, index: usize, metric: &HistogramMetric) {
        // Counts first: a sample reaches them last, so whatever is seen counted has, on hardware
        // that keeps stores in order, already moved sum, minimum and maximum.
        series.add_samples_to(&mut self.counts, index);
        self.sum = self.sum.saturating_add(series.sum(metric));
        self.min = self.min.into_iter().chain(series.min(metric)).min();
        self.max = self.max.max(series.max(metric));
    }

    /// How many samples.
    pub fn count(&self) -> u64 {
        self.counts.len()
    }

    /// The exact sum, in stored units.
    pub fn sum(&self) -> u64 {
        self.sum
    }

    /// The value below or at which a share `quantile` of the samples lies: the upper end of the
    /// HdrHistogram bucket, never more than the exact maximum. `None` without samples.
    pub fn quantile(&self, quantile: f64) -> Option<u64> {
        let max = self.max?;
        (!self.counts.is_empty()).then(|| self.counts.value_at_quantile(quantile).min(max))
    }

    /// Statistics with every number divided by `divisor`.
    pub fn distribution(&self, divisor: f64) -> Distribution {
        let scaled = |value: Option<u64>| value.map(|value| value as f64 / divisor);
        let count = self.count();
        let mean = (count > 0).then(|| self.sum as f64 / count as f64 / divisor);
        Distribution {
            count,
            mean,
            min: scaled(self.min),
            max: scaled(self.max),
            p50: scaled(self.quantile(0.5)),
            p90: scaled(self.quantile(0.9)),
            p95: scaled(self.quantile(0.95)),
            p99: scaled(self.quantile(0.99)),
            p999: scaled(self.quantile(0.999)),
        }
    }
}

/// Statistics in the unit that the place where they stand names. Without samples all but the
/// count are absent.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Distribution {
    /// Number of samples.
    pub count: u64,
    /// Exact mean.
    pub mean: Option<f64>,
    /// Exact minimum.
    pub min: Option<f64>,
    /// Exact maximum.
    pub max: Option<f64>,
    /// Median, to the histogram's precision, as the other quantiles.
    pub p50: Option<f64>,
    /// 0.9 quantile.
    pub p90: Option<f64>,
    /// 0.95 quantile.
    pub p95: Option<f64>,
    /// 0.99 quantile.
    pub p99: Option<f64>,
    /// 0.999 quantile.
    pub p999: Option<f64>,
}

impl Distribution {
    /// No samples.
    pub const EMPTY: Self = Self {
        count: 0,
        mean: None,
        min: None,
        max: None,
        p50: None,
        p90: None,
        p95: None,
        p99: None,
        p999: None,
    };
}
