//! What a report says of metrics that keep quantiles of measures.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::source::Source;
use telemetry_common::label::LabelSet;
use telemetry_recording::measure::{QUANTILES, Reading, Total};
use telemetry_recording::point::Point;

/// One series of a summary.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct SummaryRow {
    /// The metric's name.
    pub name: String,
    /// Its labels; those of everything over the limit are all `otel_metric_overflow`.
    pub labels: BTreeMap<String, String>,
    /// How many numbers.
    pub count: u64,
    /// Their sum.
    pub sum: Total,
    /// Their mean.
    pub mean: f64,
    /// Exact minimum.
    pub min: f64,
    /// Exact maximum.
    pub max: f64,
    /// Median, to the histogram's precision, as the other quantiles.
    pub p50: f64,
    /// 0.9 quantile.
    pub p90: f64,
    /// 0.95 quantile.
    pub p95: f64,
    /// 0.99 quantile.
    pub p99: f64,
    /// 0.999 quantile.
    pub p999: f64,
}

const _: () = assert!(QUANTILES.len() == 5, "a row has a field for each");

/// The summaries of a source, in the definition's order, and in that of their labels, the overflow series last.
pub(crate) fn rows(source: &dyn Source) -> Vec<SummaryRow> {
    let mut rows = Vec::new();
    for family in source.families().iter().filter(|family| !family.layout().measures().is_empty()) {
        let overflow = family.overflow_labels();
        let points = source.points(family.name());
        let mut points: Vec<&(LabelSet, Point)> = points.iter().collect();
        points.sort_by_key(|(labels, _)| (*labels == overflow, labels));
        for measure in family.layout().measures() {
            for (labels, point) in &points {
                let Some(Reading::Summary(summary)) = measure.read(point) else { continue };
                let names = family.label_names().iter().cloned();
                let [p50, p90, p95, p99, p999] = summary.quantiles;
                rows.push(SummaryRow {
                    name: measure.name.clone(),
                    labels: names.zip(labels.values().map(str::to_owned)).collect(),
                    count: summary.count,
                    sum: summary.sum,
                    mean: summary.sum.as_f64() / summary.count as f64,
                    min: summary.min,
                    max: summary.max,
                    p50,
                    p90,
                    p95,
                    p99,
                    p999,
                });
            }
        }
    }
    rows
}
