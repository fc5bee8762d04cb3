// What router and cache decide.

import { element, facts, setChildren, setHidden, setText } from "./dom.js";
import { bytes, count, duration, method, methodKey, percent, plural } from "./format.js";
import { Table } from "./table.js";

const REASONS = {
  best: "expected to answer first",
  explore: "idle one tried",
  sticky: "sticky key",
  rendezvous: "key without a worker",
  bound: "reference lives there",
  panic: "too many ejected",
};

/// A part that says why there is nothing to show, or shows it.
function unless(container) {
  const empty = container.appendChild(element("p", { class: "empty" }));
  const content = container.appendChild(element("div"));
  const say = (why) => {
    setHidden(empty, why === null);
    setHidden(content, why !== null);
    if (why !== null) setText(empty, why);
  };
  return [content, say];
}

export class Router {
  #say;
  #note = element("p", { class: "note" });
  #reasons = element("ol", { class: "bars" });
  #table;
  #total = 1;

  constructor(container) {
    const [content, say] = unless(container);
    this.#say = say;
    content.append(this.#note, this.#reasons);
    const state = ({ ejected_for_ms: ejected, warmth }) => {
      if (ejected !== null) return `ejected, ${duration(ejected * 1000)} left`;
      return warmth < 1 ? `warming up, ${percent(warmth)}` : "in use";
    };
    this.#table = new Table(content, {
      label: "Workers",
      key: (row) => row.worker_id,
      sort: { id: "share", direction: "descending" },
      columns: [
        { id: "name", label: "Worker", left: true, first: "ascending", value: (row) => row.worker_id, text: (row) => row.worker_id },
        { id: "share", label: "share", value: (row) => row.decisions, text: (row) => percent(row.decisions / this.#total), hint: (row) => plural(row.decisions, "decision") },
        { id: "flight", label: "in flight", value: (row) => row.tickets + row.presumed, text: (row) => (row.tickets + row.presumed).toFixed(1) },
        { id: "slowness", label: "slowness", title: "How many times as long as usual its requests take", value: (row) => row.slowness, text: (row) => `${row.slowness.toFixed(2)} ×`, mark: (row) => row.slowness >= 2 },
        { id: "failed", label: "errors", value: (row) => row.error_rate, text: (row) => percent(row.error_rate), mark: (row) => row.error_rate >= 0.1 },
        { id: "state", label: "state", left: true, first: "ascending", value: state, text: state, mark: (row) => row.ejected_for_ms !== null },
      ],
    });
  }

  show({ router }) {
    const reasons = Object.entries(router.decisions);
    const total = reasons.reduce((sum, [, times]) => sum + times, 0);
    const workers = plural(router.workers.total, "worker");
    this.#say(total > 0 ? null : `No request has been routed. ${workers} known; DSPexTelemetry.PerformanceRouter chooses among them.`);
    this.#total = Math.max(1, router.workers.rows.reduce((sum, row) => sum + row.decisions, 0));
    const more = router.workers.total > router.workers.rows.length ? `, the ${router.workers.rows.length} chosen most of ${workers}` : "";
    setText(this.#note, `${plural(total, "decision")} for ${plural(router.commands, "command")}, ${plural(router.sticky_keys, "sticky key")}${more}`);
    const used = reasons.filter(([, times]) => times > 0).sort((left, right) => right[1] - left[1]);
    const make = () => element("li", {}, element("span"), element("b"), element("i"));
    setChildren(this.#reasons, used, ([reason]) => reason, make, (node, [reason, times]) => {
      setText(node.children[0], `${reason}: ${REASONS[reason] ?? ""}`);
      setText(node.children[1], percent(times / total));
      node.children[2].style.width = `${(100 * times) / total}%`;
    });
    this.#table.show(router.workers.rows);
  }
}

export class Cache {
  #say;
  #facts;
  #table;

  constructor(container) {
    const [content, say] = unless(container);
    this.#say = say;
    this.#facts = facts(content, ["hit rate", "hits", "joined", "misses", "time saved", "results kept", "memory"]);
    this.#table = new Table(content, {
      label: "Methods and whether their results are kept",
      key: methodKey,
      sort: { id: "saved", direction: "descending" },
      columns: [
        { id: "name", label: "Method", left: true, first: "ascending", value: method, text: method },
        { id: "calls", label: "calls", value: (row) => row.calls, text: (row) => count(row.calls) },
        { id: "hit", label: "hit rate", title: "The share of recent calls that a cache has answered or would have", value: (row) => row.hit_rate, text: (row) => percent(row.hit_rate) },
        { id: "saved", label: "saved", value: (row) => row.time_saved_us, text: (row) => duration(row.time_saved_us) },
        { id: "decision", label: "decision", left: true, first: "ascending", value: (row) => row.decision, text: (row) => row.decision },
      ],
    });
  }

  show({ cache }) {
    if (cache === null) return this.#say("This instance has no cache; its option cache makes one.");
    const calls = cache.hits + cache.joined + cache.misses;
    this.#say(calls > 0 ? null : "No call has gone through DSPexTelemetry.AdaptiveCache yet.");
    this.#facts([
      calls > 0 ? percent((cache.hits + cache.joined) / calls) : "–",
      count(cache.hits),
      count(cache.joined),
      count(cache.misses),
      duration(cache.time_saved_us),
      count(cache.entries),
      `${bytes(cache.bytes)} of ${bytes(cache.max_bytes)}`,
    ]);
    this.#table.show(cache.methods.rows);
  }
}
