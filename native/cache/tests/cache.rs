//! The adaptive cache against a model, in virtual time.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a failure is a failed test")]

#[path = "cache/model.rs"]
mod model;
#[path = "cache/traces.rs"]
mod traces;
