//! What a measure has of a series.

use super::instrument::{
    FLOAT_COUNT, FLOATS, INTEGERS, Instrument, MAX, MIN_COMPLEMENT, Measure, SUM_COUNT, Scale,
    TOTAL_CELLS,
};
use super::number::{Latest, Total, from_ordered};
use crate::histogram::Counts;
use crate::point;
use crate::series::Series;

/// The quantiles of a summary.
pub const QUANTILES: [f64; 5] = [0.5, 0.9, 0.95, 0.99, 0.999];

/// What a measure has of a series in which it has anything.
#[derive(Clone, Debug, PartialEq)]
pub enum Reading {
    /// How many events.
    Count(u64),
    /// What they add up to.
    Sum(Total),
    /// The latest number.
    Last(Total),
    /// Buckets.
    Distribution(Buckets),
    /// Quantiles.
    Summary(Summary),
}

/// How many numbers are in each bucket.
#[derive(Clone, Debug, PartialEq)]
pub struct Buckets {
    /// Not cumulated, the one above all bounds last.
    pub counts: Vec<u64>,
    /// What the numbers add up to.
    pub sum: Total,
}

/// Statistics of numbers, of which there is at least one.
#[derive(Clone, Debug, PartialEq)]
pub struct Summary {
    /// How many.
    pub count: u64,
    /// Their exact sum.
    pub sum: Total,
    /// Exact minimum.
    pub min: f64,
    /// Exact maximum.
    pub max: f64,
    /// The values of [`QUANTILES`], to the histogram's precision.
    pub quantiles: [f64; QUANTILES.len()],
}

impl Measure {
    /// What it has of a series; `None` if no number has come in.
    pub fn read(&self, series: &Series) -> Option<Reading> {
        let lanes = series.lanes();
        let total = |first: usize| {
            let integers = lanes.values(first + INTEGERS).map(|word| i128::from(word as i64));
            let floats = lanes.values(first + FLOATS).map(f64::from_bits);
            Total::new(integers.sum(), floats.sum())
        };
        match &self.instrument {
            Instrument::Counter { cell } => {
                Some(lanes.sum(*cell)).filter(|count| *count > 0).map(Reading::Count)
            }
            Instrument::Sum { first_cell, .. } => {
                let is_there = lanes.sum(first_cell + SUM_COUNT) > 0;
                is_there.then(|| Reading::Sum(total(*first_cell)))
            }
            Instrument::LastValue { place } => {
                let latest = Latest(&series.last_values()[*place]).get()?;
                Some(Reading::Last(Total::of(latest)))
            }
            Instrument::Distribution { first_cell, limits } => {
                let first = first_cell + TOTAL_CELLS;
                let cells = first..first + limits.bucket_count();
                let counts: Vec<_> = cells.map(|cell| lanes.sum(cell)).collect();
                let is_there = counts.iter().any(|count| *count > 0);
                is_there.then(|| Reading::Distribution(Buckets { counts, sum: total(*first_cell) }))
            }
            Instrument::Summary { first_cell, scale, histograms } => {
                let counts = histograms.map(|histogram| lanes.counts(histogram));
                let count = counts.iter().map(|counts| point::total(counts)).sum();
                if count == 0 {
                    return None;
                }
                let whole = lanes.sum(first_cell + FLOAT_COUNT) == 0;
                let quantiles = quantiles(&counts, count, *scale, whole);
                // A number in flight may be counted before it is the smallest or the largest.
                let or = |end: f64, quantile: usize| {
                    if end.is_finite() { end } else { quantiles[quantile] }
                };
                let max = or(from_ordered(lanes.max(first_cell + MAX)), QUANTILES.len() - 1);
                let min = or(from_ordered(!lanes.max(first_cell + MIN_COMPLEMENT)), 0);
                Some(Reading::Summary(Summary {
                    count,
                    sum: total(*first_cell),
                    quantiles: quantiles.map(|value| value.max(min).min(max.max(min))),
                    min,
                    max,
                }))
            }
        }
    }
}

/// The values of [`QUANTILES`]: the upper end of what is counted where each lies.
fn quantiles(
    [positive, negative]: &[Counts; 2],
    count: u64,
    scale: Scale,
    whole: bool,
) -> [f64; QUANTILES.len()] {
    let negative = negative.iter().rev().map(|(at, count)| (true, *at, *count));
    let positive = positive.iter().map(|(at, count)| (false, *at, *count));
    let mut counts = negative.chain(positive);
    let (mut seen, mut value) = (0, 0.0);
    QUANTILES.map(|quantile| {
        let target = ((quantile * count as f64).ceil() as u64).clamp(1, count);
        while seen < target {
            let Some((is_negative, location, more)) = counts.next() else { break };
            seen += more;
            value = scale.highest(is_negative, location, whole);
        }
        value
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::family::{Family, FamilySpec};
    use crate::label::LabelSet;
    use crate::lane::Writer;
    use crate::measure::{Bound, MeasureKind, MeasureSpec, Number};
    use crate::thread_number::ThreadNumber;

    fn family() -> Family {
        let bound = |value: f64| Bound { value, text: value.to_string() };
        let kinds = [
            MeasureKind::Counter,
            MeasureKind::Sum { monotonic: false },
            MeasureKind::LastValue,
            MeasureKind::Distribution { bounds: vec![bound(-1.0), bound(0.5), bound(10.0)] },
            MeasureKind::Summary { fraction_bits: 20 },
        ];
        let measure = |kind| MeasureSpec { name: String::new(), help: String::new(), kind };
        let spec = FamilySpec {
            name: "family".into(),
            labels: vec![],
            counters: vec![],
            histograms: vec![],
            digits: 2,
            series_limit: 1,
            usage: None,
            measures: kinds.into_iter().map(measure).collect(),
        };
        Family::new(spec).expect("valid")
    }

    fn series(family: &Family) -> Series {
        family.new_series(LabelSet::new([]))
    }

    fn record(family: &Family, series: &Series, writer: &impl Writer, number: Number) {
        for measure in family.layout().measures() {
            measure.record(writer, series, number);
        }
        writer.finish(&writer.cells()[family.layout().events_cell()]);
    }

    fn readings(family: &Family, series: &Series) -> Vec<Option<Reading>> {
        family.layout().measures().iter().map(|measure| measure.read(series)).collect()
    }

    const NUMBERS: [Number; 7] = [
        Number::Integer(3),
        Number::Float(-2.5),
        Number::Float(0.5),
        Number::Integer(-1),
        Number::Integer(11),
        Number::Float(0.125),
        Number::Integer(0),
    ];

    #[test]
    fn a_series_without_numbers_has_nothing() {
        let family = family();
        assert_eq!(readings(&family, &series(&family)), [None, None, None, None, None]);
    }

    #[test]
    fn own_and_shared_lanes_add_up() {
        let family = family();
        let series = series(&family);
        let number = ThreadNumber::take();
        for (at, value) in NUMBERS.into_iter().enumerate() {
            match series.lanes().exclusive(&number).filter(|_| at % 2 == 0) {
                Some(own) => record(&family, &series, &series.lanes().own(own), value),
                None => record(&family, &series, &series.lanes().shared(), value),
            }
        }
        let sum = Total::Float(11.125);
        let readings = readings(&family, &series);
        assert_eq!(
            readings[..4],
            [
                Some(Reading::Count(7)),
                Some(Reading::Sum(sum)),
                Some(Reading::Last(Total::Integer(0))),
                Some(Reading::Distribution(Buckets { counts: vec![2, 3, 1, 1], sum })),
            ]
        );
        let Some(Reading::Summary(summary)) = &readings[4] else { panic!("no summary") };
        assert_eq!((summary.count, summary.sum), (7, sum));
        assert_eq!((summary.min, summary.max), (-2.5, 11.0));
        let median = summary.quantiles[0];
        assert!((0.125..0.127).contains(&median), "{median}");
        assert_eq!(summary.quantiles[4], 11.0);
    }

    /// What a series that was removed meanwhile has counted goes to the one that takes its place.
    #[test]
    fn a_series_takes_over_what_another_has() {
        let family = family();
        let [whole, before, after] = [(); 3].map(|()| series(&family));
        for (at, value) in NUMBERS.into_iter().enumerate() {
            record(&family, &whole, &whole.lanes().shared(), value);
            let part = if at < 4 { &before } else { &after };
            record(&family, part, &part.lanes().shared(), value);
        }
        after.absorb(&before, family.layout());
        assert_eq!(readings(&family, &after), readings(&family, &whole));
        let fresh = series(&family);
        fresh.absorb(&whole, family.layout());
        assert_eq!(readings(&family, &fresh), readings(&family, &whole));
    }
}
