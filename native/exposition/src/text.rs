//! The text formats: Prometheus 0.0.4 and OpenMetrics 1.0.0.

use std::cell::{Cell, RefCell};

use super::encoder::{
    Bound, DistributionSample, Encoder, Header, HistogramSample, MetricKind, SummarySample, Value,
};
use super::names::{TOTAL, WholeNames};
use super::number;
use telemetry_common::scalar::Kind;
use telemetry_recording::exemplar::Exemplar;

/// One of the two.
pub(crate) struct Text<'a> {
    open_metrics: Option<OpenMetrics<'a>>,
}

struct OpenMetrics<'a> {
    /// Counters that keep them there.
    whole_names: WholeNames<'a>,
    /// How many samples of which metrics had to be left out.
    left_out: RefCell<Vec<(String, u64)>>,
}

/// A metric, ready for its samples.
pub(crate) struct TextMetric {
    /// What its samples are called, before `_bucket` and the like.
    name: String,
    /// What the samples of a counter end in.
    counter_suffix: &'static str,
    /// The label of each explicit bucket.
    bounds: Vec<Vec<u8>>,
    /// Whether it has a bound below zero.
    counts_negatives: bool,
    /// How many samples OpenMetrics does not allow.
    left_out: Cell<u64>,
}

impl TextMetric {
    fn leave_out(&self, samples: u64) {
        self.left_out.set(self.left_out.get() + samples);
    }
}

impl<'a> Text<'a> {
    pub(crate) const PROMETHEUS: Self = Self { open_metrics: None };

    pub(crate) fn open_metrics(whole_names: WholeNames<'a>) -> Self {
        Self { open_metrics: Some(OpenMetrics { whole_names, left_out: RefCell::default() }) }
    }

    /// What OpenMetrics calls a counter whose samples end in `_total`. All others are of unknown type there.
    fn base_of_counter<'h>(&self, header: &Header<'h>) -> Option<&'h str> {
        let whole_names = &self.open_metrics.as_ref()?.whole_names;
        let is_counter = header.kind == MetricKind::Scalar(Kind::Counter);
        let base = header.name.strip_suffix(TOTAL).filter(|_| is_counter)?;
        (!whole_names.contains(header.name)).then_some(base)
    }

    fn announce(&self, header: &Header<'_>, base_of_counter: Option<&str>, out: &mut Vec<u8>) {
        let open_metrics = self.open_metrics.is_some();
        let name = base_of_counter.unwrap_or(header.name);
        let kind = match header.kind {
            MetricKind::Scalar(Kind::Counter) if open_metrics && base_of_counter.is_none() => {
                "unknown"
            }
            MetricKind::Scalar(Kind::Counter) => "counter",
            MetricKind::Scalar(Kind::Gauge) => "gauge",
            MetricKind::Histogram => "histogram",
            MetricKind::Summary => "summary",
        };
        out.extend_from_slice(format!("# HELP {name} ").as_bytes());
        escape(header.help.as_bytes(), open_metrics, out);
        out.extend_from_slice(format!("\n# TYPE {name} {kind}\n").as_bytes());
        if let Some(unit) = header.unit().filter(|_| open_metrics) {
            out.extend_from_slice(format!("# UNIT {name} {unit}\n").as_bytes());
        }
    }

    /// Whether it is a number that OpenMetrics allows for no counter, sum or quantile.
    fn refuses(&self, value: f64) -> bool {
        self.open_metrics.is_some() && value < 0.0
    }

    fn bound(&self, bound: Bound<'_>) -> Vec<u8> {
        match bound.text.filter(|_| self.open_metrics.is_none()) {
            Some(text) => self.label_alone("le", text.as_bytes()),
            None => self.number_label("le", bound.value),
        }
    }

    fn number_label(&self, name: &str, value: f64) -> Vec<u8> {
        let mut text = Vec::new();
        number::go(value, &mut text);
        // OpenMetrics wants such labels to look like floats.
        if self.open_metrics.is_some() && text.iter().all(|byte| matches!(byte, b'-' | b'0'..=b'9'))
        {
            text.extend_from_slice(b".0");
        }
        self.label_alone(name, &text)
    }

    fn label_alone(&self, name: &str, value: &[u8]) -> Vec<u8> {
        let mut label = Vec::new();
        self.label_of_bytes(name, value, &mut label);
        label
    }

    /// Writes explicit buckets, cumulated, and returns how many samples there are.
    fn buckets(
        &self,
        metric: &TextMetric,
        labels: &[u8],
        buckets: &[u64],
        out: &mut Vec<u8>,
        exemplar: impl Fn(usize, &mut Vec<u8>),
    ) -> u64 {
        let mut prefix = Vec::with_capacity(metric.name.len() + labels.len() + 16);
        prefix.extend_from_slice(metric.name.as_bytes());
        prefix.extend_from_slice(b"_bucket{");
        prefix.extend_from_slice(labels);
        if !labels.is_empty() {
            prefix.push(b',');
        }
        let mut count = 0;
        for (at, (bound, in_bucket)) in metric.bounds.iter().zip(buckets).enumerate() {
            count += in_bucket;
            out.extend_from_slice(&prefix);
            out.extend_from_slice(bound);
            out.extend_from_slice(b"} ");
            number::integer(count, out);
            exemplar(at, out);
            out.push(b'\n');
        }
        count
    }

    /// Writes how many samples there are, behind their sum.
    fn count(
        &self,
        metric: &TextMetric,
        labels: &[u8],
        count: u64,
        created_unix_ms: Option<i64>,
        out: &mut Vec<u8>,
    ) {
        start(&metric.name, "_count", labels, out);
        finish(Value::Integer(count), out);
        self.created(&metric.name, labels, created_unix_ms, out);
    }

    fn label_of_bytes(&self, name: &str, value: &[u8], labels: &mut Vec<u8>) {
        if !labels.is_empty() {
            labels.push(b',');
        }
        labels.extend_from_slice(name.as_bytes());
        labels.extend_from_slice(b"=\"");
        escape(value, true, labels);
        labels.push(b'"');
    }

    fn created(&self, name: &str, labels: &[u8], unix_ms: Option<i64>, out: &mut Vec<u8>) {
        if let Some(unix_ms) = unix_ms.filter(|_| self.open_metrics.is_some()) {
            start(name, "_created", labels, out);
            number::seconds(unix_ms, out);
            out.push(b'\n');
        }
    }

    fn exemplar(&self, exemplar: &Exemplar, divisor: f64, out: &mut Vec<u8>) {
        let mut labels = Vec::new();
        for (name, value) in exemplar.labels() {
            self.label(name, value, &mut labels);
        }
        out.extend_from_slice(b" # {");
        out.extend_from_slice(&labels);
        out.extend_from_slice(b"} ");
        number::go(exemplar.value as f64 / divisor, out);
        out.push(b' ');
        number::seconds(exemplar.unix_ms, out);
    }
}

/// Escapes a backslash, a line feed and, where they stand in quotes, a quote.
fn escape(text: &[u8], in_quotes: bool, out: &mut Vec<u8>) {
    let is_special = |byte: &u8| matches!(byte, b'\\' | b'\n') || (in_quotes && *byte == b'"');
    let mut rest = text;
    while let Some(at) = rest.iter().position(is_special) {
        out.extend_from_slice(&rest[..at]);
        out.push(b'\\');
        out.push(if rest[at] == b'\n' { b'n' } else { rest[at] });
        rest = &rest[at + 1..];
    }
    out.extend_from_slice(rest);
}

/// Begins the line of a sample.
#[inline]
fn start(name: &str, suffix: &str, labels: &[u8], out: &mut Vec<u8>) {
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(suffix.as_bytes());
    if !labels.is_empty() {
        out.push(b'{');
        out.extend_from_slice(labels);
        out.push(b'}');
    }
    out.push(b' ');
}

/// Ends the line of a sample.
fn finish(value: Value, out: &mut Vec<u8>) {
    match value {
        Value::Integer(value) => number::integer(value, out),
        Value::Signed(value) => number::integer(value, out),
        Value::Float(value) => number::go(value, out),
    }
    out.push(b'\n');
}

impl Encoder for Text<'_> {
    const HAS_COUNTS: bool = false;

    type Metric = TextMetric;

    fn metric(
        &self,
        header: Header<'_>,
        bounds: &[Bound<'_>],
        out: &mut Vec<u8>,
        write: impl FnOnce(&TextMetric, &mut Vec<u8>),
    ) {
        let base_of_counter = self.base_of_counter(&header);
        let metric = TextMetric {
            name: base_of_counter.unwrap_or(header.name).to_owned(),
            counter_suffix: if base_of_counter.is_some() { TOTAL } else { "" },
            bounds: bounds.iter().map(|bound| self.bound(*bound)).collect(),
            counts_negatives: bounds.first().is_some_and(|bound| bound.value < 0.0),
            left_out: Cell::new(0),
        };
        let start = out.len();
        self.announce(&header, base_of_counter, out);
        let announced = out.len();
        write(&metric, out);
        if out.len() == announced {
            out.truncate(start);
        }
        if let Some(open_metrics) = &self.open_metrics
            && metric.left_out.get() > 0
        {
            let left_out = (header.name.to_owned(), metric.left_out.get());
            open_metrics.left_out.borrow_mut().push(left_out);
        }
    }

    fn left_out(&self) -> Vec<(String, u64)> {
        self.open_metrics.as_ref().map(|metrics| metrics.left_out.take()).unwrap_or_default()
    }

    fn label(&self, name: &str, value: &str, labels: &mut Vec<u8>) {
        self.label_of_bytes(name, value.as_bytes(), labels);
    }

    fn join(&self, labels: &mut Vec<u8>, more: &[u8]) {
        if !labels.is_empty() && !more.is_empty() {
            labels.push(b',');
        }
        labels.extend_from_slice(more);
    }

    fn counter(
        &self,
        metric: &TextMetric,
        labels: &[u8],
        value: Value,
        created_unix_ms: Option<i64>,
        out: &mut Vec<u8>,
    ) {
        // What is no counter in OpenMetrics may be negative there, and has no time of creation.
        let is_counter = !metric.counter_suffix.is_empty();
        if is_counter && self.refuses(value.as_f64()) {
            return metric.leave_out(1);
        }
        start(&metric.name, metric.counter_suffix, labels, out);
        finish(value, out);
        let created_unix_ms = created_unix_ms.filter(|_| is_counter);
        self.created(&metric.name, labels, created_unix_ms, out);
    }

    fn gauge(&self, metric: &TextMetric, labels: &[u8], value: Value, out: &mut Vec<u8>) {
        start(&metric.name, "", labels, out);
        finish(value, out);
    }

    fn histogram(
        &self,
        metric: &TextMetric,
        labels: &[u8],
        sample: &HistogramSample<'_>,
        out: &mut Vec<u8>,
    ) {
        let divisor = sample.metric.unit.divisor();
        let count = self.buckets(metric, labels, sample.buckets, out, |at, out| {
            if self.open_metrics.is_some()
                && let Some(Some(exemplar)) = sample.exemplars.get(at)
            {
                self.exemplar(exemplar, divisor, out);
            }
        });
        start(&metric.name, "_sum", labels, out);
        if divisor == 1.0 {
            number::integer(sample.sum, out);
        } else {
            number::thousandths(sample.sum, out);
        }
        out.push(b'\n');
        self.count(metric, labels, count, sample.created_unix_ms, out);
    }

    fn distribution(
        &self,
        metric: &TextMetric,
        labels: &[u8],
        sample: &DistributionSample<'_>,
        out: &mut Vec<u8>,
    ) {
        let count = self.buckets(metric, labels, sample.counts, out, |_, _| {});
        // There is a count if and only if there is a sum, and none with negative bounds.
        let has_sum = self.open_metrics.is_none() || !metric.counts_negatives;
        if !has_sum || self.refuses(sample.sum.as_f64()) {
            metric.leave_out(2);
            return self.created(&metric.name, labels, sample.created_unix_ms, out);
        }
        start(&metric.name, "_sum", labels, out);
        finish(sample.sum, out);
        self.count(metric, labels, count, sample.created_unix_ms, out);
    }

    fn summary(
        &self,
        metric: &TextMetric,
        labels: &[u8],
        sample: &SummarySample,
        out: &mut Vec<u8>,
    ) {
        let mut all_labels = Vec::new();
        for (quantile, value) in &sample.quantiles {
            if self.refuses(*value) {
                metric.leave_out(1);
                continue;
            }
            all_labels.clear();
            all_labels.extend_from_slice(labels);
            self.join(&mut all_labels, &self.number_label("quantile", *quantile));
            start(&metric.name, "", &all_labels, out);
            finish(Value::Float(*value), out);
        }
        if self.refuses(sample.sum.as_f64()) {
            metric.leave_out(1);
        } else {
            start(&metric.name, "_sum", labels, out);
            finish(sample.sum, out);
        }
        self.count(metric, labels, sample.count, sample.created_unix_ms, out);
    }

    fn end(&self, out: &mut Vec<u8>) {
        if self.open_metrics.is_some() {
            out.extend_from_slice(b"# EOF\n");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_escaped() {
        let mut labels = Vec::new();
        Text::PROMETHEUS.label("a", "quote \" slash \\ line\nend \0 \u{1F600} <b>", &mut labels);
        Text::PROMETHEUS.label("b", "", &mut labels);
        let expected = "a=\"quote \\\" slash \\\\ line\\nend \0 \u{1F600} <b>\",b=\"\"";
        assert_eq!(String::from_utf8(labels).expect("UTF-8"), expected);
    }

    fn written(text: &Text<'_>, name: &str, help: &str, kind: MetricKind) -> String {
        let header = Header { name, help, kind, stored_unit: None };
        let mut out = Vec::new();
        text.metric(header, &[], &mut out, |metric, out| {
            text.counter(metric, b"", Value::Integer(1), Some(1_000), out);
        });
        String::from_utf8(out).expect("UTF-8")
    }

    const COUNTER: MetricKind = MetricKind::Scalar(Kind::Counter);

    #[test]
    fn quotes_in_a_help_text_are_escaped_in_openmetrics_only() {
        let help = |text: Text<'_>| {
            let written = written(&text, "a_total", "x=\"y\" \\\n", COUNTER);
            written.lines().next().expect("lines").to_owned()
        };
        assert_eq!(help(Text::PROMETHEUS), "# HELP a_total x=\"y\" \\\\\\n");
        let open_metrics = Text::open_metrics(WholeNames::default());
        assert_eq!(help(open_metrics), "# HELP a x=\\\"y\\\" \\\\\\n");
    }

    #[test]
    fn a_counter_of_openmetrics_that_cannot_do_without_its_whole_name_is_of_unknown_type() {
        let whole_names = [(COUNTER, "a_total"), (MetricKind::Scalar(Kind::Gauge), "a")];
        let text = Text::open_metrics(WholeNames::among(&whole_names));
        let expected = "# HELP a_total \n# TYPE a_total unknown\na_total 1\n";
        assert_eq!(written(&text, "a_total", "", COUNTER), expected);
        let expected = "# HELP a \n# TYPE a unknown\na 1\n";
        assert_eq!(written(&text, "a", "", COUNTER), expected);
        let expected = "# HELP b \n# TYPE b counter\nb_total 1\nb_created 1.000\n";
        assert_eq!(written(&text, "b_total", "", COUNTER), expected);
        let expected = "# HELP a_total \n# TYPE a_total counter\na_total 1\n";
        assert_eq!(written(&Text::PROMETHEUS, "a_total", "", COUNTER), expected);
    }
}
