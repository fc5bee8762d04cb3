//! What reports read from: an instance through a window, or what several nodes have sent.

use std::borrow::Cow;
use std::sync::Arc;

use telemetry_common::label::LabelSet;
use telemetry_common::moment::Moment;
use telemetry_instance::reader::Reader;
use telemetry_recording::family::Family;
use telemetry_recording::point::Point;
use telemetry_windows::window::{Interval, Window};

/// Counts by family and series over some time.
pub(crate) trait Source {
    /// The time that they cover.
    fn interval(&self) -> Interval;

    /// The families, by whose layouts points are read. Their own series may be others, or none.
    fn families(&self) -> &[Arc<Family>];

    /// The series of a family and what they counted, in no particular order.
    fn points(&self, family: &str) -> Cow<'_, [(LabelSet, Point)]>;

    /// Workers that are alive now.
    fn workers(&self) -> u64;
}

/// An instance through a window.
pub(crate) struct Live<'a> {
    reader: &'a Reader<'a>,
    window: Window,
    now: Moment,
}

impl<'a> Live<'a> {
    pub(crate) fn new(reader: &'a Reader<'a>, window: Window, now: Moment) -> Self {
        Self { reader, window, now }
    }
}

impl Source for Live<'_> {
    fn interval(&self) -> Interval {
        self.reader.interval(self.window, self.now)
    }

    fn families(&self) -> &[Arc<Family>] {
        self.reader.instance().families()
    }

    fn points(&self, family: &str) -> Cow<'_, [(LabelSet, Point)]> {
        Cow::Owned(self.reader.points(family, self.window, self.now))
    }

    fn workers(&self) -> u64 {
        self.reader.instance().workers().len() as u64
    }
}
