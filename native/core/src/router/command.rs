//! What requests are for.

use std::collections::HashMap;
use std::sync::Arc;

use foldhash::fast::RandomState;

use super::estimate::Latency;

/// The place of a command in the tables of the workers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct CommandNumber(pub(crate) usize);

/// A command.
#[derive(Debug)]
pub(crate) struct Command {
    pub(crate) number: CommandNumber,
    /// Its latency on whichever worker.
    pub(crate) usual: Latency,
}

/// Commands by name; the first ones that come, up to a limit.
pub(crate) type Commands = HashMap<Arc<str>, Arc<Command>, RandomState>;
