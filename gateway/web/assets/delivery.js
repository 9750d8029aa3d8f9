// Bridges with their outages, the journal, and what was lost.

import { $, el, facts, pill, set, show, sync, text } from "./dom.js";
import { ago, at, bytes, count, now, span, time } from "./format.js";
import { state } from "./stream.js";

const cards = new Map();
const day = 24 * 3600e3;

export function update(keys) {
  const names = state.get("gateway")?.bridges ?? [];
  sync($("bridges"), cards, names, bridge);
  show($("no-bridges"), names.length === 0);
  for (const [name, card] of cards) {
    if (keys.has("bridge/" + name) || keys.has("timeline/" + name)) card.update();
  }
  if (keys.has("journal")) journal(state.get("journal"));
  if (keys.has("losses")) {
    losses(state.get("losses") ?? []);
    redraw();
  }
}

export function redraw() {
  for (const card of cards.values()) card.update();
}

function bridge(name) {
  const status = el("span", { class: "pill" });
  const depth = el("span", { class: "number" });
  const bar = el("div", { class: "timeline" });
  const list = el("ul", { class: "outages" });
  const dl = el("dl", { class: "facts" });
  return {
    e: el("article", { class: "card" }, el("div", { class: "title" }, el("h3", {}, name), status),
      el("p", { class: "big" }, depth, " ", el("span", { class: "unit" }, "messages wait")), dl, bar, list),
    update() {
      const b = state.get("bridge/" + name);
      if (!b) return;
      const periods = state.get("timeline/" + name) ?? [];
      const since = at(b.since) || at(periods.at(-1)?.since);
      pill(status, (b.connected ? "connected" : "not connected") + (since ? ` for ${span((now() - since) / 1000)}` : ""), b.connected ? "good" : "bad");
      text(depth, count(b.depth));
      facts(dl, [
        ["Upstream", b.upstream + (b.protocol ? `, MQTT ${b.protocol}` : "")],
        ["Oldest waits since", b.depth ? time(at(b.oldest)) : ""],
        ["Delivered", count(b.acknowledged)], ["Sent again", count(b.resent)], ["In flight", count(b.in_flight)],
        ["Reconnected", b.reconnects ? count(b.reconnects) : ""], ["Refused", b.refused ? count(b.refused) : ""], ["Expired", b.expired ? count(b.expired) : ""],
        ["Last error", b.last_error],
      ]);
      timeline(bar, list, periods, lost(name));
    },
  };
}

// lost is what a bridge had to drop. Its readers are bridge/NAME, and bridge/NAME/… where it has several.
function lost(name) {
  return (state.get("losses") ?? []).filter((l) => (l.reader + "/").startsWith(`bridge/${name}/`));
}

// timeline draws the last day, or what is known of it, and names the outages in it.
function timeline(bar, list, periods, losses) {
  const end = now(), width = 1000;
  const known = Math.min(day, Math.max(end - (at(periods[0]?.since) || end), 1000));
  const begin = end - known;
  const x = (ms) => Math.max(0, Math.min(width, (ms - begin) / known * width));
  const svg = el("svg", { viewBox: `0 0 ${width} 24`, preserveAspectRatio: "none", "aria-hidden": "true" });
  const outages = [];
  let away = 0;
  periods.forEach((p, i) => {
    const from = at(p.since), to = i + 1 < periods.length ? at(periods[i + 1].since) : end;
    if (to <= begin) return;
    if (!p.connected) {
      away += to - Math.max(from, begin);
      outages.push({ from, to, reason: p.reason, open: i + 1 === periods.length });
    }
    const w = Math.max(3, x(to) - x(from));
    svg.append(el("rect", { x: Math.min(x(from), width - w), width: w, y: p.connected ? 6 : 0, height: p.connected ? 12 : 24, class: p.connected ? "up" : "down" }));
  });
  let gone = 0;
  for (const l of losses) {
    if (at(l.time) < begin) continue;
    gone += l.count;
    svg.append(el("line", { x1: x(at(l.time)), x2: x(at(l.time)), y1: 0, y2: 24, class: "loss" }));
  }
  const share = `${(100 * (1 - away / known)).toFixed(away > 0 && away < known * 0.001 ? 2 : 1)} % connected`;
  bar.replaceChildren(svg, el("div", { class: "axis" }, el("span", {}, `${span(known / 1000)} ago`), el("span", {}, share), el("span", {}, "now")));
  if (gone > 0) bar.append(el("p", { class: "bad" }, `${count(gone)} messages lost in this time, at the dark lines: see Losses`));
  const shown = outages.reverse().slice(0, 5).map((o) => el("li", {},
    el("strong", {}, `${time(o.from)} – ${o.open ? "now" : time(o.to)}`), ` not connected for ${span((o.to - o.from) / 1000)}`,
    o.reason ? el("span", { class: "muted" }, ` · ${o.reason}`) : null));
  if (outages.length > 5) shown.push(el("li", { class: "muted" }, `and ${outages.length - 5} more`));
  list.replaceChildren(...shown);
}

function journal(j) {
  if (!j) return;
  const parts = [];
  if (j.broken) parts.push(el("p", { class: "reason" }, `The storage cannot be used, and nothing is kept: ${j.broken}`));
  if (j.failed) parts.push(el("p", { class: "reason" }, "The storage refuses writes: messages that would have to be kept are refused until it works again."));
  if (j.full) parts.push(el("p", { class: "reason" }, "The journal is full: new messages are refused."));
  const share = Math.min(1, j.bytes / (j.max_size || 1));
  const meter = el("meter", { min: 0, max: 1, high: 0.9, optimum: 0, "aria-label": "Space used" });
  meter.value = share;
  const dl = el("dl", { class: "facts" });
  facts(dl, [
    ["Waiting", count(j.depth) + (j.depth ? `, the oldest since ${time(at(j.oldest))}` : "")],
    ["On disk", `${bytes(j.bytes)} of ${bytes(j.max_size)}`], ["Free on the card", bytes(j.free)],
    ["Written", bytes(j.written)], ["Flash a day", j.flash_bytes_per_day ? bytes(j.flash_bytes_per_day) : ""],
    ["Card lasts", j.flash_lifetime_ns ? `about ${years(j.flash_lifetime_ns)}` : ""],
    ["Messages taken", count(j.messages)], ["Refused", j.refused ? count(j.refused) : ""], ["Failed writes", j.failures ? count(j.failures) : ""],
    ["Damaged", j.damaged ? bytes(j.damaged) : ""],
  ]);
  $("journal").replaceChildren(...parts, meter, dl);
}

function years(ns) {
  const y = ns / 1e9 / 86400 / 365;
  return y >= 99 ? "a century" : y >= 2 ? `${Math.round(y)} years` : `${Math.round(y * 12)} months`;
}

const reasons = {
  max_size: "the journal was full", keep_free: "the card had too little free space", max_age: "they were too old",
  damage: "the card did not return them", backlog: "the client's own backlog was full",
};

function losses(list) {
  if (list.length === 0) {
    $("losses").replaceChildren(el("p", { class: "good" }, "Nothing was lost."));
    return;
  }
  const rows = list.slice(-100).reverse().map((l) => el("tr", {},
    cell("When", time(at(l.time))), cell("Owed to", l.reader || "not known"),
    cell("Numbers", l.first === l.last ? String(l.first) : `${l.first} to ${l.last}`), cell("Messages", count(l.count)), cell("Why", reasons[l.reason] ?? l.reason)));
  $("losses").replaceChildren(table(["When", "Owed to", "Numbers", "Messages", "Why"], rows));
}

export const cell = (label, words) => el("td", { "data-label": label }, words);

export function table(heads, rows) {
  return el("table", {}, el("thead", {}, el("tr", {}, ...heads.map((h) => el("th", { scope: "col" }, h)))), el("tbody", {}, ...rows));
}

export function clients(c) {
  if (!c) return;
  const dl = el("dl", { class: "facts" });
  const d = c.dropped ?? {};
  const dropped = Object.values(d).reduce((sum, n) => sum + n, 0);
  facts(dl, [
    ["Connected", count(c.connected)], ["Sessions", count(c.sessions)], ["Subscriptions", count(c.subscriptions)], ["Retained", count(c.retained)],
    ["Received", count(c.received)], ["Sent", count(c.sent)], ["Not delivered", dropped ? count(dropped) : ""], ["Logins refused", c.logins_refused ? count(c.logins_refused) : ""],
  ]);
  const rows = (c.list ?? []).map((one) => el("tr", {},
    cell("Client", one.id), cell("State", el("span", { class: "pill " + (one.connected ? "good" : "idle") }, one.connected ? "connected" : "away")),
    cell("From", one.remote ?? ""), cell("MQTT", one.protocol ?? ""), cell("Since", time(at(one.since))), cell("Subscriptions", count(one.subscriptions)), cell("Waiting", count(one.depth))));
  const more = c.sessions > rows.length ? [el("p", { class: "muted" }, `and ${count(c.sessions - rows.length)} more`)] : [];
  $("clients").replaceChildren(dl, rows.length ? table(["Client", "State", "From", "MQTT", "Since", "Subscriptions", "Waiting"], rows) : el("p", { class: "muted" }, "No clients."), ...more);
}
