// Asks for the report every few seconds. Waits longer and longer while nobody answers, and does not ask
// while the page is hidden or paused.

const INTERVAL_MS = 5_000;
const LONGEST_MS = 60_000;
// The server gives up on a report after ten seconds.
const PATIENCE_MS = 15_000;
// A pipeline of Phoenix that accepts only HTML lets nobody through who takes nothing but JSON.
const ACCEPT = "application/json, */*;q=0.1";

export class Poll {
  #query;
  #timer = null;
  #request = null;
  #failures = 0;
  #onReport;
  #onState;
  #state = { kind: "loading" };
  paused = false;

  /// `onState` is told of `loading`, `live`, `paused`, `denied` and `stale`, the last two with the time of
  /// the last report, if any, and of the next attempt.
  constructor(query, { onReport, onState }) {
    this.#query = query;
    this.#onReport = onReport;
    this.#onState = onState;
    document.addEventListener("visibilitychange", () => this.#wake());
    addEventListener("online", () => this.#wake());
  }

  set query(query) {
    this.#query = query;
    this.now();
  }

  now() {
    this.#stop();
    this.#ask();
  }

  pause(paused) {
    this.paused = paused;
    if (paused) {
      this.#stop();
      this.#tell({ ...this.#state, kind: "paused" });
    } else this.now();
  }

  #wake() {
    if (document.hidden) this.#stop();
    else if (!this.paused) this.now();
  }

  #stop() {
    clearTimeout(this.#timer);
    this.#request?.abort();
    this.#request = null;
  }

  #tell(state) {
    this.#state = state;
    this.#onState(state);
  }

  async #ask() {
    const request = new AbortController();
    this.#request = request;
    const patience = setTimeout(() => request.abort("timeout"), PATIENCE_MS);
    let outcome;
    try {
      outcome = await this.#fetch(request.signal);
    } catch (error) {
      const slow = request.signal.reason === "timeout";
      outcome = { why: slow ? "The server takes too long to answer" : "The server does not answer" };
    } finally {
      clearTimeout(patience);
    }
    // It was given up for another.
    if (this.#request !== request) return;
    this.#request = null;
    if (outcome.report) this.#succeed(outcome.report);
    else this.#fail(outcome);
  }

  async #fetch(signal) {
    // An address with a user and a password in it, as the page's own may be, is refused.
    const url = new URL(`report.json?${this.#query}`, document.baseURI);
    url.username = url.password = "";
    const answer = await fetch(url, { signal, cache: "no-store", headers: { accept: ACCEPT } });
    if (answer.ok) {
      try {
        return { report: await answer.json() };
      } catch (error) {
        if (signal.aborted) throw error;
        return { why: "The server's answer is not a report" };
      }
    }
    if (answer.status === 401 || answer.status === 403) return { kind: "denied" };
    if (answer.status === 503) return { why: "The instance is busy or starting" };
    return { why: `The server answers with status ${answer.status}` };
  }

  #succeed(report) {
    try {
      this.#onReport(report);
    } catch (error) {
      console.error(error);
      return this.#fail({ why: "This page cannot show such a report, perhaps of another version: reload it" });
    }
    this.#failures = 0;
    const at = Date.now();
    this.#tell({ kind: this.paused ? "paused" : "live", at });
    this.#later(INTERVAL_MS);
  }

  #fail({ kind = "stale", why }) {
    this.#failures += 1;
    const pause = kind === "denied" ? LONGEST_MS : Math.min(INTERVAL_MS * 2 ** (this.#failures - 1), LONGEST_MS);
    this.#tell({ kind, why, at: this.#state.at, next: this.paused ? null : Date.now() + pause });
    this.#later(pause);
  }

  #later(ms) {
    clearTimeout(this.#timer);
    if (!this.paused && !document.hidden) this.#timer = setTimeout(() => this.#ask(), ms);
  }
}
