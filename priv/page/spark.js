// Small charts in the rows of tables, and the paths that they and the large ones are made of.

import { drawing, setAttribute } from "./dom.js";
import { count, duration } from "./format.js";

export const WIDTH = 1000;
export const HEIGHT = 100;

const point = (number) => Math.round(number * 10) / 10;

/// A line through the values of slots, level over each, broken where there is none. `y` is the height of a
/// value, 0 to 1.
export function stepLine(time, values, y, height = HEIGHT) {
  let path = "";
  let last = null;
  values.forEach((value, index) => {
    if (value === null) {
      last = null;
      return;
    }
    const [from, to] = time.extent(time.slots[index]);
    const top = point((1 - y(value)) * height);
    path += last === null ? `M${point(from * WIDTH)} ${top}` : `V${top}`;
    path += `H${point(to * WIDTH)}`;
    last = top;
  });
  return path;
}

/// The area between two values of slots, as one rectangle for each slot.
export function stepArea(time, low, high, y, height = HEIGHT) {
  let path = "";
  time.slots.forEach((slot, index) => {
    if (low[index] === null || high[index] === null) return;
    const [from, to] = time.extent(slot);
    const top = (1 - y(high[index])) * height;
    const bottom = Math.max((1 - y(low[index])) * height, top + 0.5);
    path += `M${point(from * WIDTH)} ${point(top)}H${point(to * WIDTH)}V${point(bottom)}H${point(from * WIDTH)}Z`;
  });
  return path;
}

function chart(parts) {
  const attributes = {
    class: "spark",
    viewBox: `0 0 ${WIDTH} ${HEIGHT}`,
    preserveAspectRatio: "none",
    role: "img",
  };
  return drawing("svg", attributes, ...parts.map((part) => drawing("path", { class: part })));
}

function show(node, label, paths) {
  setAttribute(node, "aria-label", label);
  paths.forEach((path, index) => setAttribute(node.children[index], "d", path));
}

/// The largest and the latest of values, in words.
function summary(what, values, word) {
  const there = values.filter((value) => value !== null);
  if (there.length === 0) return `${what} over time: none`;
  const latest = there[there.length - 1];
  const [low, high] = [Math.min(...there), Math.max(...there)];
  return `${what} over time: ${word(low)} to ${word(high)}, latest ${word(latest)}`;
}

/// Median to 0.99 quantile as an area, the 0.95 quantile as a line, on a logarithmic scale.
export const makeLatency = () => chart(["band", "line"]);

export function showLatency(node, time, series) {
  const there = [...series.p50_us, ...series.p99_us].filter((value) => value !== null && value > 0);
  // Calls that took no time at all lie on the bottom, of whatever scale.
  const [low, high] = there.length > 0 ? [Math.min(...there), Math.max(...there)] : [1, 1];
  // At least a factor of four, so that small changes look small.
  const middle = Math.sqrt(low * high);
  const [from, to] = [Math.min(low, middle / 2), Math.max(high, middle * 2)].map(Math.log);
  const y = (us) => 0.06 + (0.88 * (Math.log(Math.max(us, 1e-3)) - from)) / (to - from);
  const clamped = (us) => Math.min(0.98, Math.max(0.02, y(us)));
  show(node, summary("p95", series.p95_us, duration), [
    stepArea(time, series.p50_us, series.p99_us, clamped),
    stepLine(time, series.p95_us, clamped),
  ]);
}

/// Columns of calls, the failed ones on top.
export const makeCalls = () => chart(["columns", "errors"]);

export function showCalls(node, time, series) {
  const weight = time.slots.map((slot) => time.weight(slot));
  const calls = series.count.map((value, index) => value * weight[index]);
  const good = calls.map((value, index) => value - series.errors[index] * weight[index]);
  const most = Math.max(1, ...calls);
  const y = (value) => value / most;
  const none = (value) => (value > 0 ? value : null);
  show(node, summary("Calls", series.count, count), [
    stepArea(time, calls.map(() => 0), good.map(none), y),
    stepArea(time, good, calls.map((value, index) => (series.errors[index] > 0 ? value : null)), y),
  ]);
}

/// One value as a line over an area that begins at zero.
export const makeLine = () => chart(["band", "line"]);

export function showLine(node, time, values, what, word) {
  const most = Math.max(...values.filter((value) => value !== null), 0) || 1;
  const y = (value) => (0.94 * value) / most;
  show(node, summary(what, values, word), [
    stepArea(time, values.map(() => 0), values, y),
    stepLine(time, values, y),
  ]);
}

