//! The router against other ways to choose a worker, in virtual time: the bounds that
//! `docs/routing.md` tells of hold for every seed.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a failure is a failed test")]

mod policy;
mod simulation;
mod table;

use simulation::SECOND;
use table::{Row, Table};

#[test]
fn no_other_policy_is_much_better_in_any_case_and_none_that_is_blind_comes_near() {
    let table = Table::new(&[1, 2], 49 * SECOND);
    println!("{table}");
    for (case, rows) in &table.0 {
        let verdict = Verdict::new(rows);
        assert!(verdict.to_best <= 1.1, "{case:?}: {verdict:?}");
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
    fn new(rows: &[Row]) -> Self {
        let (ours, others) = rows.split_last().unwrap();
        assert_eq!(ours.policy, "router");
        assert_eq!((others[0].policy, others[1].policy), ("random", "round robin"));
        let p99 = |row: &Row, seed: usize| row.results[seed].p99;
        let least = |rows: &[Row], seed| {
            rows.iter().map(|row| p99(row, seed)).fold(f64::INFINITY, f64::min)
        };
        let seeds = 0..ours.results.len();
        Self {
            to_best: seeds
                .clone()
                .map(|seed| p99(ours, seed) / least(&others[..4], seed))
                .fold(0.0, f64::max),
            ahead: seeds
                .map(|seed| least(&others[..2], seed) / p99(ours, seed))
                .fold(f64::INFINITY, f64::min),
        }
    }
}
