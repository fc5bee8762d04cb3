// Errors over time, and the times in which they came in spikes.

import { drawing, element, setAttribute, setChildren, setName, setText } from "./dom.js";
import { causes, count, duration, method, methodKey, percent, plural, second } from "./format.js";
import { Plot, PLOT_HEIGHT } from "./plot.js";
import { stepArea, WIDTH } from "./spark.js";

const MOST_EVENTS = 12;

export class Timeline {
  #plot;
  #report = null;
  #time = null;
  #columns = drawing("path", { class: "errors" });
  #spikes = drawing("path", { class: "spike" });
  #starts = drawing("path", { class: "spike-start" });
  #events;
  #note;

  constructor(container, events, note) {
    this.#events = events;
    this.#note = note;
    this.#plot = new Plot(container, {
      label: "Errors over time",
      hint: "Columns are failed calls, shaded times are spikes of errors.",
      words: (slot) => this.#words(slot),
      className: "timeline",
      parts: [this.#spikes, this.#columns, this.#starts],
    });
  }

  show(report, time) {
    this.#report = report;
    this.#time = time;
    const { errors } = report.history.all;
    const weighted = errors.map((value, slot) => value * time.weight(time.slots[slot]));
    const most = Math.max(...weighted, 0);
    const y = (value) => (0.92 * value) / (most || 1);
    const there = weighted.map((value) => (value > 0 ? value : null));
    setAttribute(this.#columns, "d", stepArea(time, weighted.map(() => 0), there, y, PLOT_HEIGHT));
    const spikes = spikesOf(report);
    const spans = spikes.map(({ from, to }) => [time.at(from), time.at(to)].map((place) => place * WIDTH));
    const area = ([from, to]) => `M${from.toFixed(1)} 0H${Math.max(to, from + 3).toFixed(1)}V${PLOT_HEIGHT}H${from.toFixed(1)}Z`;
    setAttribute(this.#spikes, "d", spans.map(area).join(""));
    setAttribute(this.#starts, "d", spans.map(([from]) => `M${from.toFixed(1)} 0V${PLOT_HEIGHT}`).join(""));
    const top = Math.round(most);
    const label = top > 0 ? [{ place: 0.92, label: count(top) }, { place: 0, label: "0" }] : [{ place: 0, label: "0" }];
    this.#plot.show(time, 1, label);
    this.#list(report, spikes);
  }

  #list(report, spikes) {
    const anomalies = report.errors.anomalies.rows.map((anomaly) => ({ anomaly, key: `latency ${methodKey(anomaly)}` }));
    const events = [...anomalies, ...spikes].slice(0, MOST_EVENTS);
    const make = () => element("li", {}, element("time"), element("b"), element("span"));
    setChildren(this.#events, events, ({ key }) => key, make, (node, event) => {
      const [when, who, what] = event.anomaly ? latencyWords(event.anomaly) : spikeWords(event);
      setText(node.children[0], when);
      setName(node.children[1], who);
      setText(node.children[2], what);
      node.classList.toggle("now", event.anomaly !== undefined || event.current);
      node.classList.toggle("latency", event.anomaly !== undefined);
    });
    const { errors, by_reason: reasons } = report.errors;
    const frequent = reasons.rows.slice(0, 3).map(([reason, times]) => `${reason} ×${count(times)}`);
    setText(this.#note, errors === 0 ? "no failed calls" : `${plural(errors, "failed call")}: ${frequent.join(", ")}`);
  }

  #words(slot) {
    const { all } = this.#report.history;
    const { from_unix_ms: from, to_unix_ms: to } = this.#time.slots[slot];
    const spikes = spikesOf(this.#report).filter((spike) => spike.from < to && spike.to > from);
    const calls = all.count[slot];
    const share = calls > 0 ? ` of ${plural(calls, "call")} failed (${percent(all.errors[slot] / calls)})` : " calls";
    const names = spikes.length > 0 ? `. Spike: ${[...new Set(spikes.map(({ who }) => who))].join(", ")}` : "";
    return `${this.#time.words(this.#time.slots[slot])}: ${count(all.errors[slot])}${share}${names}`;
  }
}

/// Spikes that go on and those that are over, the latest first.
function spikesOf({ errors, now_unix_ms: now }) {
  const event = (spike, to, current) => ({
    key: `${spike.first_unix_ms} ${methodKey(spike)}`,
    who: method(spike),
    from: spike.first_unix_ms,
    to,
    current,
    spike,
  });
  return [
    ...errors.spikes.rows.map((spike) => event(spike, now, true)),
    ...errors.recent_spikes.rows.map((spike) => event(spike, spike.first_unix_ms + spike.duration_ms, false)),
  ].sort((left, right) => right.from - left.from);
}

function spikeWords({ who, from, to, current, spike }) {
  const end = current ? "now" : second(to);
  // Of one that goes on they are not in its errors.
  const repeats = spike.repeats > 0 && !current ? ` in ${spike.repeats + 1} spikes` : "";
  return [`${second(from)}–${end}`, who, `${plural(spike.total, "error")}${repeats} (${causes(spike.causes)})`];
}

function latencyWords(anomaly) {
  const usual = `${duration(anomaly.lower_us)} to ${duration(anomaly.upper_us)}`;
  return [
    `since ${second(anomaly.started_unix_ms)}`,
    method(anomaly),
    `unusually ${anomaly.direction === "above" ? "slow" : "fast"}: p95 ${duration(anomaly.p95_us)}, usually ${usual}`,
  ];
}
