//! What an event feeds of one series.

use std::sync::Arc;

use super::labels::LabelSlots;
use super::skip_if::SkipIf;
use crate::family::Family;
use crate::field::Fields;
use crate::lane::Writer;
use crate::metric::HistogramMetric;
use crate::series::Series;

/// Most dimensions of a counter that an event chooses.
pub(crate) const MAX_DIMENSIONS: usize = 2;

pub(crate) struct Count {
    /// The counter's cell where all fields are choice 0.
    pub(crate) first_cell: usize,
    /// Field and stride of the dimensions that are not constant; the others have stride 0.
    pub(crate) dimensions: [(usize, usize); MAX_DIMENSIONS],
}

impl Count {
    /// One cell whatever the fields say.
    pub(crate) fn always(cell: usize) -> Self {
        Self { first_cell: cell, dimensions: [(0, 0); MAX_DIMENSIONS] }
    }
}

pub(crate) struct Observe {
    pub(crate) field: usize,
    /// A copy of the family's, one step nearer.
    pub(crate) metric: HistogramMetric,
    /// Whether exemplars of it are kept.
    pub(crate) exemplars: bool,
}

pub(crate) struct Feed {
    pub(crate) unless: SkipIf,
    pub(crate) claimed: bool,
    pub(crate) family: Arc<Family>,
    pub(crate) labels: LabelSlots,
    pub(crate) counts: Box<[Count]>,
    pub(crate) observes: Box<[Observe]>,
    /// Whether an event is a use of what the family's labels name.
    pub(crate) is_use: bool,
}

impl Feed {
    /// Says whether the event should be an exemplar: whether its sample is the first of its range of
    /// values since a slice of time began.
    #[inline]
    pub(super) fn write(&self, writer: &impl Writer, fields: &Fields<'_>) -> bool {
        let (mut marks, mut exemplary) = (0, 0);
        for observe in &self.observes {
            if let Some(value) = fields.number(observe.field) {
                let mark = Series::observe(writer, &observe.metric, value);
                marks |= mark;
                exemplary |= if observe.exemplars { mark } else { 0 };
            }
        }
        if marks != 0 {
            let marks_cell = &writer.cells()[self.family.layout().marks_cell()];
            exemplary &= !writer.mark(marks_cell, marks);
        }
        for count in &self.counts {
            let step = |(field, stride): (usize, usize)| fields.choice(field) * stride;
            let cell = count.first_cell + count.dimensions.map(step).iter().sum::<usize>();
            count_at(writer, cell);
        }
        exemplary != 0
    }
}

#[inline]
/// Counts an event in a cell.
pub fn count_at(writer: &impl Writer, cell: usize) {
    writer.finish(&writer.cells()[cell]);
}
