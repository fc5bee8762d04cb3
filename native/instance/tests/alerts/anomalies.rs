//! Anomalies against a sorted history.

use std::collections::BTreeMap;

use proptest::collection::vec;
use proptest::prelude::*;
use telemetry_instance::anomaly::{
    Anomalies, Anomaly, AnomalyChange, AnomalyOver, AnomalySpec, CurrentAnomaly, Direction,
    OverReason,
};

use crate::{Clock, KEY_LIMIT, MANY, START_MS, When, assert_bounded, key, when};
use telemetry_testing::cases;

#[derive(Clone, Debug)]
enum AnomalyStep {
    Observe { key: usize, samples: u64, p95: u64 },
    Sweep,
}

fn anomaly_steps() -> impl Strategy<Value = Vec<(When, AnomalyStep)>> {
    let p95 = prop_oneof![
        6 => 950..1_050_u64,
        2 => 300..3_000_u64,
        1 => prop_oneof![Just(0), Just(u64::MAX), Just(16_777_217), 0..u64::MAX],
    ];
    let observe = (0..4_usize, prop_oneof![1 => 0..20_u64, 5 => 20..22_u64], p95)
        .prop_map(|(key, samples, p95)| AnomalyStep::Observe { key, samples, p95 });
    vec((when(), prop_oneof![10 => observe, 1 => Just(AnomalyStep::Sweep)]), 1..200)
}

struct AnomalyModel {
    spec: AnomalySpec,
    swept_ms: u64,
    untracked: u64,
    keys: BTreeMap<usize, ModelHistory>,
}

#[derive(Default)]
struct ModelHistory {
    p95s: Vec<f32>,
    observed_ms: u64,
    /// When it started, and the last observation.
    anomaly: Option<(u64, Anomaly)>,
}

fn sorted_median(values: &[f64]) -> f64 {
    let mut values = values.to_vec();
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    if values.len() % 2 == 1 {
        return values[middle];
    }
    (values[middle - 1] + values[middle]) / 2.0
}

impl AnomalyModel {
    fn observe(
        &mut self,
        number: usize,
        now_ms: u64,
        samples: u64,
        p95: u64,
    ) -> Option<AnomalyChange> {
        if samples < self.spec.min_samples {
            return None;
        }
        if !self.keys.contains_key(&number) && self.keys.len() == self.spec.key_limit {
            self.untracked += 1;
            return None;
        }
        let history = self.keys.entry(number).or_default();
        let at_ms = now_ms.max(self.swept_ms).max(history.observed_ms);
        history.observed_ms = at_ms;
        let kept = history.p95s.len().saturating_sub(self.spec.history);
        let kept: Vec<f64> = history.p95s[kept..].iter().map(|&p95| p95.into()).collect();
        history.p95s.push(p95 as f32);
        if kept.len() < self.spec.min_history {
            return None;
        }
        let median = sorted_median(&kept);
        let deviations: Vec<f64> = kept.iter().map(|p95| (p95 - median).abs()).collect();
        let mad = sorted_median(&deviations);
        let spread = self.spec.deviations * f64::max(1.4826 * mad, 0.1 * median);
        let (lower, upper) = (f64::max(median - spread, 0.0), median + spread);
        let inside = (lower..=upper).contains(&(p95 as f64));
        let side = if p95 as f64 > upper { Direction::Above } else { Direction::Below };
        let started = history.anomaly.take();
        let direction = started.as_ref().map_or(side, |(_, last)| last.direction);
        let key = key(number);
        let anomaly = Anomaly { key, direction, p95, median, mad, lower, upper, samples, at_ms };
        match (started, inside) {
            (None, true) => None,
            (None, false) => {
                history.anomaly = Some((at_ms, anomaly.clone()));
                Some(AnomalyChange::Started(anomaly))
            }
            (Some((started_ms, _)), false) => {
                history.anomaly = Some((started_ms, anomaly));
                None
            }
            (Some((started_ms, _)), true) => Some(AnomalyChange::Over(AnomalyOver {
                anomaly,
                duration_ms: at_ms - started_ms,
                reason: OverReason::BackInRange,
            })),
        }
    }

    fn sweep(&mut self, now_ms: u64, silence_ms: u64, forget_ms: u64) -> Vec<AnomalyChange> {
        self.swept_ms = self.swept_ms.max(now_ms);
        let now_ms = self.swept_ms;
        let mut ended = Vec::new();
        for history in self.keys.values_mut() {
            let over_ms = history.observed_ms + silence_ms;
            if over_ms <= now_ms
                && let Some((started_ms, last)) = history.anomaly.take()
            {
                let anomaly = Anomaly { at_ms: over_ms, ..last };
                let duration_ms = over_ms - started_ms;
                ended.push(AnomalyOver { anomaly, duration_ms, reason: OverReason::NoCalls });
            }
        }
        ended.sort_by_key(|over| over.anomaly.at_ms);
        self.keys.retain(|_, history| {
            history.anomaly.is_some() || history.observed_ms + forget_ms >= now_ms
        });
        let silent = self.keys.iter().filter(|(_, history)| {
            history.anomaly.is_none() && history.observed_ms + silence_ms <= now_ms
        });
        let oldest = silent.min_by_key(|(number, history)| (history.observed_ms, **number));
        if self.keys.len() == self.spec.key_limit
            && let Some((&oldest, _)) = oldest
        {
            self.keys.remove(&oldest);
        }
        ended.into_iter().map(AnomalyChange::Over).collect()
    }

    fn current(&self) -> Vec<CurrentAnomaly> {
        let current = self.keys.values().filter_map(|history| history.anomaly.clone());
        let current = current.map(|(started_ms, anomaly)| CurrentAnomaly { anomaly, started_ms });
        let mut current: Vec<_> = current.collect();
        current.sort_by_key(|one| one.started_ms);
        current
    }
}

proptest! {
    #![proptest_config(cases(300))]

    #[test]
    fn anomalies_are_those_found_by_sorting_the_history(
        (min_history, more) in (1..6_usize, 0..6_usize),
        deviations in prop_oneof![Just(5.0), Just(1.0), 0.0..6.0],
        key_limit in 2..6_usize,
        (silence_ms, forget_ms) in (1..60_u64, 1..200_u64),
        steps in anomaly_steps(),
    ) {
        let history = min_history + more;
        let spec = AnomalySpec { deviations, min_samples: 20, min_history, history, key_limit };
        let anomalies = Anomalies::new(spec.clone());
        let mut model = AnomalyModel { spec, swept_ms: 0, untracked: 0, keys: BTreeMap::new() };
        let mut clock = Clock(START_MS);
        let (mut started, mut ended) = (0, 0);
        let mut count = |change: &AnomalyChange| match change {
            AnomalyChange::Started(_) => started += 1,
            AnomalyChange::Over(_) => ended += 1,
        };
        for (when, step) in steps {
            let now_ms = clock.read(when);
            match step {
                AnomalyStep::Observe { key: number, samples, p95 } => {
                    let change = anomalies.observe(&key(number), now_ms, samples, p95);
                    prop_assert_eq!(&change, &model.observe(number, now_ms, samples, p95));
                    change.iter().for_each(&mut count);
                }
                AnomalyStep::Sweep => {
                    let changes = anomalies.sweep(now_ms, silence_ms, forget_ms);
                    prop_assert_eq!(&changes, &model.sweep(now_ms, silence_ms, forget_ms));
                    changes.iter().for_each(&mut count);
                }
            }
            prop_assert_eq!(anomalies.current(), model.current());
        }
        anomalies.sweep(clock.0 + 1_000, silence_ms, forget_ms).iter().for_each(count);
        prop_assert_eq!(started, ended);
        prop_assert_eq!(anomalies.untracked(), model.untracked);
    }
}

#[test]
fn a_lasting_change_is_the_new_normal_after_half_the_history() {
    let spec = AnomalySpec { history: 20, ..AnomalySpec::default() };
    let anomalies = Anomalies::new(spec);
    let observe = |slice: u64, p95| anomalies.observe(&key(0), slice * 10_000, 20, p95);
    assert!((0..20).all(|slice| observe(slice, 100).is_none()));
    assert!(matches!(observe(20, 1_000), Some(AnomalyChange::Started(_))));
    assert!((21..30).all(|slice| observe(slice, 1_000).is_none()));
    let Some(AnomalyChange::Over(over)) = observe(30, 1_000) else {
        panic!("ten of twenty values are new");
    };
    assert_eq!((over.duration_ms, over.anomaly.p95), (100_000, 1_000));
}

#[test]
fn keys_in_use_are_not_forgotten_for_new_ones() {
    let anomalies = Anomalies::new(AnomalySpec { key_limit: 32, ..AnomalySpec::default() });
    for slice in 0..20 {
        for number in 0..40 {
            anomalies.observe(&key(number), slice * 10, 20, 100);
        }
        anomalies.sweep(slice * 10, 20, 1_000);
    }
    assert_eq!(anomalies.untracked(), 20 * 8);
    assert!(anomalies.observe(&key(31), 200, 20, 900).is_some());
    // Two, a 16th of the table, make room once they are silent; key 31 has an anomaly.
    anomalies.sweep(300, 100, 1_000);
    let untracked = anomalies.untracked();
    (50..53).for_each(|number| drop(anomalies.observe(&key(number), 300, 20, 100)));
    assert_eq!(anomalies.untracked(), untracked + 1);
    anomalies.sweep(10_000, 100, 1_000);
    anomalies.clear();
    assert_eq!((anomalies.untracked(), anomalies.memory_bytes()), (0, 0));
}

#[test]
fn anomalies_are_readable_as_json_and_their_specification_has_defaults() {
    let anomalies = Anomalies::new(AnomalySpec { min_history: 1, ..AnomalySpec::default() });
    anomalies.observe(&key(7), 0, 20, 100);
    let json = serde_json::to_value(anomalies.observe(&key(7), 1, 20, 999)).unwrap();
    assert_eq!(json["started"]["direction"], "above");
    let json = serde_json::to_value(anomalies.observe(&key(7), 3, 20, 500)).unwrap();
    assert_eq!(
        (&json["over"]["reason"], &json["over"]["p95"]),
        (&"back_in_range".into(), &500.into())
    );
    let spec: AnomalySpec = serde_json::from_str(r#"{"deviations": 3}"#).unwrap();
    assert_eq!(spec, AnomalySpec { deviations: 3.0, ..AnomalySpec::default() });
}

#[test]
fn a_million_keys_with_latencies_stay_within_bounds() {
    let anomalies = Anomalies::new(AnomalySpec { key_limit: KEY_LIMIT, ..AnomalySpec::default() });
    let observe = |number| {
        anomalies.observe(&key(number), number as u64, 20, 100);
        if number.is_multiple_of(10_000) {
            anomalies.sweep(number as u64, 1_000, 100_000);
        }
    };
    assert_bounded(KEY_LIMIT * 300, observe, || anomalies.memory_bytes());
    assert!(anomalies.untracked() < MANY as u64 - KEY_LIMIT as u64);
}
