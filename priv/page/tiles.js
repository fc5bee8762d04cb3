// The most important numbers, with their course over time.

import { element, setAttribute, setText } from "./dom.js";
import { count, duration, NOTHING, percent, plural, rate } from "./format.js";
import { makeCalls, makeLine, showCalls, showLine } from "./spark.js";

const line = (values, what, word) => ({
  make: makeLine,
  show: (node, report, time) => showLine(node, time, values(report), what, word),
});

const latency = (name) => ({
  label: `Latency ${name}`,
  value: ({ methods }) => duration(methods.all?.latency_us[name]),
  detail: ({ methods }) => (methods.all ? `mean ${duration(methods.all.latency_us.mean)}` : ""),
  ...line(({ history }) => history.all[`${name}_us`], name, duration),
});

const TILES = [
  {
    label: "Calls",
    value: ({ methods }) => count(methods.all?.count ?? 0),
    detail: ({ methods, interval }) => `${rate((methods.all?.count ?? 0) / Math.max(interval.duration_ms / 1000, 0.001))} per s`,
    make: makeCalls,
    show: (node, { history }, time) => showCalls(node, time, history.all),
  },
  {
    label: "Errors",
    value: ({ methods }) => (methods.all ? percent(methods.all.error_rate) : NOTHING),
    detail: ({ methods }) => plural(methods.all?.errors ?? 0, "call"),
    bad: ({ errors }) => errors.spikes.total > 0,
    ...line(
      ({ history: { all } }) => all.count.map((calls, slot) => (calls > 0 ? all.errors[slot] / calls : null)),
      "Share of errors",
      percent,
    ),
    className: "bad-line",
  },
  latency("p50"),
  { ...latency("p95"), detail: ({ methods }) => (methods.all ? `p90 ${duration(methods.all.latency_us.p90)}` : "") },
  { ...latency("p99"), detail: ({ methods }) => (methods.all ? `max ${duration(methods.all.latency_us.max)}` : "") },
  {
    label: "Queue wait p95",
    value: ({ pool }) => duration(pool.queue_wait_us.p95),
    detail: ({ pool }) => plural(pool.size, "worker"),
    ...line(({ history }) => history.queue.p95_us, "p95 of the queue wait", duration),
  },
];

export class Tiles {
  #nodes;

  constructor(container) {
    this.#nodes = TILES.map(({ label, make, className = "" }) => {
      const nodes = { value: element("dd", { class: "value" }), detail: element("dd", { class: "detail" }), chart: make() };
      const list = element("dl", {}, element("dt", {}, label), nodes.value, nodes.detail);
      nodes.tile = container.appendChild(element("div", { class: `tile ${className}` }, list, nodes.chart));
      return nodes;
    });
  }

  show(report, time) {
    TILES.forEach((tile, index) => {
      const { value, detail, chart, tile: node } = this.#nodes[index];
      setText(value, tile.value(report));
      setText(detail, tile.detail(report));
      setAttribute(node, "data-bad", tile.bad?.(report) ?? false);
      tile.show(chart, report, time);
    });
  }
}
