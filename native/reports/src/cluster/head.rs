//! The head of a snapshot's payload, in JSON: everything but the points.

use serde::{Deserialize, Serialize};

use super::node::Refusal;
use crate::errors::Ongoing;
use telemetry_recording::family::FamilySpec;
use telemetry_windows::window::Interval;

/// Calendar times outside the years 0 to 9999 are refused.
const UNIX_MS: std::ops::RangeInclusive<i64> = -62_167_219_200_000..=253_402_300_799_999;

/// What a snapshot says beside the points of its families, which follow in the families' order.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Head {
    pub interval: Interval,
    pub workers: u64,
    pub ongoing: Ongoing,
    pub families: Vec<FamilySpec>,
}

impl Head {
    pub(super) fn read(json: &[u8]) -> Result<Self, Refusal> {
        let head: Self = serde_json::from_slice(json).map_err(|error| {
            Refusal::corrupt(&format!("the head of its snapshot cannot be read: {error}"))
        })?;
        let Interval { from_unix_ms, to_unix_ms, .. } = head.interval;
        let possible = UNIX_MS.contains(&from_unix_ms)
            && UNIX_MS.contains(&to_unix_ms)
            && from_unix_ms <= to_unix_ms
            && head.workers <= u64::from(u32::MAX);
        if possible {
            Ok(head)
        } else {
            Err(Refusal::corrupt("its snapshot covers an impossible time or has too many workers"))
        }
    }
}
