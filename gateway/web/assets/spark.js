// The line beside a value: the last hour.

import { el, set } from "./dom.js";
import { now } from "./format.js";

const width = 120, height = 40, hour = 3600, most = 120;
const data = new Map(); // by series: points [time in s, value]

// fill takes what the gateway remembers.
export function fill(all) {
  for (const [name, c] of Object.entries(all)) {
    data.set(name, (c.t ?? []).map((t, i) => [t, c.v[i]]));
  }
}

// add takes a new value. Within 20 s the newest replaces the one before.
export function add(name, t, v) {
  if (!data.has(name)) data.set(name, []);
  const points = data.get(name);
  const last = points.at(-1);
  if (last && t <= last[0]) return;
  if (points.length > 1 && t - points.at(-2)[0] < 20) points.pop();
  points.push([t, v]);
  if (points.length > most) points.shift();
}

// make returns a drawing and what redraws it.
export function make() {
  const line = el("path", { class: "spark-line" });
  const area = el("path", { class: "spark-area" });
  const e = el("svg", { class: "spark", viewBox: `0 0 ${width} ${height}`, preserveAspectRatio: "none", "aria-hidden": "true" }, area, line);
  return { e, draw: (name) => draw(data.get(name) ?? [], line, area) };
}

function draw(points, line, area) {
  const end = now() / 1000;
  const seen = points.filter(([t]) => t > end - hour);
  if (seen.length < 2) {
    set(line, "d", null);
    set(area, "d", null);
    return;
  }
  const begin = seen[0][0];
  let low = Infinity, high = -Infinity;
  for (const [, v] of seen) {
    low = Math.min(low, v);
    high = Math.max(high, v);
  }
  const room = (high - low) || 1;
  const x = (t) => ((t - begin) / (seen.at(-1)[0] - begin) * width).toFixed(1);
  const y = (v) => (high === low ? height / 2 : height - 4 - ((v - low) / room) * (height - 8)).toFixed(1);
  const d = seen.map(([t, v], i) => `${i ? "L" : "M"}${x(t)} ${y(v)}`).join("");
  set(line, "d", d);
  set(area, "d", `${d}L${width} ${height}L0 ${height}Z`);
}
