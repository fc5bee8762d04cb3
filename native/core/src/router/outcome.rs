//! How a request ended.

/// How a request ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It was answered.
    Success,
    /// It was not, and that is the worker's fault as far as is known.
    Failure,
    /// Nobody knows, or it does not matter. Only that it has taken long may count.
    Unknown,
}
