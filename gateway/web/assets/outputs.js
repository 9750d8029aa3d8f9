// Cards of outputs: where each is, and what moves it. A switch shows where the output is, not where
// somebody wants it: it moves when the gateway says so.

import { $, el, pill, set, show, sync, text } from "./dom.js";
import { at, span, time, value } from "./format.js";
import { ask, state } from "./stream.js";
import { kindOf } from "./sensors.js";

const cards = new Map();
const causes = {
  start: "its safe value since the start", command: "by command", lease: "its safe value: the command was not renewed",
  max_on: "its safe value: it was on for long enough", link: "its safe value: the link was lost",
  fault: "after an error", stop: "its safe value: the gateway is stopping",
};

let mayOperate = false;

// allow says whether the visitor may move outputs.
export function allow(may) {
  mayOperate = may;
  for (const card of cards.values()) card.update(null);
}

export function update(keys) {
  const names = state.get("gateway")?.outputs ?? [];
  sync($("outputs"), cards, names, make);
  show($("outputs-part"), names.length > 0);
  for (const [name, card] of cards) {
    if (keys.has("output/" + name)) card.update(state.get("output/" + name));
  }
}

function make(name) {
  const status = el("span", { class: "pill" });
  const big = el("span", { class: "number" });
  const why = el("p", { class: "muted" });
  const reason = el("p", { class: "reason", hidden: true });
  const result = el("p", { class: "result", role: "status" });
  const place = el("div", { class: "control" });
  let output = null, control = null, busy = false;

  async function send(wanted) {
    busy = true;
    redraw();
    text(result, "…");
    set(result, "class", "result");
    try {
      const r = await ask("/api/outputs/" + encodeURIComponent(name), { value: wanted, id: newID() });
      const until = r.until ? ` until ${time(at(r.until))}` : "";
      text(result, r.result === "refused" ? `Refused: ${r.reason}` : r.result === "waiting" ? `Waiting${until}: ${r.reason}` : `Done${until}`);
      set(result, "class", r.result === "refused" ? "result bad" : "result good");
    } catch (err) {
      text(result, err.message);
      set(result, "class", "result bad");
    }
    busy = false;
    redraw();
  }

  function redraw() {
    if (!output) return;
    const known = output.value !== null && output.value !== undefined;
    const analogue = output.levels || output.position;
    pill(status, output.state, kindOf(output.state));
    text(reason, output.reason ?? "");
    show(reason, !!output.reason);
    text(big, !known ? "unknown" : output.position ? `${value(output.value, output.unit)} ${output.unit}`
      : output.value === 0 ? "OFF" : output.value === 1 ? "ON" : `${Math.round(output.value * 100)} %`);
    set(big, "class", "number " + (known && output.value !== 0 && !output.position ? "on" : ""));
    text(why, [causes[output.by] ?? output.by, output.why, at(output.set) ? "since " + time(at(output.set)) : ""].filter(Boolean).join(" · ")
      + (output.lease_s ? ` · a command holds for ${span(output.lease_s)}` : ""));
    control ??= (analogue ? slider : toggle)(name, output, send);
    if (place.firstChild !== control.e) place.replaceChildren(control.e);
    control.update(output, known, mayOperate && !busy);
  }

  return {
    e: el("article", { class: "card output" }, el("div", { class: "title" }, el("h3", {}, name), status), reason,
      el("div", { class: "switchline" }, big, place), why, result),
    update(o) {
      if (o) output = o;
      redraw();
    },
  };
}

function toggle(name, _, send) {
  const knob = el("span", { class: "knob", "aria-hidden": "true" });
  const e = el("button", { type: "button", role: "switch", class: "toggle", "aria-label": `Switch ${name}`,
    onclick: () => send(e.getAttribute("aria-checked") === "true" ? "off" : "on") }, knob);
  return {
    e,
    update(o, known, enabled) {
      set(e, "aria-checked", known && o.value !== 0 ? "true" : "false");
      set(e, "disabled", !enabled);
    },
  };
}

function slider(name, o, send) {
  const percent = !o.position;
  const low = o.low ?? 0, high = o.high ?? 1;
  const shown = (v) => (percent ? `${Math.round(v * 100)} %` : `${value(v, o.unit)} ${o.unit}`);
  const label = el("output", { class: "wanted" });
  const range = el("input", { type: "range", min: low, max: high, step: (high - low) / 100, "aria-label": `Value of ${name}`,
    oninput: () => { touched = true; text(label, shown(Number(range.value))); } });
  const button = el("button", { type: "button", onclick: () => { touched = false; send(Number(range.value)); } }, "Set");
  let touched = false;
  return {
    e: el("div", { class: "slider" }, range, label, button),
    update(now, known, enabled) {
      if (!touched && known) {
        range.value = now.value;
        text(label, shown(now.value));
      }
      set(range, "disabled", !enabled);
      set(button, "disabled", !enabled);
    },
  };
}

// newID is unlike any other: a command that is sent twice is carried out once.
function newID() {
  const b = crypto.getRandomValues(new Uint8Array(12));
  return "web-" + Array.from(b, (x) => x.toString(16).padStart(2, "0")).join("");
}
