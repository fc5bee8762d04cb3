//! The bounds of a distribution's buckets.

use telemetry_common::heap::{self, HeapBytes};

use super::number::Number;
use super::spec::Bound;
use crate::bounds::MAX_BOUNDS;
use crate::error::DefinitionError;

/// The upper bounds of buckets, inclusive.
#[derive(Debug)]
pub(crate) struct Limits {
    bounds: Box<[Bound]>,
    floats: Box<[f64]>,
    /// The largest integer that is not above each: integers are compared exactly.
    integers: Box<[i64]>,
}

impl Limits {
    pub(super) fn new(metric: &str, bounds: Vec<Bound>) -> Result<Self, DefinitionError> {
        if bounds.len() > MAX_BOUNDS {
            return Err(DefinitionError::TooManyBounds {
                metric: metric.to_owned(),
                given: bounds.len(),
                allowed: MAX_BOUNDS,
            });
        }
        if bounds.iter().any(|bound| !bound.value.is_finite())
            || !bounds.is_sorted_by(|left, right| left.value < right.value)
        {
            let texts: Vec<_> = bounds.into_iter().map(|bound| bound.text).collect();
            return Err(DefinitionError::Limits { metric: metric.to_owned(), bounds: texts });
        }
        // An integer is what its text says, whatever a float can hold.
        let integer = |bound: &Bound| bound.text.parse().unwrap_or(bound.value.floor() as i64);
        Ok(Self {
            floats: bounds.iter().map(|bound| bound.value).collect(),
            integers: bounds.iter().map(integer).collect(),
            bounds: bounds.into(),
        })
    }

    pub fn bounds(&self) -> &[Bound] {
        &self.bounds
    }

    /// How many buckets there are, the one above all bounds included.
    pub(crate) fn bucket_count(&self) -> usize {
        self.bounds.len() + 1
    }

    #[inline]
    pub(super) fn bucket(&self, number: Number) -> usize {
        match number {
            Number::Integer(value) => self.integers.partition_point(|bound| *bound < value),
            Number::Float(value) => self.floats.partition_point(|bound| *bound < value),
        }
    }

    pub(super) fn memory_bytes(&self) -> usize {
        heap::sum([
            self.bounds.heap_bytes(),
            self.floats.heap_bytes(),
            self.integers.heap_bytes(),
            heap::sum(self.bounds.iter().map(|bound| bound.text.heap_bytes())),
        ])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limits(bounds: &[(f64, &str)]) -> Limits {
        let bound = |&(value, text): &(f64, &str)| Bound { value, text: text.to_owned() };
        Limits::new("m", bounds.iter().map(bound).collect()).expect("valid")
    }

    #[test]
    fn a_number_equal_to_a_bound_is_inside_it() {
        let limits = limits(&[(-1.5, "-1.5"), (0.0, "0"), (0.1, "0.1"), (10.0, "10")]);
        for (number, bucket) in [
            (Number::Integer(-2), 0),
            (Number::Float(-1.5), 0),
            (Number::Integer(-1), 1),
            (Number::Integer(0), 1),
            (Number::Float(0.1), 2),
            (Number::Float(0.1 + f64::EPSILON), 3),
            (Number::Integer(10), 3),
            (Number::Integer(11), 4),
            (Number::Integer(i64::MIN), 0),
            (Number::Integer(i64::MAX), 4),
        ] {
            assert_eq!(limits.bucket(number), bucket, "{number:?}");
        }
    }

    #[test]
    fn integers_that_no_float_holds_are_told_apart() {
        let bound = (1_i64 << 60) + 1;
        let limits = limits(&[(bound as f64, &bound.to_string())]);
        assert_eq!(limits.bucket(Number::Integer(bound)), 0);
        assert_eq!(limits.bucket(Number::Integer(bound + 1)), 1);
    }

    #[test]
    fn bounds_that_do_not_increase_are_refused() {
        let bound = |value: f64| Bound { value, text: value.to_string() };
        for bounds in [vec![bound(1.0), bound(1.0)], vec![bound(f64::INFINITY)]] {
            let error = Limits::new("latency", bounds).expect_err("refused").to_string();
            assert!(error.contains("latency must be strictly increasing numbers"), "{error}");
        }
    }

    #[test]
    fn memory_of_bounds_and_their_texts_is_counted() {
        let limits = limits(&[(-1.5, "-1.5"), (10.0, "10")]);
        let one = size_of::<Bound>() + size_of::<f64>() + size_of::<i64>();
        assert_eq!(limits.memory_bytes(), 2 * one + "-1.510".len());
    }
}
