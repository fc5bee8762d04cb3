//! Where the numbers of a worker are.

use super::estimate::Latency;

/// The place of a worker in the columns of all commands. It is used again, as late as possible, when its
/// worker has left: what a request of the old one then still adds is lost in what is learned of the
/// new one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Slot(pub(crate) u32);

/// Slots are allocated by neighbours.
pub(super) const CHUNK: usize = 64;

impl Slot {
    /// Which neighbours it is allocated with.
    pub(crate) fn chunk(self) -> usize {
        self.0 as usize / CHUNK
    }

    pub(super) fn place(self) -> usize {
        self.0 as usize % CHUNK
    }
}

/// The latencies of a worker for the first commands, beside its other numbers. Whoever compares workers
/// knows which ones before it knows the command, so all this can be on its way from memory by then.
pub(crate) type Row = [Latency; 32];
