//! The rule: which methods are worth caching, and for how long.

use std::fmt;

use serde::Deserialize;

/// The thresholds of the rule.
#[derive(Clone, Debug, Deserialize)]
pub struct RuleSpec {
    /// A method is cached from one call more than this.
    pub min_calls: u64,
    /// The share of calls that a cache would have answered has to be above this.
    pub min_hit_rate: f64,
    /// How long results live that never change, of a method with `calls_for_ttl` calls.
    pub ttl_ms: u64,
    /// How many calls give a result that whole life.
    pub calls_for_ttl: u64,
    /// How many times that life is the most that further calls give.
    pub max_ttl_factor: f64,
}

/// What the rule looks at.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Inputs {
    /// Calls of the method since the start or the last reset.
    pub calls: u64,
    /// The share of the recent ones that a cache has answered or would have.
    pub hit_rate: f64,
    /// The share of recent repetitions whose result had changed.
    pub variance: f64,
}

/// What the rule says of a method.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Verdict {
    /// Results are kept, for this long.
    Cached {
        /// Milliseconds.
        ttl_ms: u64,
    },
    /// It was not declared cacheable.
    Undeclared,
    /// There was no room to follow it.
    Untracked,
    /// It was not called often enough.
    FewCalls {
        /// How often it was called.
        calls: u64,
        /// It has to be more than this.
        min: u64,
    },
    /// Its calls repeat too rarely.
    LowHitRate {
        /// The share of calls that a cache would have answered.
        rate: f64,
        /// It has to be more than this.
        min: f64,
    },
    /// Its results change so often that none would live for a millisecond.
    Unstable {
        /// The share of repetitions whose result had changed.
        variance: f64,
    },
}

impl RuleSpec {
    /// What becomes of the results of a method that was declared cacheable.
    pub fn verdict(&self, inputs: Inputs) -> Verdict {
        let Inputs { calls, hit_rate: rate, variance } = inputs;
        if calls <= self.min_calls {
            return Verdict::FewCalls { calls, min: self.min_calls };
        }
        if rate <= self.min_hit_rate {
            return Verdict::LowHitRate { rate, min: self.min_hit_rate };
        }
        match self.ttl_ms(inputs) {
            0 => Verdict::Unstable { variance },
            ttl_ms => Verdict::Cached { ttl_ms },
        }
    }

    /// How long a result lives, in milliseconds.
    pub fn ttl_ms(&self, inputs: Inputs) -> u64 {
        let stability = 1.0 - inputs.variance.clamp(0.0, 1.0);
        let frequency = inputs.calls as f64 / self.calls_for_ttl.max(1) as f64;
        (self.ttl_ms as f64 * stability * frequency.min(self.max_ttl_factor)).round() as u64
    }

    /// How long a result would live in a cache of which nobody knows yet whether it is worth having:
    /// as if there were just enough calls.
    pub fn trial_ttl_ms(&self, inputs: Inputs) -> u64 {
        self.ttl_ms(Inputs { calls: inputs.calls.max(self.min_calls + 1), ..inputs })
    }
}

impl Verdict {
    /// Whether results are kept.
    pub fn is_cached(self) -> bool {
        matches!(self, Self::Cached { .. })
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Cached { ttl_ms } => write!(formatter, "cached for {} s", ttl_ms as f64 / 1e3),
            Self::Undeclared => formatter.write_str("not cached: not declared cacheable"),
            Self::Untracked => formatter.write_str("not cached: more methods than method_limit"),
            Self::FewCalls { calls, min } => {
                write!(formatter, "not cached: {calls} calls, more than {min} are needed")
            }
            Self::LowHitRate { rate, min } => {
                let relation = if rate < min { "<" } else { "=" };
                // So that what is below the threshold never looks like it.
                let rate = if rate < min { (rate * 100.0).floor() / 100.0 } else { rate };
                write!(formatter, "not cached: hit rate {rate} {relation} {min}")
            }
            Self::Unstable { variance } => {
                write!(formatter, "not cached: {:.0} % of results changed", variance * 100.0)
            }
        }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub(in super::super) fn rule() -> RuleSpec {
        RuleSpec {
            min_calls: 100,
            min_hit_rate: 0.3,
            ttl_ms: 60_000,
            calls_for_ttl: 1_000,
            max_ttl_factor: 2.0,
        }
    }

    fn inputs(calls: u64, hit_rate: f64, variance: f64) -> Inputs {
        Inputs { calls, hit_rate, variance }
    }

    #[test]
    fn both_thresholds_have_to_be_exceeded() {
        let rule = rule();
        assert_eq!(rule.verdict(inputs(100, 1.0, 0.0)), Verdict::FewCalls { calls: 100, min: 100 });
        assert_eq!(rule.verdict(inputs(101, 1.0, 0.0)), Verdict::Cached { ttl_ms: 6_060 });
        let low = Verdict::LowHitRate { rate: 0.3, min: 0.3 };
        assert_eq!(rule.verdict(inputs(5_000, 0.3, 0.0)), low);
        assert!(rule.verdict(inputs(5_000, 0.300_1, 0.0)).is_cached());
    }

    #[test]
    fn life_grows_with_calls_up_to_twice_and_shrinks_with_variance() {
        let rule = rule();
        let ttl = |calls, variance| rule.ttl_ms(inputs(calls, 1.0, variance));
        assert_eq!(ttl(1_000, 0.0), 60_000);
        assert_eq!(ttl(2_000, 0.0), 120_000);
        assert_eq!(ttl(1_000_000, 0.0), 120_000);
        assert_eq!(ttl(1_000, 0.25), 45_000);
        assert_eq!(ttl(1_000, 1.0), 0);
        assert_eq!(rule.verdict(inputs(1_000, 1.0, 1.0)), Verdict::Unstable { variance: 1.0 });
    }

    #[test]
    fn a_verdict_says_why() {
        let said = |inputs| rule().verdict(inputs).to_string();
        assert_eq!(said(inputs(1_000, 0.129, 0.0)), "not cached: hit rate 0.12 < 0.3");
        assert_eq!(said(inputs(1_000, 0.2999, 0.0)), "not cached: hit rate 0.29 < 0.3");
        assert_eq!(said(inputs(1_000, 0.3, 0.0)), "not cached: hit rate 0.3 = 0.3");
        assert_eq!(said(inputs(57, 1.0, 0.0)), "not cached: 57 calls, more than 100 are needed");
        assert_eq!(said(inputs(1_000, 0.9, 1.0)), "not cached: 100 % of results changed");
        assert_eq!(said(inputs(500, 0.9, 0.1)), "cached for 27 s");
    }
}
