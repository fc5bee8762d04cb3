//! A view of an instance for reports.

use std::sync::RwLockReadGuard;

use crate::instance::{Instance, State};
use telemetry_common::label::LabelSet;
use telemetry_common::moment::Moment;
use telemetry_recording::point::Point;
use telemetry_windows::window::{Interval, Window, Windows};

/// An instance while no slice ends and no series is removed. Recording goes on.
pub struct Reader<'a> {
    instance: &'a Instance,
    state: RwLockReadGuard<'a, State>,
}

impl Instance {
    /// A view for a report.
    pub fn read(&self) -> Reader<'_> {
        Reader { instance: self, state: self.state() }
    }
}

impl<'a> Reader<'a> {
    /// The instance.
    pub fn instance(&self) -> &Instance {
        self.instance
    }

    /// The slices of time.
    pub fn windows(&self) -> &Windows {
        &self.state.windows
    }

    /// The time that a window covers.
    pub fn interval(&self, window: Window, now: Moment) -> Interval {
        self.windows().interval(window, now)
    }

    /// What the series of a family have counted in a window, in no particular order.
    pub fn points(&self, family: &str, window: Window, now: Moment) -> Vec<(LabelSet, Point)> {
        let mut families = self.instance.families().iter();
        let Some(index) = families.position(|candidate| candidate.name() == family) else {
            return Vec::new();
        };
        let family = &self.instance.families()[index];
        let layout = family.layout();
        if window == Window::SinceStart {
            let series = family.series_with_overflow().into_iter();
            return series.map(|series| (series.labels().clone(), series.point(layout))).collect();
        }
        let mut points = self.windows().points(window, index, layout, now.ms);
        if let Window::Last(_) = window {
            let mut delta = Point::new(layout);
            for series in family.series_with_overflow() {
                if series.peek_delta(layout, &mut delta) {
                    let sum = points.entry(series.labels().clone());
                    sum.or_insert_with(|| Point::new(layout)).add(&delta, layout);
                }
            }
        }
        points.values_mut().for_each(|point| point.finish(layout));
        points.into_iter().collect()
    }
}
