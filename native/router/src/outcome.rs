//! How a request ended.

/// How a request ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It was answered.
    Success,
    /// It was not, and that is the worker's fault as far as is known.
    Failure,
    /// Nobody knows, or it says nothing of the worker's health, such as an exception of the caller's own
    /// code there. It is no success after failures and no failure; only that it has taken longer than
    /// expected counts, as what is over early may have ended half way.
    Unknown,
}
