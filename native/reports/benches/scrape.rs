//! What a scrape costs in each format, and how that grows with the number of series.
//! `cargo bench -p telemetry_reports --bench scrape`.

mod common;

use std::hint::black_box;

use telemetry_exposition::{Format, Scrape, render};

use common::{Emitter, shortest, start};

fn main() {
    for format in [Format::Text, Format::OpenMetrics, Format::Protobuf] {
        let scrape = Scrape { format, created: false, scalars: Vec::new() };
        let per_series = [2_000, 20_000].map(|series| {
            let (instance, plan) = start(64 << 20);
            Emitter::new(plan, series).round(50);
            let mut out = Vec::new();
            render(&instance, &scrape, &mut out);
            let bytes = out.len();
            let time = shortest(|| {
                out.clear();
                render(&instance, &scrape, black_box(&mut out));
            });
            let of_one = time.as_secs_f64() * 1e9 / series as f64;
            println!(
                "scrape {format:?} of {series} series with three histograms: {:.1} ms, {of_one:.0} \
                 ns and {} bytes per series",
                time.as_secs_f64() * 1e3,
                bytes / series,
            );
            of_one
        });
        let growth = per_series[1] / per_series[0];
        println!("scrape {format:?} per series of 20,000 / of 2,000: {growth:.2}");
    }
}
