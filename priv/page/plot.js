// A large chart over time with axes, and a cursor that follows pointer, touch and arrow keys.

import { drawing, element, setAttribute, setChildren, setText } from "./dom.js";
import { WIDTH } from "./spark.js";

export const PLOT_HEIGHT = 400;

export class Plot {
  #rows = 1;
  #cursor = null;
  #time = null;
  #frame = drawing("rect", { class: "cursor", visibility: "hidden" });
  #labels = element("div", { class: "y-axis", "aria-hidden": "true" });
  #ticks = element("div", { class: "x-axis", "aria-hidden": "true" });
  #readout = element("p", { class: "readout" });
  #hint;
  #words;

  /// `words` says what is in a row of a slot; `hint` stands where there is no cursor.
  constructor(container, { label, hint, words, className, parts }) {
    this.#words = words;
    this.#hint = hint;
    this.parts = parts;
    const attributes = {
      viewBox: `0 0 ${WIDTH} ${PLOT_HEIGHT}`,
      preserveAspectRatio: "none",
      "aria-hidden": "true",
    };
    const area = element(
      "div",
      // To assistive technology it is a slider along time that says what it points at.
      { class: "area", tabindex: "0", role: "slider", "aria-label": label, "aria-valuemin": "0" },
      drawing("svg", attributes, ...parts, this.#frame),
    );
    this.area = area;
    area.addEventListener("pointermove", (event) => this.#point(event));
    area.addEventListener("pointerdown", (event) => this.#point(event));
    area.addEventListener("pointerleave", (event) => {
      if (event.pointerType === "mouse" && document.activeElement !== area) this.#move(null);
    });
    area.addEventListener("keydown", (event) => this.#press(event));
    area.addEventListener("blur", () => this.#move(null));
    const body = element("div", { class: `plot ${className}` }, this.#labels, area, this.#ticks);
    container.append(body, this.#readout);
    setText(this.#readout, hint);
  }

  /// Shows times, with as many rows and these labels `{ place, label }` beside them.
  show(time, rows, labels) {
    // What the cursor is at moves to the left.
    const slot = this.#cursor && this.#time.slots[this.#cursor.slot];
    this.#time = time;
    const same = slot && time.slots.findIndex((other) => other.from_unix_ms === slot.from_unix_ms);
    const stays = this.#rows === rows && same !== null && same >= 0;
    this.#rows = rows;
    const label = () => element("span");
    setChildren(this.#ticks, time.ticks(), (tick) => tick.at, label, (node, tick) => {
      setText(node, tick.label);
      node.style.left = `${tick.place * 100}%`;
      node.classList.toggle("edge", tick.place < 0.03 || tick.place > 0.97);
    });
    setChildren(this.#labels, labels, (tick) => tick.label, label, (node, tick) => {
      setText(node, tick.label);
      node.style.bottom = `${tick.place * 100}%`;
    });
    this.#move(stays ? { slot: same, row: this.#cursor.row } : null);
  }

  #point(event) {
    const box = this.area.getBoundingClientRect();
    if (!this.#time || box.width === 0) return;
    const slot = this.#time.slotAt((event.clientX - box.left) / box.width);
    const row = Math.floor((1 - (event.clientY - box.top) / box.height) * this.#rows);
    this.#move(slot < 0 ? null : { slot, row: Math.min(this.#rows - 1, Math.max(0, row)) });
  }

  #press(event) {
    const last = (this.#time?.slots.length ?? 0) - 1;
    if (last < 0) return;
    const { slot, row } = this.#cursor ?? { slot: last + 1, row: Math.floor(this.#rows / 2) };
    const targets = {
      ArrowLeft: { slot: slot - 1, row },
      ArrowRight: { slot: slot + 1, row },
      ArrowUp: { slot: Math.min(slot, last), row: row + 1 },
      ArrowDown: { slot: Math.min(slot, last), row: row - 1 },
      Home: { slot: 0, row },
      End: { slot: last, row },
    };
    if (event.key === "Escape") this.#move(null);
    const target = targets[event.key];
    if (!target) return;
    event.preventDefault();
    const within = (value, most) => Math.min(most, Math.max(0, value));
    this.#move({ slot: within(target.slot, last), row: within(target.row, this.#rows - 1) });
  }

  #move(cursor) {
    this.#cursor = cursor;
    const words = cursor ? this.#words(cursor.slot, cursor.row) : this.#hint;
    setText(this.#readout, words);
    setAttribute(this.area, "aria-valuemax", Math.max(0, (this.#time?.slots.length ?? 0) - 1));
    setAttribute(this.area, "aria-valuenow", cursor?.slot ?? 0);
    setAttribute(this.area, "aria-valuetext", words);
    setAttribute(this.#frame, "visibility", cursor ? "visible" : "hidden");
    if (!cursor) return;
    const [from, to] = this.#time.extent(this.#time.slots[cursor.slot]);
    const height = PLOT_HEIGHT / this.#rows;
    setAttribute(this.#frame, "x", from * WIDTH);
    setAttribute(this.#frame, "width", Math.max(2, (to - from) * WIDTH));
    setAttribute(this.#frame, "y", (this.#rows - 1 - cursor.row) * height);
    setAttribute(this.#frame, "height", height);
  }
}
