// A quantity's history, large. The library is loaded when the first chart is opened.

import { $, el, set, text } from "./dom.js";
import { now, time, value } from "./format.js";
import { ask } from "./stream.js";

const here = new URL(".", import.meta.url);
let plot = null, series = "", unit = "", data = null, hours = 0, library = null; // hours is 0 until somebody chooses

function load() {
  library ??= new Promise((done, failed) => {
    document.head.append(el("link", { rel: "stylesheet", href: new URL("uplot.css", here) }));
    document.head.append(el("script", { src: new URL("uplot.min.js", here), onload: done, onerror: () => failed(new Error("the chart cannot be loaded")) }));
  });
  return library;
}

// open shows the history of a series; reading is its newest value.
export async function open(name, sensor, reading) {
  series = name;
  unit = reading?.unit ?? "";
  data = null;
  text($("chart-title"), `${sensor} ${(reading?.quantity ?? "").replaceAll("_", " ")}` + (unit ? `, ${unit}` : ""));
  text($("chart-note"), "Loading …");
  $("chart-place").replaceChildren();
  if (!$("chart").open) $("chart").showModal();
  try {
    const [c] = await Promise.all([ask("/api/history?series=" + encodeURIComponent(name)), load()]);
    if (series !== name) return;
    data = [c.t, c.v, c.lo, c.hi];
    text($("chart-note"), "");
    draw();
  } catch (err) {
    text($("chart-note"), err.message);
  }
}

// live adds a new value to the chart that is open.
export function live(name, t, v) {
  if (name !== series || !data || !plot || t <= data[0].at(-1)) return;
  data[0].push(t);
  for (const list of data.slice(1)) list.push(v);
  plot.setData(data, false);
  scale();
}

const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

function draw() {
  plot?.destroy();
  const place = $("chart-place");
  const axis = { stroke: colour("--muted"), grid: { stroke: colour("--line"), width: 1 }, ticks: { stroke: colour("--line") }, font: "13px system-ui", labelFont: "13px system-ui" };
  const values = (u, list) => list.map((t) => time(t * 1000, u.scales.x.max - u.scales.x.min < 600).replace(/^(\S+ \d+) /, "$1\n"));
  plot = new globalThis.uPlot({
    width: place.clientWidth, height: Math.max(220, Math.min(420, innerHeight - 260)),
    legend: { show: false }, cursor: { y: false, drag: { x: false } },
    scales: { y: { range: (u, low, high) => padded(low, high) } },
    axes: [{ ...axis, values, space: 70 }, { ...axis, size: 64, values: (u, list) => list.map((v) => +v.toPrecision(12)) }],
    series: [{}, { stroke: colour("--accent"), width: 2, points: { show: false } },
      { stroke: "transparent", points: { show: false } }, { stroke: "transparent", points: { show: false } }],
    bands: [{ series: [3, 2], fill: colour("--band") }],
    hooks: { setCursor: [(u) => note(u.cursor.idx)] },
  }, data, place);
  scale();
}

function padded(low, high) {
  if (low === null || high === null) return [0, 1];
  const room = (high - low) * 0.08 || Math.abs(high) * 0.02 || 1;
  return [low - room, high + room];
}

// shown is the span that was chosen, or the shortest one that has everything.
function shown() {
  const known = (now() / 1000 - data[0][0]) / 3600;
  return hours || [1, 6].find((h) => known <= h) || 24;
}

function scale() {
  const end = now() / 1000;
  // What began later is not squeezed to the side.
  plot.setScale("x", { min: Math.max(end - shown() * 3600, Math.min(data[0][0] ?? end, end - 60)), max: end });
  for (const b of $("spans").children) set(b, "aria-pressed", String(Number(b.dataset.hours) === shown()));
  note(null);
}

// note says what is under the pointer, or what is on the whole screen.
function note(i) {
  const [t, v, low, high] = data;
  if (i !== null && i !== undefined && t[i]) {
    const range = high[i] > low[i] ? ` (${value(low[i], unit)} to ${value(high[i], unit)})` : "";
    text($("chart-note"), `${time(t[i] * 1000)}: ${value(v[i], unit)} ${unit}${range}`);
    return;
  }
  const from = now() / 1000 - shown() * 3600;
  const seen = t.map((_, k) => k).filter((k) => t[k] >= from);
  if (seen.length === 0) {
    text($("chart-note"), "nothing is remembered of this time");
    return;
  }
  const least = Math.min(...seen.map((k) => low[k])), most = Math.max(...seen.map((k) => high[k]));
  text($("chart-note"), `lowest ${value(least, unit)} ${unit}, highest ${value(most, unit)} ${unit}`);
}

export function start() {
  $("spans").addEventListener("click", (e) => {
    hours = Number(e.target.dataset.hours) || hours;
    if (plot && data) scale();
  });
  $("chart-close").addEventListener("click", () => $("chart").close());
  $("chart").addEventListener("click", (e) => { if (e.target === $("chart")) $("chart").close(); });
  $("chart").addEventListener("close", () => {
    plot?.destroy();
    plot = null;
    series = "";
  });
  addEventListener("resize", () => { if (plot) draw(); });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => { if (plot) draw(); });
}
