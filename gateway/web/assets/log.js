// The log's last lines, newest first.

import { $, el } from "./dom.js";
import { at, time } from "./format.js";
import { lines } from "./stream.js";

const rank = { debug: 0, info: 1, warn: 2, error: 3 };

export function draw() {
  const least = rank[$("log-level").value], search = $("log-search").value.toLowerCase();
  const seen = lines.filter((l) => (rank[l.level] ?? 3) >= least && l.text.toLowerCase().includes(search));
  $("log").replaceChildren(...seen.reverse().map((l) => el("li", { class: l.level },
    el("time", { datetime: l.time }, time(at(l.time))), el("span", { class: "level" }, l.level), el("span", { class: "words" }, l.text))));
}

export function start() {
  $("log-level").addEventListener("change", draw);
  $("log-search").addEventListener("input", draw);
}
