//! Metrics about where requests go.

use crate::router::{Reason, Router, Tally};
use crate::scalar::{Kind, Scalar};

/// What a router tells: of each worker up to a limit, of those that have left lately what was counted,
/// and of all others together. No counter goes down, and none begins with what another had told.
pub(crate) fn scalars(router: &Router, now_ns: u64) -> impl Iterator<Item = Scalar> + use<> {
    let Tally { workers, others, healthy, starting, ejected } = router.tally(now_ns);
    let new = |name, help, kind| Scalar::new(name, help, kind);
    let mut decisions = new(
        "dspex_router_decisions_total",
        "Requests that were routed, by worker and by why it was chosen.",
        Kind::Counter,
    );
    let mut ejections = new(
        "dspex_router_ejections_total",
        "How often workers were ejected because their requests failed.",
        Kind::Counter,
    );
    let mut in_flight = new(
        "dspex_router_in_flight",
        "Requests in flight; those whose end is not reported are estimated.",
        Kind::Gauge,
    );
    for worker in workers.iter().chain(others.iter()) {
        let id = ("worker_id", &*worker.id);
        for (reason, count) in Reason::ALL.into_iter().zip(worker.decisions) {
            decisions = decisions.with(&[id, ("reason", reason.name())], count as f64);
        }
        ejections = ejections.with(&[id], worker.ejections as f64);
        if let Some(requests) = worker.in_flight {
            in_flight = in_flight.with(&[id], requests);
        }
    }
    let mut states = new(
        "dspex_router_workers",
        "Workers that requests may go to, by how they fare.",
        Kind::Gauge,
    );
    if !workers.is_empty() || others.is_some() {
        for (state, count) in [("healthy", healthy), ("starting", starting), ("ejected", ejected)] {
            states = states.with(&[("state", state)], count as f64);
        }
    }
    [decisions, in_flight, ejections, states].into_iter()
}
