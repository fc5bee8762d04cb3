// The methods, with their course over time.

import { setHidden, setText, element } from "./dom.js";
import { causes, count, duration, method, methodKey, percent, plural, rate } from "./format.js";
import { makeCalls, makeLatency, showCalls, showLatency } from "./spark.js";
import { Table } from "./table.js";

export class Methods {
  #note;
  #table;
  #empty = element("p", { class: "empty" });
  #time = null;
  #seconds = 1;

  constructor(container, note) {
    this.#note = note;
    const quantile = (name) => ({
      id: name,
      label: name,
      value: (row) => row[`${name}_us`],
      text: (row) => duration(row[`${name}_us`]),
    });
    const spark = (id, label, make, show) => ({
      id,
      label,
      left: true,
      make,
      show: (node, row) => {
        // The sum of the others has no course.
        node.style.display = row.series ? "" : "none";
        if (row.series) show(node, this.#time, row.series);
      },
    });
    this.#table = new Table(container, {
      label: "Methods",
      className: "methods",
      key: methodKey,
      sort: { id: "calls", direction: "descending" },
      columns: [
        { id: "name", label: "Method", left: true, first: "ascending", value: method, text: (row) => row.label ?? method(row) },
        { id: "calls", label: "calls", value: (row) => row.count, text: (row) => count(row.count) },
        { id: "rate", label: "per s", value: (row) => row.count, text: (row) => rate(row.count / this.#seconds) },
        {
          id: "failed",
          label: "errors",
          value: (row) => row.error_rate,
          text: (row) => percent(row.error_rate),
          hint: (row) => `${count(row.errors)} of ${plural(row.count, "call")}`,
          mark: (row) => row.error_rate >= 0.01,
        },
        {
          id: "why",
          label: "why",
          left: true,
          name: true,
          text: ({ reasons = [] }) => (reasons.length > 0 ? `${reasons[0].reason} ×${count(reasons[0].count)}` : ""),
          hint: ({ reasons = [] }) => causes(reasons),
        },
        quantile("p50"),
        quantile("p95"),
        quantile("p99"),
        {
          id: "python",
          label: "in Python",
          title: "The mean time inside Python, of the mean of the whole calls",
          present: (rows) => rows.some((row) => row.python_us !== null),
          value: (row) => row.python_us?.mean ?? null,
          text: (row) => (row.python_us ? `${duration(row.python_us.mean)} of ${duration(row.mean_us)}` : ""),
          hint: (row) => (row.python_us ? `Bridge, queue and serialisation take ${duration(row.overhead_us)} of a call` : ""),
        },
        spark("calls-course", "calls over time", makeCalls, showCalls),
        spark("latency-course", "p50 to p99, and p95", makeLatency, showLatency),
      ],
    });
    container.append(this.#empty);
  }

  show(report, time) {
    this.#time = time;
    this.#seconds = Math.max(report.interval.duration_ms, 1) / 1000;
    const { rows, rest, total } = report.methods;
    this.#table.show(rows, rest && restRow(rest));
    setText(this.#note, total > rows.length ? `the ${rows.length} most called of ${count(total)}` : plural(total, "method"));
    setHidden(this.#empty, total > 0);
    setText(this.#empty, emptyWords(report));
  }
}

function restRow(rest) {
  const { p50, p95, p99 } = rest.latency_us;
  const label = plural(rest.methods, "other method");
  return { ...rest, method: "", python_class: "", label, p50_us: p50, p95_us: p95, p99_us: p99 };
}

function emptyWords({ attached, state, history }) {
  if (!attached) return "The handlers are not attached, so nothing is recorded: DSPexTelemetry.attach/1 attaches them.";
  if (state.series === 0) return "No event has come yet. Method calls appear here as soon as one ends.";
  return history.all.count.some((calls) => calls > 0) ? "No call has ended in this time." : "No method call has ended yet.";
}
