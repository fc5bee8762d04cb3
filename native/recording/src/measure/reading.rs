//! What a measure has in a point.

use super::instrument::{FLOAT_COUNT, Instrument, MAX, MIN_COMPLEMENT, Measure};
use super::number::{Latest, Total, from_ordered};
use super::scale::Scale;
use crate::histogram::Location;
use crate::point::{self, Point};
use crate::series::Series;

/// The quantiles of a summary.
pub const QUANTILES: [f64; 5] = [0.5, 0.9, 0.95, 0.99, 0.999];

/// What a measure has where it has anything.
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
    /// What it has in a point; `None` if no number has come in. The latest number is in no point, see
    /// [`Self::last`].
    pub fn read(&self, point: &Point) -> Option<Reading> {
        if !self.has_numbers(point) {
            return None;
        }
        let total = || {
            let cells = self.total()?;
            let integers = point.cell(cells.integers) as i64;
            Some(Total::new(integers, f64::from_bits(point.cell(cells.floats))))
        };
        match &self.instrument {
            Instrument::Counter { cell } => Some(Reading::Count(point.cell(*cell))),
            Instrument::Sum { .. } => Some(Reading::Sum(total()?)),
            Instrument::LastValue { .. } => None,
            Instrument::Distribution { .. } => {
                let counts = self.count_cells().map(|cell| point.cell(cell)).collect();
                Some(Reading::Distribution(Buckets { counts, sum: total()? }))
            }
            Instrument::Summary { first_cell, scale, histograms } => {
                let counts = histograms.map(|histogram| point.counts(histogram));
                let count = counts.into_iter().map(point::total).fold(0, u64::saturating_add);
                let whole = point.cell(first_cell + FLOAT_COUNT) == 0;
                let max = from_ordered(point.cell(first_cell + MAX));
                let min = from_ordered(!point.cell(first_cell + MIN_COMPLEMENT));
                let quantiles = quantiles(counts, count, *scale, whole);
                Some(Reading::Summary(Summary {
                    count,
                    sum: total()?,
                    quantiles: quantiles.map(|value| value.max(min).min(max.max(min))),
                    min,
                    max,
                }))
            }
        }
    }

    /// The latest number, if it keeps that and there is one.
    pub fn last(&self, series: &Series) -> Option<Reading> {
        let Instrument::LastValue { place } = &self.instrument else { return None };
        let latest = Latest(&series.last_values()[*place]).get()?;
        Some(Reading::Last(Total::of(latest)))
    }
}

/// The values of [`QUANTILES`]: the upper end of what is counted where each lies.
fn quantiles(
    [positive, negative]: [&[(Location, u64)]; 2],
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
    use crate::lane::Writer;
    use crate::measure::{Bound, MeasureKind, MeasureSpec, Number};
    use telemetry_common::label::LabelSet;
    use telemetry_common::thread_number::ThreadNumber;

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
            role: None,
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
            let mark = measure.record(writer, series, number);
            writer.mark(&writer.cells()[family.layout().marks_cell()], mark);
        }
        writer.finish(&writer.cells()[family.layout().events_cell()]);
    }

    fn readings(family: &Family, series: &Series) -> Vec<Option<Reading>> {
        let point = series.point(family.layout());
        let measures = family.layout().measures().iter();
        measures.map(|measure| measure.read(&point).or(measure.last(series))).collect()
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
