//! Why methods fail: errors by method, class and reason.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use serde::Serialize;

use crate::report::View;
use telemetry_instance::spike::Cause;
use telemetry_recording::family::Role;

/// Labels of a method: its name and its class.
const METHOD_LABELS: usize = 2;

/// Errors of one method of one class.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct MethodErrors {
    /// The method.
    pub method: String,
    /// The class.
    pub python_class: String,
    /// How many calls failed.
    pub errors: u64,
    /// Why, the most frequent first.
    pub reasons: Vec<Cause>,
}

impl View<'_> {
    /// Why methods fail, the most frequent reason first, by the labels of the method.
    pub(crate) fn reasons(&self) -> BTreeMap<Vec<String>, Vec<Cause>> {
        let mut reasons: BTreeMap<Vec<String>, Vec<Cause>> = BTreeMap::new();
        let counters = self.family(Role::CallErrors).map(|family| family.layout().counters());
        let Some((counter, kinds)) = counters
            .and_then(<[_]>::first)
            .and_then(|counter| Some((counter, &counter.dimensions.first()?.values)))
        else {
            return reasons;
        };
        for (labels, point) in self.points(Role::CallErrors).iter() {
            let method: Vec<_> = labels.values().take(METHOD_LABELS).map(str::to_owned).collect();
            let reason = labels.values().nth(METHOD_LABELS).unwrap_or_default();
            for (kind, cell) in kinds.iter().zip(counter.cells()) {
                let count = point.cell(cell);
                if count > 0 {
                    let cause = Cause { kind: kind.clone(), reason: reason.to_owned(), count };
                    reasons.entry(method.clone()).or_default().push(cause);
                }
            }
        }
        for causes in reasons.values_mut() {
            causes.sort_by(|one, other| one.rank().cmp(&other.rank()));
        }
        reasons
    }

    /// Methods that fail, those that fail most first.
    pub(crate) fn method_errors(&self) -> Vec<MethodErrors> {
        let methods = self.reasons().into_iter().filter_map(|(labels, reasons)| {
            let mut labels = labels.into_iter();
            Some(MethodErrors {
                method: labels.next()?,
                python_class: labels.next()?,
                errors: reasons.iter().map(|cause| cause.count).sum(),
                reasons,
            })
        });
        let mut methods: Vec<_> = methods.collect();
        methods.sort_by_key(|method| Reverse(method.errors));
        methods
    }
}
