//! Why a request went where it went.

/// Why a worker was chosen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// It was expected to be done first, among those that were compared.
    Best,
    /// It was idle, and it was time to look how it does.
    Explore,
    /// The key was there before.
    Sticky,
    /// The key had no worker, and this is the one that its hash prefers.
    Rendezvous,
    /// What the key names lives there.
    Bound,
    /// More than half of all workers are ejected, so ejections were not looked at.
    Panic,
}

impl Reason {
    /// All reasons.
    pub const ALL: [Self; 6] =
        [Self::Best, Self::Explore, Self::Sticky, Self::Rendezvous, Self::Bound, Self::Panic];

    /// The reason as a label value.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Best => "best",
            Self::Explore => "explore",
            Self::Sticky => "sticky",
            Self::Rendezvous => "rendezvous",
            Self::Bound => "bound",
            Self::Panic => "panic",
        }
    }
}
