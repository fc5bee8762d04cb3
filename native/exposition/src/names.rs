//! Which counters keep their whole name in OpenMetrics.
//!
//! There a metric owns its name, and that name with every suffix that samples of its type may have. No two may
//! own the same. `_total` belongs to a counter's samples: `shop_total` is the metric `shop`, which owns
//! `shop_created` too. Where another metric owns one of these, the counter is of unknown type: then it owns
//! its whole name and nothing else. Other kinds have no such way out, so their names are settled before an
//! instance starts.

use std::collections::HashSet;

use super::encoder::MetricKind;
use super::measured;
use telemetry_common::scalar::Kind;
use telemetry_instance::instance::Instance;

pub(crate) const TOTAL: &str = "_total";

/// Counters that end in `_total` and cannot do without.
#[derive(Default)]
pub(crate) struct WholeNames<'a>(HashSet<&'a str>);

impl<'a> WholeNames<'a> {
    /// Those of an instance. What it says of itself, its router and its cache has prefixes that no other metric has.
    pub(crate) fn of(instance: &'a Instance) -> Self {
        let counter = MetricKind::Scalar(Kind::Counter);
        let gauge = MetricKind::Scalar(Kind::Gauge);
        let of_families = instance.families().iter().flat_map(|family| {
            let layout = family.layout();
            let counters = layout.counters().iter().map(move |metric| (counter, &*metric.name));
            let histograms = layout.histograms().iter();
            let histograms = histograms.map(|metric| (MetricKind::Histogram, &*metric.name));
            let measures = layout.measures().iter();
            let measures = measures.map(|measure| (measured::kind(measure), &*measure.name));
            counters.chain(histograms).chain(measures)
        });
        let gauges = instance.gauges().iter().map(|metric| &*metric.name);
        let gauges = gauges.chain(instance.event_gauges().names()).map(|name| (gauge, name));
        Self::among(&of_families.chain(gauges).collect::<Vec<_>>())
    }

    /// Those among these metrics. Of two counters that cannot both do without, the first does.
    pub(crate) fn among(metrics: &[(MetricKind, &'a str)]) -> Self {
        let mut owned: HashSet<String> = HashSet::new();
        for (kind, name) in metrics {
            owned.extend(suffixes(*kind).iter().map(|suffix| format!("{name}{suffix}")));
        }
        let is_counter = |kind| kind == MetricKind::Scalar(Kind::Counter);
        let counters = metrics.iter().filter(|(kind, _)| is_counter(*kind));
        let whole = counters.filter_map(|(_, name)| {
            let base = name.strip_suffix(TOTAL)?;
            let more = [base.to_owned(), format!("{base}_created")];
            if more.iter().any(|name| owned.contains(name)) {
                return Some(*name);
            }
            owned.extend(more);
            None
        });
        Self(whole.collect())
    }

    pub(crate) fn contains(&self, name: &str) -> bool {
        self.0.contains(name)
    }
}

/// What a metric owns its name with at least.
fn suffixes(kind: MetricKind) -> &'static [&'static str] {
    match kind {
        MetricKind::Scalar(Kind::Counter | Kind::Gauge) => &[""],
        MetricKind::Histogram => &["", "_bucket", "_sum", "_count", "_created"],
        MetricKind::Summary => &["", "_sum", "_count", "_created"],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const COUNTER: MetricKind = MetricKind::Scalar(Kind::Counter);
    const GAUGE: MetricKind = MetricKind::Scalar(Kind::Gauge);

    fn whole<'a>(metrics: &[(MetricKind, &'a str)]) -> Vec<&'a str> {
        let mut whole: Vec<_> = WholeNames::among(metrics).0.into_iter().collect();
        whole.sort_unstable();
        whole
    }

    #[test]
    fn a_counter_keeps_its_whole_name_where_another_metric_owns_one_of_its_names() {
        for (kind, name) in [
            (GAUGE, "shop"),
            (COUNTER, "shop"),
            (GAUGE, "shop_created"),
            (COUNTER, "shop_created"),
            (MetricKind::Histogram, "shop"),
            (MetricKind::Summary, "shop"),
        ] {
            for metrics in
                [[(COUNTER, "shop_total"), (kind, name)], [(kind, name), (COUNTER, "shop_total")]]
            {
                assert_eq!(whole(&metrics), ["shop_total"], "{name}");
            }
        }
    }

    #[test]
    fn a_counter_keeps_its_whole_name_where_a_histogram_or_summary_has_such_samples() {
        let counters = ["x_bucket_total", "x_count_total", "x_created_total", "x_sum_total"];
        let beside = |kind| {
            let mut metrics = vec![(kind, "x")];
            metrics.extend(counters.map(|name| (COUNTER, name)));
            metrics
        };
        assert_eq!(whole(&beside(MetricKind::Histogram)), counters);
        assert_eq!(whole(&beside(MetricKind::Summary)), counters[1..]);
        assert!(whole(&beside(GAUGE)).is_empty());
    }

    #[test]
    fn of_two_counters_the_second_keeps_its_whole_name() {
        let (left, right) = ((COUNTER, "a_total"), (COUNTER, "a_created_total"));
        assert_eq!(whole(&[left, right]), ["a_created_total"]);
        assert_eq!(whole(&[right, left]), ["a_total"]);
        assert_eq!(whole(&[(COUNTER, "a_total"), (COUNTER, "a_total_total")]), ["a_total_total"]);
    }

    #[test]
    fn all_else_keeps_its_name_anyway() {
        let other = (MetricKind::Summary, "a_total");
        assert!(
            whole(&[(GAUGE, "b_total"), other, (COUNTER, "c"), (COUNTER, "d_total")]).is_empty()
        );
    }
}
