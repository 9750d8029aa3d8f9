// Cards of sensors: large values, and how the sensor is doing.

import { $, el, pill, set, show, sync, text } from "./dom.js";
import { ago, at, value } from "./format.js";
import { state } from "./stream.js";
import * as spark from "./spark.js";
import * as chart from "./chart.js";

const cards = new Map();
const kinds = { ok: "good", failing: "bad", absent: "bad", waiting: "idle" };

export const kindOf = (s) => kinds[s] ?? "warn";

export function update(keys) {
  const names = state.get("gateway")?.sensors ?? [];
  sync($("sensors"), cards, names, make);
  show($("no-sensors"), names.length === 0);
  for (const [name, card] of cards) {
    if (keys.has("sensor/" + name)) card.update(state.get("sensor/" + name));
  }
}

// redraw brings the lines and ages up to date.
export function redraw() {
  for (const card of cards.values()) card.redraw();
}

function make(name) {
  const status = el("span", { class: "pill" });
  const reason = el("p", { class: "reason", hidden: true });
  const list = el("div", { class: "values" });
  const age = el("p", { class: "muted age" });
  const tiles = new Map();
  let sensor = null;
  const redraw = () => {
    if (!sensor) return;
    const good = Math.max(at(sensor.last_good) || 0, ...(sensor.readings ?? []).map((r) => at(r.time)));
    text(age, good > 0 ? "read " + ago(good) : "not read yet");
    for (const tile of tiles.values()) tile.spark.draw(tile.series);
  };
  return {
    e: el("article", { class: "card sensor" }, el("div", { class: "title" }, el("h3", {}, name), status), reason, list, age),
    redraw,
    update(s) {
      sensor = s;
      if (!s) return;
      pill(status, s.state, kindOf(s.state));
      text(reason, s.reason ?? "");
      show(reason, !!s.reason);
      set(list, "class", s.state === "ok" ? "values" : "values old");
      const readings = s.readings ?? [];
      sync(list, tiles, readings.map((r) => r.quantity), (quantity) => tile(name, quantity));
      for (const r of readings) tiles.get(r.quantity).update(r);
      redraw();
    },
  };
}

// tile is one value, which opens its chart.
function tile(sensor, quantity) {
  const series = `${sensor}/${quantity}`;
  const number = el("span", { class: "number" });
  const unit = el("span", { class: "unit" });
  const drawing = spark.make();
  let last = null;
  const e = el("button", { type: "button", class: "value", title: "Show the history", onclick: () => chart.open(series, sensor, last) },
    el("span", { class: "quantity" }, quantity.replaceAll("_", " ")),
    el("span", { class: "reading" }, number, " ", unit), drawing.e);
  return {
    e, series, spark: drawing,
    update(r) {
      last = r;
      text(number, value(r.value, r.unit));
      text(unit, r.unit);
      spark.add(series, at(r.time) / 1000, r.value);
      chart.live(series, at(r.time) / 1000, r.value);
    },
  };
}
