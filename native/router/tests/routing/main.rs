//! The router against other ways to choose a worker, in virtual time: the bounds that
//! `docs/routing.md` tells of hold for every seed.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a failure is a failed test")]

mod policy;
mod simulation;
mod table;

use simulation::{Case, SECOND};
use table::{Row, Table};

#[test]
fn no_other_policy_is_much_better_in_any_case_and_none_that_is_blind_comes_near() {
    let table = Table::new(&[1, 2], 49 * SECOND);
    println!("{table}");
    for (case, rows) in &table.0 {
        let verdict = Verdict::new(rows);
        // Of 200 workers only a few are looked at, the fewest in flight are found among all.
        let most = if *case == Case::Many { 1.6 } else { 1.1 };
        assert!(verdict.to_best <= most, "{case:?}: {verdict:?}");
        assert!(verdict.ahead >= 2.0, "{case:?}: {verdict:?}");
    }
}

/// How the router does in a case, at its worst over the seeds.
#[derive(Clone, Copy, Debug)]
struct Verdict {
    /// Its p99 by that of the best of the others.
    to_best: f64,
    /// The smaller p99 of random and round robin by its own.
    ahead: f64,
}

impl Verdict {
    /// Of the router with the memories of one scheduler or of four, whichever does worse.
    fn new(rows: &[Row]) -> Self {
        let (others, ours) = rows.split_at(5);
        let names: Vec<_> = rows.iter().map(|row| row.policy).collect();
        assert_eq!(names[..2], ["random", "round robin"]);
        assert_eq!(names[5..], ["router, four schedulers", "router"]);
        let p99 = |row: &Row, seed: usize| row.results[seed].p99;
        let least = |rows: &[Row], seed| {
            rows.iter().map(|row| p99(row, seed)).fold(f64::INFINITY, f64::min)
        };
        let most = |seed| ours.iter().map(|row| p99(row, seed)).fold(0.0, f64::max);
        let seeds = 0..rows[0].results.len();
        let to_best = seeds.clone().map(|seed| most(seed) / least(&others[..4], seed));
        let ahead = seeds.map(|seed| least(&others[..2], seed) / most(seed));
        Self { to_best: to_best.fold(0.0, f64::max), ahead: ahead.fold(f64::INFINITY, f64::min) }
    }
}
