// How many calls took how long, over time.

import { drawing, element, setAttribute } from "./dom.js";
import { bound, count, duration, percent, plural } from "./format.js";
import { Plot, PLOT_HEIGHT } from "./plot.js";
import { stepLine, WIDTH } from "./spark.js";

const LEVELS = 8;

export class Heatmap {
  #plot;
  #report = null;
  #time = null;
  #cells = Array.from({ length: LEVELS }, (_, level) => drawing("path", { class: `heat-${level + 1}` }));
  #lines = ["p50", "p95", "p99"].map((name) => drawing("path", { class: `quantile ${name}` }));

  constructor(container, legend) {
    this.#plot = new Plot(container, {
      label: "Latency of all calls over time",
      hint: "Point at the map, touch it, or use the arrow keys to read its numbers.",
      words: (slot, row) => this.#words(slot, row),
      className: "heatmap",
      parts: [...this.#cells, ...this.#lines],
    });
    const swatch = (name) => element("i", { class: name });
    const scale = Array.from({ length: LEVELS }, (_, level) => swatch(`heat-${level + 1}`));
    legend.append("few ", ...scale, " many calls");
    for (const name of ["p50", "p95", "p99"]) legend.append(" ", swatch(`line ${name}`), ` ${name}`);
  }

  show(report, time) {
    this.#report = report;
    this.#time = time;
    const { bounds_us: bounds, counts } = report.history.heatmap;
    const rows = Math.max(1, bounds.length - 1);
    this.#drawCells(counts, rows);
    const height = (us) => placeOf(us, bounds);
    ["p50_us", "p95_us", "p99_us"].forEach((name, index) => {
      const path = bounds.length > 0 ? stepLine(time, report.history.all[name], height, PLOT_HEIGHT) : "";
      setAttribute(this.#lines[index], "d", path);
    });
    this.#plot.show(time, rows, labels(bounds));
  }

  #drawCells(counts, rows) {
    const { slots } = this.#time;
    const weighted = counts.map((column, slot) => column.map((value) => value * this.#time.weight(slots[slot])));
    const most = Math.max(1, ...weighted.flat());
    const paths = Array.from({ length: LEVELS }, () => "");
    const height = PLOT_HEIGHT / rows;
    weighted.forEach((column, slot) => {
      const [from, to] = this.#time.extent(slots[slot]).map((place) => place * WIDTH);
      column.forEach((value, row) => {
        if (value === 0) return;
        const level = Math.max(1, Math.ceil((LEVELS * Math.log1p(value)) / Math.log1p(most)));
        const top = (rows - 1 - row) * height;
        paths[Math.min(level, LEVELS) - 1] += `M${from.toFixed(1)} ${top.toFixed(1)}H${to.toFixed(1)}v${height.toFixed(1)}H${from.toFixed(1)}Z`;
      });
    });
    paths.forEach((path, level) => setAttribute(this.#cells[level], "d", path));
  }

  #words(slot, row) {
    const { history } = this.#report;
    const { bounds_us: bounds, counts } = history.heatmap;
    const time = this.#time.words(this.#time.slots[slot]);
    const all = history.all.count[slot];
    if (all === 0 || bounds.length === 0) return `${time}: no calls`;
    const here = counts[slot][row];
    const range =
      bounds[row + 1] === null ? `over ${bound(bounds[row])}` : `${bound(bounds[row])} to ${bound(bounds[row + 1])}`;
    const quantiles = ["p50", "p95", "p99"].map((name) => `${name} ${duration(history.all[`${name}_us`][slot])}`);
    return `${time}, ${range}: ${count(here)} of ${plural(all, "call")} (${percent(here / all)}). ${quantiles.join(", ")}`;
  }
}

/// How high a latency lies, 0 to 1: rows are equally high, and within a row the scale is logarithmic.
function placeOf(us, bounds) {
  const rows = bounds.length - 1;
  const above = bounds.findIndex((bound) => bound === null || bound >= us);
  if (above <= 0) return above === 0 ? 0 : 1;
  const [low, high] = [Math.max(bounds[above - 1], 1e-3), bounds[above]];
  const within = high === null ? 0.5 : Math.log(Math.max(us, low) / low) / Math.log(high / low);
  return (above - 1 + within) / rows;
}

/// Powers of ten, and where there are few of them, steps between.
function labels(bounds) {
  const rows = bounds.length - 1;
  const all = bounds
    .map((us, index) => ({ us, place: index / rows }))
    .filter(({ us }) => us !== null && us > 0);
  const round = (us) => Math.abs(Math.log10(us) - Math.round(Math.log10(us))) < 1e-9;
  const decades = all.filter(({ us }) => round(us));
  const steps = all.filter(({ us }) => round(us) || round(us / 3));
  const chosen = decades.length < 3 ? steps : decades;
  return chosen.map(({ us, place }) => ({ place, label: bound(us) }));
}
