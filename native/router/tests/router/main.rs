//! What the router promises.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a failure is a failed test")]

mod concurrency;
mod health;
mod learning;
mod metrics;
mod sticky;
mod support;
mod tickets;
