// The live page: asks for the report and shows it.

import { Failures, Slowest } from "./calls.js";
import { Cache, Router } from "./decisions.js";
import { byId, setAttribute, setHidden, setName, setText } from "./dom.js";
import { bytes, count, duration, plural, second } from "./format.js";
import { Heatmap } from "./heatmap.js";
import { Methods } from "./methods.js";
import { Pool, Tools, Usage } from "./panels.js";
import { Poll } from "./poll.js";
import { Tiles } from "./tiles.js";
import { Time } from "./time.js";
import { Timeline } from "./timeline.js";

const parts = [
  new Tiles(byId("tiles")),
  new Methods(byId("methods"), byId("methods-note")),
  new Heatmap(byId("heatmap"), byId("heatmap-legend")),
  new Timeline(byId("timeline"), byId("spikes"), byId("errors-note")),
  new Failures(byId("failures"), byId("failures-note")),
  new Slowest(byId("slowest"), byId("slowest-note")),
  new Pool(byId("pool")),
  new Router(byId("router")),
  new Cache(byId("cache")),
  new Usage(byId("usage")),
  new Tools(byId("tools")),
];

function show(report) {
  setName(byId("instance"), report.instance);
  const title = `${report.instance} – dspex_telemetry`;
  if (document.title !== title) document.title = title;
  const time = new Time(report.history);
  for (const part of parts) part.show(report, time);
  setText(byId("state"), stateWords(report.state));
  // For who looks at the page from outside.
  setAttribute(document.body, "data-report", report.now_unix_ms);
}

function stateWords({ series, memory_bytes: memory, overflow, rejected, signals_dropped: dropped }) {
  const words = [plural(series, "series", "series"), `${bytes(memory)} of memory`];
  if (overflow > 0) words.push(`${plural(overflow, "event")} over the series limit`);
  if (rejected > 0) words.push(`${plural(rejected, "malformed event")} rejected`);
  if (dropped > 0) words.push(`${plural(dropped, "alert")} dropped`);
  return words.join(" · ");
}

let state = { kind: "loading" };

function showState() {
  const { kind, at, next, why } = state;
  setAttribute(document.body, "data-state", kind);
  const updated = at ? `updated ${second(at)}` : "no report yet";
  const words = { loading: "loading", live: updated, paused: `paused, ${updated}`, stale: updated, denied: updated };
  setText(byId("status-text"), words[kind]);
  const failed = kind === "stale" || kind === "denied";
  setHidden(byId("banner"), !failed);
  if (!failed) return;
  const ago = at ? ` These numbers are ${duration(Math.max(Date.now() - at, 1000) * 1000)} old, of ${second(at)}.` : "";
  const wait = Math.max(0, Math.ceil((next - Date.now()) / 1000));
  const again = next === null ? "Paused" : `Next try ${wait > 0 ? `in ${count(wait)} s` : "now"}`;
  const denied = "The server wants other credentials than the browser has sent.";
  setText(byId("banner-text"), kind === "denied" ? denied + ago : `${why}.${ago} ${again}.`);
  setText(byId("banner-button"), kind === "denied" ? "Sign in" : "Try now");
}

// The banner counts seconds.
setInterval(() => {
  if (state.kind === "stale" || state.kind === "denied") showState();
}, 1000);

const query = (window) => `view=page&window=${window}`;
const chosen = () => document.querySelector('input[name="window"]:checked').value;

const poll = new Poll(query(chosen()), {
  onReport: show,
  onState: (next) => {
    state = next;
    showState();
  },
});

byId("windows").addEventListener("change", () => {
  poll.query = query(chosen());
});

byId("pause").addEventListener("click", (event) => {
  poll.pause(!poll.paused);
  setAttribute(event.currentTarget, "aria-pressed", poll.paused);
  setText(event.currentTarget, poll.paused ? "Go on" : "Pause");
});

byId("banner-button").addEventListener("click", () => {
  if (state.kind === "denied") location.reload();
  else poll.now();
});

poll.now();
