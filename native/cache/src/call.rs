//! Calls for which no result was found, and what came of them.

use std::sync::Arc;

use super::key::Key;
use super::method::Method;
use super::rule::Verdict;
use super::stamps::Started;

/// Who a call is made to and where it would run.
#[derive(Clone, Copy, Debug, Default)]
pub struct Target<'a> {
    /// The method, normalised as a label.
    pub method: &'a str,
    /// The class, if the caller gives it.
    pub class: Option<&'a str>,
    /// The reference of the instance, if there is one.
    pub reference: Option<&'a str>,
    /// The worker, if the caller knows it.
    pub worker: Option<&'a str>,
}

/// A call for which no result was found.
#[derive(Clone)]
pub struct Call {
    pub(super) key: Arc<Key>,
    pub(super) method: Arc<Method>,
    pub(super) declared: bool,
    pub(super) reference: Option<Box<str>>,
    pub(super) worker: Option<Arc<str>>,
    pub(super) started: Started,
}

/// What came of running a function.
#[derive(Clone, Copy, Debug)]
pub enum CallOutcome<'a> {
    /// A result.
    Value(&'a [u8]),
    /// A result that says that there was an error.
    Error(&'a [u8]),
    /// A result of which it is known that it is too large.
    TooLarge,
    /// No result.
    Failed,
}

/// What became of a result.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Kept {
    /// It is kept for this long.
    For {
        /// Milliseconds.
        ttl_ms: u64,
    },
    /// The rule is against it.
    Refused(Verdict),
    /// It is an error, or there is none.
    Failed,
    /// It is larger than results may be.
    TooLarge,
    /// Something that it belongs to was invalidated since the function was started.
    Invalidated,
}

impl Call {
    /// Whether its result may be kept, and answer other callers.
    pub fn is_declared(&self) -> bool {
        self.declared
    }

    /// What its result is found by.
    pub fn key(&self) -> &Arc<Key> {
        &self.key
    }
}
