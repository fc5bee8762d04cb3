// The time that all charts share, from left to right: the last hour, or as much of it as there is.

import { minute, second } from "./format.js";

const SECOND = 1_000;
const STEPS = [1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800].map((step) => step * SECOND);
const MOST_TICKS = 7;
// A history that has just begun is no wider than it will be soon.
const SHORTEST = 300 * SECOND;

export class Time {
  constructor({ slots, span_ms: span }) {
    this.slots = slots;
    this.to = slots.length > 0 ? slots[slots.length - 1].to_unix_ms : 0;
    const age = slots.length > 0 ? this.to - slots[0].from_unix_ms : 0;
    this.span = Math.min(span, Math.max(SHORTEST, age));
    this.from = this.to - this.span;
    this.usual = span / 60;
  }

  /// Where a time lies, 0 to 1.
  at(unixMs) {
    return Math.min(1, Math.max(0, (unixMs - this.from) / this.span));
  }

  /// Where a slot begins and ends.
  extent(slot) {
    return [this.at(slot.from_unix_ms), this.at(slot.to_unix_ms)];
  }

  /// How much of a whole slot's number that of a slot counts for: those of merged slices are longer.
  weight(slot) {
    return this.usual / Math.max(this.usual, slot.duration_ms);
  }

  /// The slot at a place from 0 to 1, or -1.
  slotAt(place) {
    const unixMs = this.from + place * this.span;
    return this.slots.findIndex((slot) => slot.from_unix_ms <= unixMs && unixMs <= slot.to_unix_ms);
  }

  /// Round times with their words.
  ticks() {
    if (this.slots.length === 0) return [];
    const step = STEPS.find((step) => this.span / step <= MOST_TICKS) ?? this.span / MOST_TICKS;
    const ticks = [];
    for (let at = Math.ceil(this.from / step) * step; at <= this.to; at += step)
      ticks.push({ at, place: this.at(at), label: step < 60 * SECOND ? second(at) : minute(at) });
    return ticks;
  }

  /// The words for a slot.
  words(slot) {
    const exact = this.span < 1_800 * SECOND;
    const word = exact ? second : minute;
    return `${word(slot.from_unix_ms)}–${word(slot.to_unix_ms)}`;
  }
}
