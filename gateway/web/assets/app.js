// The page: who looks, what is shown, and what changes.

import { $, pill, set, show, text } from "./dom.js";
import { at, span, now } from "./format.js";
import * as stream from "./stream.js";
import * as sensors from "./sensors.js";
import * as outputs from "./outputs.js";
import * as delivery from "./delivery.js";
import * as spark from "./spark.js";
import * as chart from "./chart.js";
import * as log from "./log.js";

const views = ["now", "delivery", "clients", "log", "setup"];
let view = "now", stale = new Set(), inside = false;

async function begin() {
  let who;
  try {
    who = await stream.ask("/api/session");
  } catch (err) {
    alive(false);
    setTimeout(begin, 3000);
    return;
  }
  text($("device"), who.device);
  document.title = `${who.device} · Holdfast`;
  inside = who.role !== "";
  show($("login"), !inside);
  show($("tabs"), inside);
  show($("logout"), inside && who.login);
  text($("user"), who.user + (who.role === "view" ? " (may look)" : ""));
  outputs.allow(who.role === "operate");
  choose();
  if (!inside) {
    leave();
    $("name").focus();
    return;
  }
  stream.open({ changed, alive, closed: begin });
}

// leave forgets what was shown.
function leave() {
  stream.close();
  stream.state.clear();
  stream.lines.length = 0;
  for (const part of [sensors, outputs, delivery]) part.update(new Set());
  for (const id of ["journal", "losses", "clients", "log", "config", "version"]) $(id).replaceChildren();
  pill($("state"), "", "");
  text($("live"), "");
  $("problems").replaceChildren();
  problems();
}

// alive says whether what is shown is of now.
function alive(yes) {
  text($("live"), yes ? "live" : "no connection to the gateway: old values");
  set($("live"), "class", yes ? "live good" : "live bad");
  set(document.body, "class", yes ? null : "cut");
}

// changed draws what is seen; the rest is drawn when it is looked at.
function changed(keys) {
  if (keys.has("gateway")) gateway(stream.state.get("gateway"));
  if (keys.has("history")) fill();
  for (const key of keys) stale.add(key);
  if (!document.hidden) draw();
}

function draw() {
  if (!inside) return;
  const keys = stale;
  const rest = new Set();
  const mine = (key) => {
    const [kind] = key.split("/");
    const where = { sensor: "now", output: "now", bridge: "delivery", timeline: "delivery", journal: "delivery", losses: "delivery", clients: "clients", log: "log" }[kind];
    return where === undefined || where === view;
  };
  for (const key of keys) if (!mine(key)) rest.add(key);
  stale = rest;
  if (view === "now") {
    sensors.update(keys);
    outputs.update(keys);
  } else if (view === "delivery") delivery.update(keys);
  else if (view === "clients" && keys.has("clients")) delivery.clients(stream.state.get("clients"));
  else if (view === "log" && keys.has("log")) log.draw();
}

const states = { running: "good", degraded: "warn", starting: "idle", stopping: "idle" };

function gateway(g) {
  if (!g) return;
  pill($("state"), g.state, states[g.state] ?? "warn");
  $("problems").replaceChildren(...(g.problems ?? []).map((p) => Object.assign(document.createElement("li"), { textContent: p })));
  problems();
  text($("version"), `Holdfast ${g.version}, running for ${span((now() - at(g.started)) / 1000)}`);
}

// problems are shown where one looks first; elsewhere the state beside the name says that there are some.
function problems() {
  show($("problems"), inside && view === "now" && $("problems").children.length > 0);
}

async function fill() {
  try {
    spark.fill(await stream.ask("/api/history"));
    sensors.redraw();
  } catch {
    // the lines begin with the values that come
  }
}

async function setup() {
  try {
    const c = await stream.ask("/api/config");
    text($("config"), c.text);
    text($("mistakes"), c.mistakes ? `These files have mistakes, and are not what the gateway runs with:\n${c.mistakes}` : "");
    show($("mistakes"), !!c.mistakes);
  } catch (err) {
    text($("config"), err.message);
  }
}

function choose() {
  const asked = location.hash.slice(1);
  view = views.includes(asked) ? asked : "now";
  for (const section of document.querySelectorAll("[data-view]")) show(section, inside && section.dataset.view === view);
  for (const a of $("tabs").children) set(a, "aria-current", a.hash === "#" + view ? "page" : null);
  problems();
  if (!inside) return;
  draw();
  if (view === "setup") setup();
}

$("login").addEventListener("submit", async (e) => {
  e.preventDefault();
  const button = $("login").querySelector("button");
  button.disabled = true;
  text($("login-error"), "");
  try {
    await stream.ask("/api/login", { user: $("name").value, password: $("password").value });
    $("password").value = "";
    await begin();
  } catch (err) {
    text($("login-error"), err.message);
  }
  button.disabled = false;
});

$("logout").addEventListener("click", async () => {
  leave();
  await stream.ask("/api/logout", {}).catch(() => {});
  begin();
});

addEventListener("hashchange", choose);
document.addEventListener("visibilitychange", () => { if (!document.hidden) draw(); });
setInterval(() => { // ages go on where nothing else does
  if (document.hidden || !inside) return;
  if (view === "now") sensors.redraw();
  else if (view === "delivery") delivery.redraw();
}, 10000);
chart.start();
log.start();
begin();
