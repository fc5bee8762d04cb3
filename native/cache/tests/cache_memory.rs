//! What the adaptive cache allocates. The only test of its process, of which all is counted.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a failure is a failed test")]

use std::sync::Arc;

use serde_json::json;
use telemetry_cache::call::{CallOutcome, Target};
use telemetry_cache::report::CacheReport;
use telemetry_cache::{Cache, CacheSpec};
use telemetry_common::refs::Refs;
use telemetry_testing::allocator::{Counting, allocated};

#[global_allocator]
static ALLOCATOR: Counting = Counting;

#[test]
fn cached_results_take_no_more_than_they_are_counted_as() {
    let spec = json!({
        "cacheable": [{"method": "embed", "class": null}],
        "rule": {
            "min_calls": 0, "min_hit_rate": -1.0,
            "ttl_ms": 1_u64 << 40, "calls_for_ttl": 1, "max_ttl_factor": 1.0,
        },
        "max_bytes": 1_u64 << 40, "max_result_bytes": 1_000, "max_key_bytes": 1_000,
        "ghost_keys": 1, "method_limit": 1, "waiter_limit": 0, "error_ttl_ms": 0, "ref_limit": 0,
    });
    let spec: CacheSpec = serde_json::from_value(spec).unwrap();
    let cache = Cache::new(spec, Arc::new(Refs::new(0)));
    let before = allocated();
    for number in 0..10_000_u64 {
        let bytes = number.to_le_bytes();
        let target = Target { method: "embed", ..Target::default() };
        let call = cache.call(cache.key(&bytes), target, false);
        cache.computed(&call, CallOutcome::Value(&[0; 100]), None, 0);
    }
    let allocated = allocated() - before;
    let report = CacheReport::new(&cache);
    assert_eq!(report.entries, 10_000);
    println!("{} bytes for each entry beside key and result", allocated / 10_000 - 108);
    let counted = report.bytes as usize;
    assert!((counted / 2..=counted).contains(&allocated), "{allocated} of {counted}");
}
