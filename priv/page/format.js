// Numbers as people read them.

const integers = new Intl.NumberFormat("en", { maximumFractionDigits: 0 });
const compact = new Intl.NumberFormat("en", { notation: "compact", maximumSignificantDigits: 4 });
const clock = new Intl.DateTimeFormat(undefined, { hour: "2-digit", minute: "2-digit", hourCycle: "h23" });
const seconds = new Intl.DateTimeFormat(undefined, {
  hour: "2-digit",
  minute: "2-digit",
  second: "2-digit",
  hourCycle: "h23",
});

export const NOTHING = "–";

/// Three significant digits, without an exponent.
function three(value) {
  if (value === 0) return "0";
  const digits = Math.max(0, 2 - Math.floor(Math.log10(Math.abs(value))));
  return value.toFixed(Math.min(digits, 3));
}

export function count(value) {
  return value < 1e7 ? integers.format(value) : compact.format(value);
}

export function rate(perSecond) {
  if (perSecond === 0) return "0";
  if (perSecond < 0.01) return "<0.01";
  return perSecond < 1000 ? three(perSecond) : integers.format(perSecond);
}

export function percent(share) {
  if (share === 0) return "0 %";
  if (share < 0.0001) return "<0.01 %";
  if (share === 1) return "100 %";
  return `${three(Math.min(share * 100, 99.99))} %`;
}

const UNITS = [
  ["µs", 1],
  ["ms", 1e3],
  ["s", 1e6],
  ["min", 60e6],
  ["h", 3600e6],
  ["d", 86400e6],
];

/// A time that took so many microseconds.
export function duration(us) {
  if (us === null || us === undefined) return NOTHING;
  let at = UNITS.findLastIndex(([, factor]) => us >= factor);
  if (at < 0) at = 0;
  // What would be rounded up to 1000 is 1 of the next unit.
  if (at < 2 && us / UNITS[at][1] >= 999.5) at += 1;
  const [unit, factor] = UNITS[at];
  return `${three(us / factor)} ${unit}`;
}

/// The same for a bound of the latency axis, which is a round number.
export function bound(us) {
  const at = Math.max(0, UNITS.slice(0, 3).findLastIndex(([, factor]) => us >= factor));
  return `${+(us / UNITS[at][1]).toPrecision(3)} ${UNITS[at][0]}`;
}

export function bytes(value) {
  const units = ["B", "KiB", "MiB", "GiB", "TiB"];
  const at = value < 1 ? 0 : Math.min(units.length - 1, Math.floor(Math.log2(value) / 10));
  return at === 0 ? `${value} B` : `${three(value / 1024 ** at)} ${units[at]}`;
}

const dates = new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "long" });
const days = new Intl.DateTimeFormat(undefined, { day: "numeric", month: "short" });

export const minute = (unixMs) => clock.format(unixMs);
export const second = (unixMs) => seconds.format(unixMs);
export const date = (unixMs) => dates.format(unixMs);

/// A time, with its day if that may not be today's.
export function moment(unixMs, now) {
  const isRecent = now - unixMs < 43_200_000;
  return isRecent ? second(unixMs) : `${days.format(unixMs)}, ${minute(unixMs)}`;
}

/// An id, cut in the middle if it is long.
export function short(id) {
  const characters = [...id];
  return characters.length <= 16 ? id : `${characters.slice(0, 8).join("")}…${characters.slice(-6).join("")}`;
}

export function plural(number, one, many = `${one}s`) {
  return `${count(number)} ${number === 1 ? one : many}`;
}

const OVERFLOW = "otel_metric_overflow";

/// A method as a person writes it.
export function method(row) {
  if (row.method === OVERFLOW) return "(over the series limit)";
  return row.python_class === "unknown" ? row.method : `${row.python_class}.${row.method}`;
}

/// What no two methods share.
export const methodKey = (row) => JSON.stringify([row.python_class, row.method]);

/// Causes of errors, the most frequent first.
export const causes = (list) =>
  list
    .slice(0, 3)
    .map(({ kind, reason, count: times }) =>
      kind === reason ? `${kind} ×${count(times)}` : `${kind}: ${reason} ×${count(times)}`)
    .join(", ");
