// Calls one by one: the last that failed, and the slowest.

import { element, setAttribute, setChildren, setHidden, setText } from "./dom.js";
import { count, date, duration, method, moment, short } from "./format.js";
import { Table } from "./table.js";

// A message of several lines stays one text.
const oneLine = (text) => (text ?? "").trim().replace(/\s*[\r\n]\s*/g, " ↵ ");

const IDS = [
  ["session", "session_id"],
  ["trace", "trace_id"],
  ["correlation", "correlation_id"],
];

/// The ids that are known, each cut in the middle, with the whole one as its title.
function showIds(node, call) {
  const known = IDS.filter(([, id]) => call[id] !== null);
  setChildren(node, known, ([name]) => name, () => element("span"), (one, [name, id]) => {
    setText(one, `${name} ${short(call[id])}`);
    setAttribute(one, "title", `${id} ${call[id]}`);
  });
}

/// Calls with a key each that stays when others come: nothing but its place tells two equal ones apart.
function keyed(calls) {
  const seen = new Map();
  return calls.map((call) => {
    const text = JSON.stringify(call);
    const before = seen.get(text) ?? 0;
    seen.set(text, before + 1);
    return { ...call, key: `${text} ${before}` };
  });
}

class Calls {
  #table;
  #note;
  #empty = element("p", { class: "empty" });
  #now = 0;

  constructor(container, note, label, outcome) {
    this.#note = note;
    const some = (name) => (calls) => calls.some((call) => call[name] !== null);
    this.#table = new Table(container, {
      label,
      className: "calls",
      key: (call) => call.key,
      columns: [
        { id: "name", label: "Method", left: true, text: method },
        { id: "when", label: "ended", left: true, text: (call) => moment(call.at_unix_ms, this.#now), hint: (call) => date(call.at_unix_ms) },
        { id: "took", label: "took", text: (call) => duration(call.duration_us) },
        { id: "why", left: true, name: true, mark: (call) => call.failed, ...outcome },
        { id: "message", label: "message", left: true, present: some("message"), text: (call) => oneLine(call.message), hint: (call) => call.message ?? "" },
        { id: "worker", label: "worker", left: true, present: some("worker_id"), text: (call) => short(call.worker_id ?? ""), hint: (call) => call.worker_id ?? "" },
        {
          id: "ids",
          label: "ids",
          left: true,
          present: (calls) => IDS.some(([, id]) => some(id)(calls)),
          make: () => element("div"),
          show: showIds,
        },
      ],
    });
    container.append(this.#empty);
  }

  /// Shows calls, or the sentence that says why there is none.
  show({ rows, total }, now, note, why) {
    this.#now = now;
    this.#table.show(keyed(rows));
    setText(this.#note, total > rows.length ? `${note} ${rows.length} of ${count(total)} that are kept` : "");
    setHidden(this.#empty, rows.length > 0);
    setText(this.#empty, why);
  }
}

export class Failures {
  #calls;

  constructor(container, note) {
    this.#calls = new Calls(container, note, "Last failures", { label: "why", text: ({ reason }) => reason, hint: (call) => call.kind ?? "" });
  }

  show({ errors, now_unix_ms: now }) {
    const why = errors.errors === 0
      ? "No call has failed in this time."
      : "None of the failed calls is kept; option last_failures says how many are.";
    this.#calls.show(errors.last_failures, now, "the last", why);
  }
}

export class Slowest {
  #calls;

  constructor(container, note) {
    const outcome = (call) => (call.failed ? call.reason : "succeeded");
    this.#calls = new Calls(container, note, "Slowest calls", { label: "outcome", text: outcome, hint: (call) => call.kind ?? "" });
  }

  show({ slowest, methods, now_unix_ms: now }) {
    const why = methods.total === 0
      ? "No call has ended in this time."
      : "None of the slowest calls that are kept ended in this time; option slowest_calls says how many are.";
    this.#calls.show(slowest, now, "the slowest", why);
  }
}
