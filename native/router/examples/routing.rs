//! Prints how the router does against other ways to choose a worker, in virtual time.
//!
//! `cargo run --release --package telemetry_router --example routing`
#![allow(clippy::unwrap_used, reason = "the modules are those of a test")]

#[path = "../tests/routing/policy.rs"]
mod policy;
#[path = "../tests/routing/simulation.rs"]
mod simulation;
#[path = "../tests/routing/table.rs"]
mod table;

use simulation::SECOND;

fn main() {
    print!("{}", table::Table::new(&[1, 2, 3, 4, 5, 6, 7, 8, 9, 10], 69 * SECOND));
}
