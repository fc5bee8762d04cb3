//! What a snapshot for other nodes costs, and merging those of three, beside a report of one instance.
//! `cargo bench -p telemetry_reports --bench cluster`.

mod common;

use std::hint::black_box;

use telemetry_reports::cluster::merge::{self, Answer, Merged};
use telemetry_reports::cluster::report::ClusterReport;
use telemetry_reports::cluster::snapshot::{self, take};
use telemetry_reports::report::Report;
use telemetry_windows::window::Window;

use common::{Emitter, at, shortest, start};

const NODES: usize = 3;
const BYTES: usize = 64 << 20;

fn main() {
    for series in [2_000, 20_000] {
        let (instance, plan) = start(64 << 20);
        Emitter::new(plan, series).round(50);
        let limits = snapshot::Limits { series, bytes: BYTES };
        let snapshot = || take(&instance, Window::SinceStart, at(0), limits).unwrap_or_default();
        let bytes = snapshot();
        let merged = || {
            let nodes = (0..NODES).map(|node| (node.to_string(), Answer::Snapshot(&bytes)));
            let merged = Merged::new(nodes, merge::Limits { series, bytes: BYTES }, at(0));
            ClusterReport::new(&merged)
        };
        assert_eq!(merged().report.operations.len(), series);
        let [report, snapshot, merged] = [
            shortest(|| drop(black_box(Report::new(&instance, Window::SinceStart, at(0))))),
            shortest(|| drop(black_box(snapshot()))),
            shortest(|| drop(black_box(merged()))),
        ]
        .map(|time| time.as_secs_f64() * 1e3);
        println!(
            "{series} series with three histograms: report {report:.1} ms, snapshot {snapshot:.1} ms \
             ({:.2}) of {} bytes per series, report of {NODES} merged {merged:.1} ms ({:.2})",
            snapshot / report,
            bytes.len() / series,
            merged / report,
        );
    }
}
