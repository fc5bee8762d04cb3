//! Layouts: which cells of a series belong to which metric.

use crate::cell::Cell;
use crate::error::DefinitionError;
use crate::histogram::Precision;
use crate::lane::{ChunkIndex, Shape};
use crate::measure::{Measure, MeasureSpec, Offsets};
use crate::metric::{Counter, CounterSpec, HistogramMetric, HistogramSpec};
use telemetry_common::heap::{self, HeapBytes};

/// Which cells of a series belong to which metric.
#[derive(Debug)]
pub struct Layout {
    counters: Vec<Counter>,
    histograms: Vec<HistogramMetric>,
    measures: Vec<Measure>,
    /// The first cell of measures.
    first_measured: usize,
    /// How many last values a series has.
    last_values: usize,
    /// How many histograms a series has, those of measures included.
    histogram_count: usize,
    precision: Precision,
    events_cell: usize,
    /// What each cell means.
    cells: Box<[Cell]>,
    /// Pairs of cells that keep the largest of some words: of all time, and of the slice of time that is
    /// under way.
    raising: Box<[(usize, usize)]>,
}

impl Layout {
    pub(crate) fn new(
        counter_specs: Vec<CounterSpec>,
        histogram_specs: Vec<HistogramSpec>,
        measure_specs: Vec<MeasureSpec>,
        digits: u8,
    ) -> Result<Self, DefinitionError> {
        let precision = Precision::try_from(digits)?;
        let mut cell_count = 0;
        let mut counters = Vec::new();
        for spec in counter_specs {
            let counter = Counter::new(spec, cell_count);
            cell_count += counter.cell_count();
            counters.push(counter);
        }
        let events_cell = cell_count;
        // And the one for marks.
        cell_count += 2;
        let mut histograms = Vec::new();
        for spec in histogram_specs {
            histograms.push(HistogramMetric::new(spec, precision, histograms.len(), cell_count)?);
            cell_count += HistogramMetric::SCALARS;
        }
        for histogram in &mut histograms {
            histogram.place_covered(cell_count);
            cell_count += histogram.bounds.count();
        }
        let first_measured = cell_count;
        let mut room = Offsets { cells: cell_count, histograms: histograms.len(), last_values: 0 };
        let measures: Vec<Measure> = measure_specs
            .into_iter()
            .map(|spec| Measure::new(spec, &mut room, precision))
            .collect::<Result<_, _>>()?;
        let Offsets { cells: cell_count, histograms: histogram_count, last_values } = room;
        let allowed = (usize::from(ChunkIndex::MAX) + 1) / precision.chunk_count();
        if histogram_count > allowed {
            return Err(DefinitionError::TooManyHistograms { given: histogram_count, allowed });
        }
        let mut cells: Box<[_]> = vec![Cell::Natural; cell_count].into();
        let of_histograms = histograms.iter().flat_map(HistogramMetric::raising_cells);
        let of_measures = measures.iter().flat_map(Measure::raising_cells);
        let raising: Box<[_]> = of_histograms.chain(of_measures).collect();
        for (ever, slice) in &raising {
            cells[*ever] = Cell::Largest;
            cells[*slice] = Cell::Largest;
        }
        for total in measures.iter().filter_map(Measure::total) {
            cells[total.integers] = Cell::Integer;
            cells[total.floats] = Cell::Float;
        }
        Ok(Self {
            counters,
            histograms,
            measures,
            first_measured,
            last_values,
            histogram_count,
            precision,
            events_cell,
            cells,
            raising,
        })
    }

    /// How many numbers a series has.
    pub fn shape(&self) -> Shape {
        Shape {
            cells: self.cell_count(),
            histograms: self.histogram_count,
            precision: self.precision,
        }
    }

    /// The counters.
    pub fn counters(&self) -> &[Counter] {
        &self.counters
    }

    /// The histograms.
    pub fn histograms(&self) -> &[HistogramMetric] {
        &self.histograms
    }

    /// The measures.
    pub fn measures(&self) -> &[Measure] {
        &self.measures
    }

    /// How many last values a series has.
    pub(crate) fn last_value_count(&self) -> usize {
        self.last_values
    }

    /// Whether a series has anything that adds up over time. The latest of some numbers does not.
    pub fn has_slices(&self) -> bool {
        self.measures.is_empty() || self.measures.iter().any(Measure::adds_up)
    }

    /// Where cells begin that may be others than [`Cell::Natural`] and those of [`Self::raising_cells`].
    pub(crate) fn first_measured_cell(&self) -> usize {
        self.first_measured
    }

    /// The cell that counts events which increment no counter.
    pub(crate) fn events_cell(&self) -> usize {
        self.events_cell
    }

    /// How many cells count events. They are the first ones, and every event increments one.
    pub fn event_cell_count(&self) -> usize {
        self.events_cell + 1
    }

    /// The cell that marks what histograms have counted. Not a number to be summed.
    pub(crate) fn marks_cell(&self) -> usize {
        self.events_cell + 1
    }

    /// How many cells a series has.
    pub fn cell_count(&self) -> usize {
        self.cells.len()
    }

    /// What each cell means.
    #[inline]
    pub(crate) fn cells(&self) -> &[Cell] {
        &self.cells
    }

    /// How many histograms a series has, those of measures included.
    pub fn histogram_count(&self) -> usize {
        self.histogram_count
    }

    /// Bytes allocated, but for names, help and dimensions.
    pub(crate) fn memory_bytes(&self) -> usize {
        let bounds = self.histograms.iter().map(|metric| metric.bounds.memory_bytes());
        let limits = self.measures.iter().map(Measure::memory_bytes);
        heap::sum([
            self.counters.heap_bytes(),
            self.histograms.heap_bytes(),
            self.measures.heap_bytes(),
            self.cells.heap_bytes(),
            self.raising.heap_bytes(),
            heap::sum(bounds),
            heap::sum(limits),
        ])
    }

    /// Pairs of cells whose total is the largest over lanes: the one of all time, and the one of
    /// the slice that is under way.
    pub(crate) fn raising_cells(&self) -> impl Iterator<Item = (usize, usize)> {
        self.raising.iter().copied()
    }
}
