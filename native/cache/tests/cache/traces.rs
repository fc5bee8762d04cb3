//! Hit ratios beside those of an LRU of the same bytes.

use std::collections::{BTreeMap, HashMap};

use telemetry_cache::call::{CallOutcome, Target};
use telemetry_cache::front::Front;
use telemetry_cache::rule::RuleSpec;
use telemetry_cache::{CacheSpec, store};

use crate::model::{spec, start};

/// A reproducible source of numbers (SplitMix64).
struct Numbers(u64);

impl Numbers {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    fn unit(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1_u64 << 53) as f64
    }
}

/// Keys whose frequency falls with the power 0.9 of their rank.
fn zipf(keys: u64, requests: usize) -> Vec<u64> {
    let mut cumulated: Vec<f64> = Vec::new();
    for rank in 1..=keys {
        let last = cumulated.last().copied().unwrap_or(0.0);
        cumulated.push(last + (rank as f64).powf(-0.9));
    }
    let total = cumulated.last().copied().expect("keys");
    let mut numbers = Numbers(42);
    let draw = |_| {
        let at = numbers.unit() * total;
        cumulated.partition_point(|sum| *sum < at) as u64
    };
    (0..requests).map(draw).collect()
}

/// The same with long runs of keys that come once.
fn polluted(keys: u64, requests: usize) -> Vec<u64> {
    let mut scanned = keys;
    let mut trace = Vec::new();
    for chunk in zipf(keys, requests).chunks(1_000) {
        trace.extend_from_slice(chunk);
        trace.extend(scanned..scanned + 1_000);
        scanned += 1_000;
    }
    trace
}

/// Results of 100 to 4,000 bytes, always the same for a key.
fn size(key: u64) -> usize {
    100 + (Numbers(key).next() % 3_900) as usize
}

fn weight(key: u64) -> u64 {
    (8 + size(key) + store::ENTRY_OVERHEAD_BYTES) as u64
}

fn hits_of_cache(trace: &[u64], max_bytes: u64) -> usize {
    let rule = RuleSpec { min_calls: 0, min_hit_rate: -1.0, ttl_ms: 1 << 40, ..spec().rule };
    let cache = start(CacheSpec { rule, max_bytes, ..spec() });
    let target = Target { method: "embed", ..Target::default() };
    let result = vec![0; 4_000];
    // As a thread looks that remembers what it has found, and tells not every hit.
    let mut front = Front::default();
    let mut hits = 0;
    for key in trace {
        let bytes = key.to_le_bytes();
        let key_ref = cache.key(&bytes);
        if front.get(&cache, key_ref, 0).is_some() {
            hits += 1;
        } else {
            let call = cache.call(key_ref, target, false);
            cache.computed(&call, CallOutcome::Value(&result[..size(*key)]), None, 0);
        }
    }
    hits
}

fn hits_of_lru(trace: &[u64], max_bytes: u64) -> usize {
    let (mut used, mut bytes, mut hits) = (HashMap::new(), 0, 0);
    let mut oldest_first = BTreeMap::new();
    for (now, &key) in trace.iter().enumerate() {
        match used.insert(key, now) {
            Some(before) => {
                oldest_first.remove(&before);
                hits += 1;
            }
            None => bytes += weight(key),
        }
        oldest_first.insert(now, key);
        while bytes > max_bytes {
            let (_, oldest) = oldest_first.pop_first().expect("bytes");
            used.remove(&oldest);
            bytes -= weight(oldest);
        }
    }
    hits
}

#[test]
fn the_hit_ratio_is_at_least_that_of_an_lru() {
    const KEYS: u64 = 5_000;
    let everything: u64 = (0..KEYS).map(weight).sum();
    println!("{:<28}{:>8}{:>8}{:>8}", "trace", "bytes", "cache", "LRU");
    for (name, trace) in
        [("Zipf(0.9)", zipf(KEYS, 60_000)), ("Zipf(0.9) and scans", polluted(KEYS, 60_000))]
    {
        for percent in [1, 5, 20] {
            let max_bytes = everything * percent / 100;
            let ratio = |hits: usize| hits as f64 / trace.len() as f64;
            let cache = ratio(hits_of_cache(&trace, max_bytes));
            let lru = ratio(hits_of_lru(&trace, max_bytes));
            println!("{name:<28}{percent:>6} %{cache:>8.3}{lru:>8.3}");
            assert!(cache >= lru, "{name} with {percent} % of all bytes: {cache} < {lru}");
        }
    }
}
