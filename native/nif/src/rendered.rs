//! What was rendered, for as long as a term refers to it, and its memory for the next time.

use std::sync::{Arc, Mutex};
use telemetry_common::lock::lock;

use rustler::{Resource, ResourceArc};

/// The memory of the last scrape, for the next one: what is scraped is megabytes long, and to get as
/// much from the system anew takes as long as to write it.
#[derive(Default)]
pub struct Spare(Mutex<Vec<u8>>);

impl Spare {
    /// More than this is given back.
    const MOST: usize = 64 << 20;

    pub fn take(&self) -> Vec<u8> {
        std::mem::take(&mut lock(&self.0))
    }

    fn give_back(&self, mut bytes: Vec<u8>) {
        // Some more than was needed this time, so that growing series do not need new memory each time.
        bytes.shrink_to(bytes.len() + bytes.len() / 4);
        if bytes.capacity() <= Self::MOST {
            bytes.clear();
            *lock(&self.0) = bytes;
        }
    }
}

/// A scrape that a binary refers to.
pub struct Rendered {
    pub bytes: Vec<u8>,
    pub spare: Arc<Spare>,
}

#[rustler::resource_impl]
impl Resource for Rendered {}

impl Drop for Rendered {
    fn drop(&mut self) {
        self.spare.give_back(std::mem::take(&mut self.bytes));
    }
}

impl std::panic::RefUnwindSafe for Rendered {}

/// A request of deltas that has not been settled, and how many data points it has. Its numbers are told
/// nowhere else, so it is kept as it is until it has been delivered or refused.
pub type Unsettled = Mutex<Option<(ResourceArc<Rendered>, u64)>>;
