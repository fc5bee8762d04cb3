//! Claims: which of several sources counts what all of them tell of.
//!
//! Two emitters may tell of the same thing, such as a bridge of its calls and the pool below it of the
//! executions that these lead to. What both feed must count once, so one of them has a claim on it.

use std::sync::atomic::{AtomicU8, Ordering::Relaxed};

use serde::Deserialize;

/// What can be claimed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Group {
    /// Method calls.
    Calls,
    /// Tool calls.
    Tools,
    /// Workers that come and go.
    Workers,
    /// What the router learns of requests that are done.
    Completions,
}

const GROUPS: usize = 4;

/// A claim as a definition declares it.
#[derive(Clone, Copy, Debug, Deserialize)]
pub struct ClaimSpec {
    /// What is claimed.
    pub group: Group,
    /// Who claims it; not zero.
    pub source: u8,
    /// Whether it takes the group from who has it. Otherwise the first to come keeps it.
    pub takes: bool,
}

/// Who has a claim on each group.
#[derive(Debug, Default)]
pub struct Claims([AtomicU8; GROUPS]);

impl Claims {
    /// Whether the source counts the group. It does from now on if nobody did.
    #[inline]
    pub(crate) fn admit(&self, claim: ClaimSpec) -> bool {
        let holder = &self.0[claim.group as usize];
        match holder.load(Relaxed) {
            holds if holds == claim.source => true,
            0 => holder
                .compare_exchange(0, claim.source, Relaxed, Relaxed)
                .map_or_else(|winner| winner == claim.source || self.take(claim), |_| true),
            _ => self.take(claim),
        }
    }

    /// Whether the source of a claim counts the group, if there is a claim at all.
    #[inline]
    pub(crate) fn admit_any(&self, claim: Option<ClaimSpec>) -> bool {
        claim.is_none_or(|claim| self.admit(claim))
    }

    #[cold]
    fn take(&self, claim: ClaimSpec) -> bool {
        if claim.takes {
            self.0[claim.group as usize].store(claim.source, Relaxed);
        }
        claim.takes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn claim(source: u8, takes: bool) -> ClaimSpec {
        ClaimSpec { group: Group::Calls, source, takes }
    }

    #[test]
    fn the_first_to_come_keeps_a_group() {
        let claims = Claims::default();
        assert!(claims.admit(claim(2, false)));
        assert!(!claims.admit(claim(1, false)));
        assert!(claims.admit(claim(2, false)));
        assert!(claims.admit(ClaimSpec { group: Group::Tools, ..claim(1, false) }));
    }

    #[test]
    fn who_takes_has_it_from_then_on() {
        let claims = Claims::default();
        assert!(claims.admit(claim(2, false)));
        assert!(claims.admit(claim(1, true)));
        assert!(!claims.admit(claim(2, false)));
    }
}
