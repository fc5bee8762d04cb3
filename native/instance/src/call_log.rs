//! The last calls that failed and the slowest calls, one by one, with what they can be found by.
//!
//! Both are short and bounded. Counts come from elsewhere; this is what a person looks at next.
//!
//! To keep a call costs about a microsecond. Of failures that come faster than they can be read only the first of each
//! tenth of a second are kept, as many as there is room for.

use std::collections::VecDeque;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use serde::{Deserialize, Serialize};

use telemetry_common::heap::{self, HeapBytes};
use telemetry_common::label;
use telemetry_common::lock::lock;
use telemetry_recording::details::Details;
use telemetry_recording::metric::NANOSECONDS_PER_MICROSECOND;
use telemetry_windows::window::Interval;

/// How much is kept.
#[derive(Clone, Debug, Default, Deserialize)]
pub struct CallLogSpec {
    /// How many of the last failed calls.
    #[serde(default)]
    pub failures: usize,
    /// How many of the slowest calls.
    #[serde(default)]
    pub slowest: usize,
    /// For how long a call is among the slowest, in milliseconds.
    #[serde(default)]
    pub slowest_for_ms: u64,
    /// Whether messages of errors are kept.
    #[serde(default)]
    pub messages: bool,
}

/// A call that was kept.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct LoggedCall {
    /// When it ended, in milliseconds since 1970.
    pub at_unix_ms: i64,
    /// The method.
    pub method: String,
    /// The class.
    pub python_class: String,
    /// How long it took.
    pub duration_us: Option<f64>,
    /// Whether it failed.
    pub failed: bool,
    /// The kind of the error.
    pub kind: Option<String>,
    /// Why it failed.
    pub reason: Option<String>,
    /// The message of the error, cut.
    pub message: Option<String>,
    /// The worker that executed it.
    pub worker_id: Option<String>,
    /// The caller's session.
    pub session_id: Option<String>,
    /// The trace.
    pub trace_id: Option<String>,
    /// What joins the events of one execution.
    pub correlation_id: Option<String>,
    /// When it ended, on the clock of slices.
    #[serde(skip)]
    pub(crate) at_ms: u64,
}

/// What is known of a call apart from its details.
pub(crate) struct Call<'a> {
    pub(crate) method: &'a str,
    pub(crate) python_class: &'a str,
    pub(crate) duration_ns: Option<u64>,
    /// The kind and the reason of its error, if it failed.
    pub(crate) failure: Option<(&'a str, &'a str)>,
    pub(crate) at_ms: u64,
    pub(crate) at_unix_ms: i64,
}

/// The last failures and the slowest calls.
pub struct CallLog {
    spec: CallLogSpec,
    /// The newest last.
    failures: Mutex<VecDeque<LoggedCall>>,
    /// The tenth of a second, and how many failures have been taken in it.
    taken: [AtomicU64; 2],
    /// The slowest first.
    slowest: Mutex<Vec<LoggedCall>>,
    /// A call that takes longer, in nanoseconds, is one of the slowest.
    slow_above_ns: AtomicU64,
}

impl CallLog {
    /// Has no calls.
    pub fn new(spec: CallLogSpec) -> Self {
        Self {
            slow_above_ns: AtomicU64::new(threshold_ns(&spec, &[])),
            spec,
            failures: Mutex::default(),
            taken: [AtomicU64::new(0), AtomicU64::new(0)],
            slowest: Mutex::default(),
        }
    }

    /// Whether a call that took so long is one of the slowest.
    #[inline]
    pub(crate) fn is_slow(&self, duration_ns: u64) -> bool {
        duration_ns > self.slow_above_ns.load(Relaxed)
    }

    /// Whether a call that fails now is to be kept. Threads that race for a new tenth of a second may take some more.
    pub(crate) fn takes_failure(&self, now_ms: u64) -> bool {
        let [tenth, taken] = &self.taken;
        let now = now_ms / MILLISECONDS_PER_TENTH;
        if tenth.load(Relaxed) != now {
            taken.store(0, Relaxed);
            tenth.store(now, Relaxed);
        }
        let most = FAILURES_PER_TENTH.min(self.spec.failures as u64);
        // Read first: where many fail, threads would pass the counter from one to another.
        taken.load(Relaxed) < most && taken.fetch_add(1, Relaxed) < most
    }

    /// Keeps a call that failed, in the place of the oldest if there are too many.
    pub(crate) fn keep_failure(&self, call: &Call<'_>, details: &Details<'_>) {
        if self.spec.failures == 0 {
            return;
        }
        let call = self.logged(call, details);
        let mut failures = lock(&self.failures);
        if failures.len() == self.spec.failures {
            failures.pop_front();
        }
        failures.push_back(call);
    }

    /// Keeps a call that is one of the slowest, in the place of the fastest of them if there are too many.
    pub(crate) fn keep_slow(&self, call: &Call<'_>, details: &Details<'_>) {
        if !call.duration_ns.is_some_and(|duration| self.is_slow(duration)) {
            return;
        }
        let call = self.logged(call, details);
        let mut slowest = lock(&self.slowest);
        let place = slowest.partition_point(|other| other.duration_us >= call.duration_us);
        if place >= self.spec.slowest {
            return;
        }
        slowest.insert(place, call);
        slowest.truncate(self.spec.slowest);
        self.set_threshold(&slowest);
    }

    /// Forgets slow calls of which too much time has passed.
    pub(crate) fn tick(&self, now_ms: u64) {
        let mut slowest = lock(&self.slowest);
        let before = slowest.len();
        slowest.retain(|call| now_ms.saturating_sub(call.at_ms) < self.spec.slowest_for_ms);
        if slowest.len() < before {
            self.set_threshold(&slowest);
        }
    }

    fn set_threshold(&self, slowest: &[LoggedCall]) {
        self.slow_above_ns.store(threshold_ns(&self.spec, slowest), Relaxed);
    }

    /// The last failures within an interval, the newest first.
    pub fn failures(&self, interval: &Interval) -> Vec<LoggedCall> {
        let failures = lock(&self.failures);
        failures.iter().rev().filter(|call| call.is_within(interval)).cloned().collect()
    }

    /// The slowest calls within an interval, the slowest first.
    pub fn slowest(&self, interval: &Interval) -> Vec<LoggedCall> {
        lock(&self.slowest).iter().filter(|call| call.is_within(interval)).cloned().collect()
    }

    /// Forgets all calls.
    pub(crate) fn clear(&self) {
        lock(&self.failures).clear();
        let mut slowest = lock(&self.slowest);
        slowest.clear();
        self.set_threshold(&slowest);
    }

    /// Bytes allocated for the calls.
    pub fn memory_bytes(&self) -> usize {
        let (failures, slowest) = (lock(&self.failures), lock(&self.slowest));
        let texts = failures.iter().chain(slowest.iter()).map(LoggedCall::text_bytes);
        heap::sum([failures.heap_bytes(), slowest.heap_bytes(), heap::sum(texts)])
    }

    fn logged(&self, call: &Call<'_>, details: &Details<'_>) -> LoggedCall {
        let known = |text: &[u8]| (!text.is_empty()).then(|| label::normalise(text).into_owned());
        LoggedCall {
            at_unix_ms: call.at_unix_ms,
            method: call.method.to_owned(),
            python_class: call.python_class.to_owned(),
            duration_us: call.duration_ns.map(|ns| ns as f64 / NANOSECONDS_PER_MICROSECOND),
            failed: call.failure.is_some(),
            kind: call.failure.map(|(kind, _)| kind.to_owned()),
            reason: call.failure.map(|(_, reason)| reason.to_owned()),
            message: known(details.message).filter(|_| self.spec.messages),
            worker_id: known(details.worker_id),
            session_id: known(details.session_id),
            trace_id: known(details.trace_id),
            correlation_id: known(details.correlation_id),
            at_ms: call.at_ms,
        }
    }
}

/// Above how long a call is one of the slowest, of which there are these so far.
fn threshold_ns(spec: &CallLogSpec, slowest: &[LoggedCall]) -> u64 {
    if spec.slowest == 0 {
        return u64::MAX;
    }
    // Only at the length that it may have does the last one count.
    let is_full = slowest.len() == spec.slowest;
    let fastest = slowest.last().filter(|_| is_full).and_then(|call| call.duration_us);
    // Rounded down: a call as slow as the fastest of them is looked at and found to have no place.
    fastest.map_or(0, |us| (us * NANOSECONDS_PER_MICROSECOND) as u64)
}

const MILLISECONDS_PER_TENTH: u64 = 100;
const FAILURES_PER_TENTH: u64 = 1_000;

impl LoggedCall {
    fn is_within(&self, interval: &Interval) -> bool {
        (interval.from_unix_ms..=interval.to_unix_ms).contains(&self.at_unix_ms)
    }

    fn text_bytes(&self) -> usize {
        let optional = [
            &self.kind,
            &self.reason,
            &self.message,
            &self.worker_id,
            &self.session_id,
            &self.trace_id,
            &self.correlation_id,
        ];
        heap::sum([
            self.method.heap_bytes(),
            self.python_class.heap_bytes(),
            heap::sum(optional.map(HeapBytes::heap_bytes)),
        ])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn log(failures: usize, slowest: usize) -> CallLog {
        CallLog::new(CallLogSpec { failures, slowest, slowest_for_ms: 100, messages: true })
    }

    fn call(method: &str, duration_ns: u64, at_ms: u64) -> Call<'_> {
        Call {
            method,
            python_class: "C",
            duration_ns: Some(duration_ns),
            failure: Some(("error", "ValueError")),
            at_ms,
            at_unix_ms: at_ms as i64,
        }
    }

    fn since(from_unix_ms: i64) -> Interval {
        Interval { from_unix_ms, to_unix_ms: 1_000, duration_ms: 0 }
    }

    fn methods(calls: Vec<LoggedCall>) -> Vec<String> {
        calls.into_iter().map(|call| call.method).collect()
    }

    #[test]
    fn the_last_failures_are_kept() {
        let log = log(2, 0);
        for (at_ms, method) in ["a", "b", "c"].into_iter().enumerate() {
            log.keep_failure(&call(method, 1, at_ms as u64), &Details::default());
        }
        assert_eq!(methods(log.failures(&since(0))), ["c", "b"]);
        assert_eq!(methods(log.failures(&since(2))), ["c"]);
        let until = |to_unix_ms| Interval { from_unix_ms: 1, to_unix_ms, duration_ms: 0 };
        assert_eq!(methods(log.failures(&until(1))), ["b"]);
        assert_eq!(methods(log.failures(&until(2))), ["c", "b"]);
        log.clear();
        assert!(log.failures(&since(0)).is_empty());
    }

    #[test]
    fn in_a_tenth_of_a_second_no_more_failures_are_taken_than_are_kept() {
        for (kept, most) in [(0, 0), (2, 2), (10_000, 1_000)] {
            let log = log(kept, 0);
            let taken = |now_ms| (0..5_000).filter(|_| log.takes_failure(now_ms)).count();
            assert_eq!([0, 99, 100, 299, 300].map(taken), [most, 0, most, most, most]);
        }
    }

    #[test]
    fn the_slowest_calls_are_kept_for_some_time() {
        let log = log(0, 2);
        let keep = |method: &str, duration_ns, at_ms| {
            let slow = log.is_slow(duration_ns);
            log.keep_slow(&call(method, duration_ns, at_ms), &Details::default());
            slow
        };
        assert!(keep("a", 5_000, 0));
        assert!(keep("b", 9_000, 50));
        assert!(!keep("as slow as the last", 5_000, 60));
        assert!(keep("c", 7_000, 70));
        assert_eq!(methods(log.slowest(&since(0))), ["b", "c"]);
        assert_eq!(methods(log.slowest(&since(60))), ["c"]);
        log.tick(149);
        assert_eq!(methods(log.slowest(&since(0))), ["b", "c"]);
        assert!(!keep("fast", 6_000, 149));
        log.tick(150);
        assert_eq!(methods(log.slowest(&since(0))), ["c"]);
        assert!(keep("now slow", 6_000, 150));
        assert_eq!(methods(log.slowest(&since(0))), ["c", "now slow"]);
    }

    #[test]
    fn of_calls_that_took_equally_long_the_earlier_is_first() {
        let log = log(0, 3);
        for method in ["a", "b"] {
            log.keep_slow(&call(method, 5_000, 0), &Details::default());
        }
        assert_eq!(methods(log.slowest(&since(0))), ["a", "b"]);
    }

    #[test]
    fn after_a_reset_any_call_is_one_of_the_slowest() {
        let log = log(0, 1);
        log.keep_slow(&call("a", 5_000, 0), &Details::default());
        assert!(!log.is_slow(1));
        log.clear();
        assert!(log.slowest(&since(0)).is_empty());
        assert!(log.is_slow(1));
    }

    #[test]
    fn a_call_is_kept_with_all_that_is_known_of_it() {
        let log = log(1, 0);
        let details = Details {
            message: b"message",
            worker_id: b"worker",
            session_id: b"session",
            trace_id: b"trace",
            span_id: b"not kept",
            correlation_id: b"correlation",
            is_callers_fault: false,
        };
        log.keep_failure(&call("method", 1_500, 7), &details);
        let text = |text: &str| Some(text.to_owned());
        let kept = LoggedCall {
            at_unix_ms: 7,
            method: "method".to_owned(),
            python_class: "C".to_owned(),
            duration_us: Some(1.5),
            failed: true,
            kind: text("error"),
            reason: text("ValueError"),
            message: text("message"),
            worker_id: text("worker"),
            session_id: text("session"),
            trace_id: text("trace"),
            correlation_id: text("correlation"),
            at_ms: 7,
        };
        assert_eq!(log.failures(&since(0)), [kept]);
    }

    #[test]
    fn an_exemplar_can_have_each_label_that_finds_its_call() {
        let details = Details {
            session_id: b"session",
            trace_id: b"trace",
            span_id: b"span",
            correlation_id: b"correlation",
            ..Details::default()
        };
        for label in ["session", "trace", "span", "correlation"] {
            assert_eq!(details.exemplar_label(&format!("{label}_id")), label.as_bytes());
        }
        assert_eq!(details.exemplar_label("worker_id"), b"");
    }

    #[test]
    fn memory_of_calls_and_their_texts_is_counted() {
        let log = log(10, 10);
        let long = [b'm'; label::MAX_LABEL_BYTES];
        let details = Details { message: &long, trace_id: &long, ..Details::default() };
        for at_ms in 0..10 {
            log.keep_failure(&call("a", 1, at_ms), &details);
            log.keep_slow(&call("a", at_ms + 1, at_ms), &details);
        }
        let places = lock(&log.failures).capacity() + lock(&log.slowest).capacity();
        let texts = "a".len() + "C".len() + "error".len() + "ValueError".len() + 2 * long.len();
        assert_eq!(log.memory_bytes(), places * size_of::<LoggedCall>() + 20 * texts);
    }

    #[test]
    fn nothing_is_kept_where_nothing_is_to_be() {
        let log = log(0, 0);
        assert!(!log.is_slow(u64::MAX));
        log.keep_failure(&call("a", 1, 0), &Details::default());
        log.keep_slow(&call("a", 1, 0), &Details::default());
        assert!(log.failures(&since(0)).is_empty() && log.slowest(&since(0)).is_empty());
        log.clear();
        assert!(!log.is_slow(u64::MAX));
    }

    #[test]
    fn texts_are_cut_and_messages_can_be_left_out() {
        let long = [b'm'; 1_000];
        let details = Details { message: &long, worker_id: b"w", ..Details::default() };
        let log = log(1, 0);
        log.keep_failure(&call("a", 1, 0), &details);
        let kept = &log.failures(&since(0))[0];
        assert_eq!(kept.message.as_ref().map(String::len), Some(label::MAX_LABEL_BYTES));
        assert_eq!((kept.worker_id.as_deref(), kept.session_id.as_deref()), (Some("w"), None));
        let spec = CallLogSpec { failures: 1, messages: false, ..CallLogSpec::default() };
        let log = CallLog::new(spec);
        log.keep_failure(&call("a", 1, 0), &details);
        assert_eq!(log.failures(&since(0))[0].message, None);
    }
}
