//! All cases by all policies, as a table in Markdown.

use std::fmt;

use crate::policy::{Greedy, LeastInFlight, Policy, Random, RoundRobin, Routed};
use crate::simulation::{Case, Result, simulate};

/// For each case the results of each policy, one for each seed.
pub struct Table(pub Vec<(Case, Vec<Row>)>);

pub struct Row {
    pub policy: &'static str,
    pub results: Vec<Result>,
}

impl Table {
    pub fn new(seeds: &[u64], length: u64) -> Self {
        let rows = |case| {
            let policies: [fn() -> Box<dyn Policy>; 7] = [
                || Box::new(Random::default()),
                || Box::new(RoundRobin::default()),
                || Box::new(LeastInFlight::default()),
                || Box::new(Greedy::default()),
                || Box::new(Routed::of_two()),
                || Box::new(Routed::by_four()),
                || Box::new(Routed::by_one()),
            ];
            let rows = policies.iter().map(|policy| Row {
                policy: policy().name(),
                results: seeds
                    .iter()
                    .map(|seed| simulate(case, &mut *policy(), *seed, length))
                    .collect(),
            });
            rows.collect()
        };
        Self(Case::ALL.into_iter().map(|case| (case, rows(case))).collect())
    }
}

impl Row {
    fn mean_of(&self, number: fn(&Result) -> f64) -> f64 {
        self.results.iter().map(number).sum::<f64>() / self.results.len() as f64
    }
}

impl fmt::Display for Table {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(formatter, "| case | policy | mean ms | p50 ms | p99 ms | failed % |")?;
        writeln!(formatter, "| --- | --- | --- | --- | --- | --- |")?;
        for (case, rows) in &self.0 {
            for row in rows {
                writeln!(
                    formatter,
                    "| {} | {} | {:.1} | {:.1} | {:.1} | {:.2} |",
                    case.name(),
                    row.policy,
                    row.mean_of(|result| result.mean),
                    row.mean_of(|result| result.p50),
                    row.mean_of(|result| result.p99),
                    row.mean_of(|result| result.failed),
                )?;
            }
        }
        Ok(())
    }
}
