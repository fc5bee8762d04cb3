// Pool and queue, tools and sessions, usage.

import { element, facts, setChildren, setHidden, setName, setText } from "./dom.js";
import { count, duration, NOTHING, percent, plural } from "./format.js";
import { makeLine, showLine } from "./spark.js";
import { Table } from "./table.js";

const milliseconds = (ms) => duration(ms === null ? null : ms * 1000);

const quantiles = (of, names = ["p50", "p95", "p99"]) =>
  names.map((name) => ({ id: name, label: name, value: (row) => of(row, name), text: (row) => duration(of(row, name)) }));

export class Pool {
  #facts;
  #chart = makeLine();
  #table;

  constructor(container) {
    this.#facts = facts(container, ["workers alive", "started", "died", "start takes p50", "queue wait p50", "p95", "p99", "max"]);
    const title = element("h3", {}, "Queue wait p95 over time");
    container.append(title, element("div", { class: "strip" }, this.#chart));
    this.#table = new Table(container, {
      label: "Queue wait by command",
      key: (row) => row.command,
      sort: { id: "waits", direction: "descending" },
      columns: [
        { id: "name", label: "Command", left: true, first: "ascending", value: (row) => row.command, text: (row) => row.command },
        { id: "waits", label: "waits", value: (row) => row.queue_wait_us.count, text: (row) => count(row.queue_wait_us.count) },
        ...quantiles((row, name) => row.queue_wait_us[name]),
      ],
    });
  }

  show({ pool, history }, time) {
    const died = pool.died.rows.reduce((sum, [, times]) => sum + times, 0);
    const reasons = pool.died.rows.slice(0, 3).map(([reason, times]) => `${reason} ×${count(times)}`);
    const wait = pool.queue_wait_us;
    this.#facts([
      count(pool.size),
      count(pool.spawned),
      died === 0 ? "0" : `${count(died)} (${reasons.join(", ")})`,
      duration(pool.startup_us.p50),
      ...["p50", "p95", "p99", "max"].map((name) => duration(wait[name])),
    ]);
    showLine(this.#chart, time, history.queue.p95_us, "p95 of the queue wait", duration);
    this.#table.show(pool.commands.rows);
  }
}

export class Tools {
  #facts;
  #table;

  constructor(container) {
    this.#table = new Table(container, {
      label: "Tools",
      key: (row) => row.tool_name,
      columns: [
        { id: "name", label: "Tool", left: true, first: "ascending", value: (row) => row.tool_name, text: (row) => row.tool_name },
        { id: "calls", label: "calls", value: (row) => row.count, text: (row) => count(row.count) },
        { id: "failed", label: "errors", value: (row) => row.error_rate, text: (row) => percent(row.error_rate), mark: (row) => row.error_rate >= 0.01 },
        ...quantiles((row, name) => row[`${name}_us`], ["p50", "p95"]),
      ],
    });
    container.append(element("h3", {}, "Sessions"));
    this.#facts = facts(container, ["created", "expired", "lived p50", "operations p50"]);
  }

  show({ tools, sessions }) {
    this.#table.show(tools.rows);
    const expired = Object.values(sessions.expired).reduce((sum, times) => sum + times, 0);
    const operations = sessions.operations.p50;
    this.#facts([
      count(sessions.created),
      count(expired),
      milliseconds(sessions.lifetime_ms.p50),
      operations === null ? NOTHING : count(operations),
    ]);
  }
}

const KINDS = ["classes", "methods", "tools", "variables"];

export class Usage {
  #kinds;
  #note = element("p", { class: "note" });

  constructor(container) {
    const groups = element("div", { class: "kinds" });
    this.#kinds = KINDS.map((kind) => {
      const nodes = { title: element("h3"), list: element("ol", { class: "bars" }), unused: element("p", { class: "note" }) };
      nodes.group = groups.appendChild(element("div", {}, nodes.title, nodes.list, nodes.unused));
      return { kind, ...nodes };
    });
    container.append(this.#note, groups);
  }

  show({ usage }) {
    const before = usage.before > 0 ? `, ${count(usage.before)} of them before the last start` : "";
    setText(this.#note, `${plural(usage.total, "use")}${before}`);
    for (const { kind, group, title, list, unused } of this.#kinds) {
      const { total, most_used: used, never_used: never, exact } = usage.kinds[kind];
      setHidden(group, total === 0 && never.total === 0);
      setText(title, `${kind}: ${exact ? "" : "about "}${plural(total, "use")} of ${plural(used.total, "name")}`);
      const most = used.rows[0]?.count ?? 1;
      const make = () => element("li", {}, element("span"), element("b"), element("i"));
      setChildren(list, used.rows, (row) => row.name, make, (node, row) => {
        setName(node.children[0], row.name);
        setText(node.children[1], count(row.count));
        node.children[2].style.width = `${(100 * row.count) / most}%`;
      });
      setHidden(unused, never.total === 0);
      setText(unused, `never used: ${never.rows.join(", ")}${never.total > never.rows.length ? ", …" : ""}`);
    }
  }
}
