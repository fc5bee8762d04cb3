//! What the router promises.

mod concurrency;
mod health;
mod learning;
mod metrics;
mod sticky;
mod support;
mod tickets;
