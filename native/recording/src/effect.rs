//! Effects: what events do beside feeding series, such as telling a router how a worker did.
//!
//! Recording knows that there are any, and when they take place; whoever starts an instance says which.

use crate::details::Details;
use crate::family::{Family, UsageSource};
use crate::field::Fields;
use crate::notes::Notes;
use telemetry_common::label::LabelSet;

/// An event whose fields were accepted.
pub struct Event<'e, 'f> {
    /// Its fields.
    pub fields: &'e Fields<'f>,
    /// Whose call it carries, if its plan's claim says that.
    pub path: Option<Path>,
    process: &'e dyn Fn() -> u64,
}

impl<'e, 'f> Event<'e, 'f> {
    pub(crate) fn new(fields: &'e Fields<'f>, process: &'e dyn Fn() -> u64) -> Self {
        Self { fields, path: None, process }
    }

    /// The process that emits it, as a number that no other living process has.
    pub fn process(&self) -> u64 {
        (self.process)()
    }
}

/// Whose call an execution carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Path {
    /// Nobody else's: it is the call.
    Direct,
    /// One of a bridge that is known by its commands.
    Transport,
    /// One that this process has made by a bridge.
    Carried(u64),
}

/// Something that an event does beside feeding series.
pub trait Effect: Send + Sync {
    /// Fields without which it does not take place.
    fn needs(&self) -> [Option<usize>; 2] {
        [None, None]
    }

    /// Takes place. Says for what the event is to be given once more.
    fn happen(&self, event: &Event<'_, '_>) -> Notes;

    /// Goes on, given the event once more.
    fn resume(&self, _resumed: &Resumed<'_, '_>) {}

    /// Does of an event that was rejected what no fault of it can undo.
    fn reject(&self, _process: &dyn Fn() -> u64) {}
}

/// An event that is given once more.
pub struct Resumed<'e, 'f> {
    /// What was noted of it.
    pub notes: Notes,
    /// Its fields.
    pub fields: &'e Fields<'f>,
    /// What else it says.
    pub details: &'e Details<'f>,
    /// The kind and the reason of its error, if it failed and is to be logged.
    pub failure: Option<(&'e str, &'e str)>,
}

/// What a claim says of an event.
pub struct Admitted {
    /// Whether the claimed steps are done.
    pub counts: bool,
    /// Whose call it carries, if it is an execution.
    pub path: Option<Path>,
}

/// Decides whether the claimed steps of an event are done, if another emitter may tell of the same.
pub trait Claim: Send + Sync {
    /// Decides.
    fn admit(&self, event: &Event<'_, '_>) -> Admitted;
}

/// Is told of errors once they are counted.
pub trait Alarm: Send + Sync {
    /// An error of a key. `calls` says how many calls of the key were ever completed, this one included. Returns
    /// whether the call is to be logged.
    fn failed(
        &self,
        key: &LabelSet,
        kind: &str,
        reason: &str,
        calls: &mut dyn FnMut() -> Option<u64>,
    ) -> bool;
}

/// Is told of events that found no room for a series of their own.
pub trait Listener: Send + Sync {
    /// The first event of a family since the start or the last reset.
    fn overflowed(&self, family: &Family);

    /// An event that is a use of what these labels name. Of a series it would be read now and then; here the name is
    /// lost unless it is told at once.
    fn used(&self, usage: &UsageSource, labels: &LabelSet);
}
