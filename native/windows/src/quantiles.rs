//! Statistics over one or more points of a histogram.

use std::collections::BTreeSet;

use serde::Serialize;

use telemetry_recording::histogram::{Counts, Location, Precision};
use telemetry_recording::metric::HistogramMetric;
use telemetry_recording::point::{Point, total};

/// Merged samples of one histogram metric, with exact sum, minimum and maximum.
///
/// Merging adds the counts, so quantiles of the merged samples are as exact as those of one
/// series. Taken while recording goes on, the scalars may be ahead of or behind the counts by the
/// events in flight.
pub struct Samples {
    precision: Precision,
    counts: Counts,
    sum: u64,
    min: Option<u64>,
    max: Option<u64>,
}

impl Samples {
    /// No samples of a metric.
    pub fn new(metric: &HistogramMetric) -> Self {
        Self { precision: metric.precision, counts: Counts::new(), sum: 0, min: None, max: None }
    }

    /// Adds what a point has of a metric.
    pub fn add(&mut self, point: &Point, metric: &HistogramMetric) {
        let counts = point.counts(metric.index());
        if self.counts.is_empty() {
            self.counts.extend_from_slice(counts);
        } else {
            self.counts = merged(&self.counts, counts);
        }
        self.sum = self.sum.saturating_add(point.cell(metric.sum_cell()));
        self.min = self.min.into_iter().chain(point.min(metric)).min();
        self.max = self.max.max(point.max(metric));
    }

    /// All samples of several sets of the same metric. Takes time for each counter of each set, and not
    /// for each counter of the sum again and again.
    pub fn sum_of<'a>(sets: impl IntoIterator<Item = &'a Self>, metric: &HistogramMetric) -> Self {
        let mut sum = Self::new(metric);
        let mut counts = vec![0_u64; usize::from(u16::MAX) + 1];
        let mut places = BTreeSet::new();
        for set in sets {
            for (location, count) in &set.counts {
                let counter = &mut counts[usize::from(location.number())];
                if *counter == 0 {
                    places.insert(location.number());
                }
                *counter = counter.saturating_add(*count);
            }
            sum.sum = sum.sum.saturating_add(set.sum);
            sum.min = sum.min.into_iter().chain(set.min).min();
            sum.max = sum.max.max(set.max);
        }
        let count = |place: u16| (Location::from_number(place), counts[usize::from(place)]);
        sum.counts = places.into_iter().map(count).collect();
        sum
    }

    /// The counters that are not zero, in order of value.
    pub fn counts(&self) -> &[(Location, u64)] {
        &self.counts
    }

    /// How many samples.
    pub fn count(&self) -> u64 {
        total(&self.counts)
    }

    /// The exact sum, in stored units.
    pub fn sum(&self) -> u64 {
        self.sum
    }

    /// The largest sample, in stored units.
    pub fn max(&self) -> Option<u64> {
        self.max
    }

    /// The value below or at which a share `quantile` of the samples lies: the upper end of the
    /// HdrHistogram bucket, never more than the exact maximum. `None` without samples.
    pub fn quantile(&self, quantile: f64) -> Option<u64> {
        let [value] = self.quantiles([quantile]);
        value
    }

    /// Several quantiles in one pass; they have to be in ascending order.
    pub fn quantiles<const N: usize>(&self, quantiles: [f64; N]) -> [Option<u64>; N] {
        let max = self.max;
        of_counts(&self.counts, self.precision, quantiles).map(|value| value.min(max))
    }

    /// Statistics with every number divided by `divisor`.
    pub fn distribution(&self, divisor: f64) -> Distribution {
        let scaled = |value: Option<u64>| value.map(|value| value as f64 / divisor);
        let count = self.count();
        let mean = (count > 0).then(|| self.sum as f64 / count as f64 / divisor);
        let [p50, p90, p95, p99, p999] = self.quantiles([0.5, 0.9, 0.95, 0.99, 0.999]).map(scaled);
        Distribution {
            count,
            mean,
            min: scaled(self.min),
            max: scaled(self.max),
            p50,
            p90,
            p95,
            p99,
            p999,
        }
    }
}

/// Two lists of counts, each in order of value, as one.
fn merged(left: &[(Location, u64)], right: &[(Location, u64)]) -> Counts {
    let mut both = Counts::with_capacity(left.len() + right.len());
    let mut right = right.iter().copied().peekable();
    for &(location, count) in left {
        while let Some(before) = right.next_if(|(other, _)| *other < location) {
            both.push(before);
        }
        let same = right.next_if(|(other, _)| *other == location);
        both.push((location, count + same.map_or(0, |(_, count)| count)));
    }
    both.extend(right);
    both
}

/// Quantiles, in ascending order, of counts in order of value: the upper end of the counter in
/// which each lies, the lower one for the quantile 0, as in the `hdrhistogram` crate.
pub fn of_counts<const N: usize>(
    counts: &[(Location, u64)],
    precision: Precision,
    quantiles: [f64; N],
) -> [Option<u64>; N] {
    let total = total(counts);
    let mut counts = counts.iter();
    let mut at = None;
    let mut seen = 0;
    quantiles.map(|quantile| {
        let target = ((quantile * total as f64).ceil() as u64).clamp(1, total.max(1));
        while seen < target {
            let (location, count) = counts.next()?;
            seen += count;
            at = Some(*location);
        }
        at.map(|location| {
            if quantile == 0.0 {
                precision.lowest_value(location)
            } else {
                precision.highest_value(location)
            }
        })
    })
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
