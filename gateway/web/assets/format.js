// Values, times and sizes as people read them.

let ahead = 0; // milliseconds that the gateway's clock is ahead of the browser's

// clock notes what time it is at the gateway.
export function clock(ms) { ahead = ms - Date.now(); }

// now is the gateway's time in milliseconds.
export const now = () => Date.now() + ahead;

export const at = (stamp) => (stamp ? Date.parse(stamp) : NaN);

// value has as many decimals as its size deserves, always the same number, so that it does not jump.
export function value(v, unit) {
  if (v === null || v === undefined) return "?";
  const a = Math.abs(v);
  if (Number.isInteger(v) && (!unit || a >= 10000)) return String(v);
  if (a >= 1e15 || (a > 0 && a < 0.01)) return v.toPrecision(3);
  return v.toFixed(a >= 10000 ? 0 : a >= 100 ? 1 : a >= 1 || v === 0 ? 2 : 3);
}

const units = [["d", 86400], ["h", 3600], ["min", 60], ["s", 1]];

// span says a number of seconds in at most two units.
export function span(seconds) {
  const s = Math.max(0, Math.round(seconds));
  const i = units.findIndex(([, size]) => s >= size);
  if (i < 0) return "0 s";
  const [unit, size] = units[i];
  const more = units[i + 1];
  const rest = more ? Math.floor((s % size) / more[1]) : 0;
  return `${Math.floor(s / size)} ${unit}` + (rest ? ` ${rest} ${more[0]}` : "");
}

// ago says how long something is past; in the first seconds it does not change all the time.
export function ago(ms) {
  if (!Number.isFinite(ms)) return "";
  const s = (now() - ms) / 1000;
  return s < 10 ? "just now" : s < 60 ? `${Math.floor(s / 10) * 10} s ago` : span(s < 3600 ? s - (s % 60) : s) + " ago";
}

// time is the time of day, with the day if that is another one.
export function time(ms, seconds = true) {
  if (!Number.isFinite(ms)) return "";
  const d = new Date(ms);
  const clock = d.toLocaleTimeString([], { hour: "2-digit", minute: "2-digit", second: seconds ? "2-digit" : undefined, hour12: false });
  if (d.toDateString() === new Date(now()).toDateString()) return clock;
  return d.toLocaleDateString([], { month: "short", day: "numeric" }) + " " + clock;
}

export function bytes(n) {
  if (n === null || n === undefined || n < 0) return "";
  let i = 0;
  for (; n >= 1000 && i < 4; i++) n /= 1024;
  return `${i && n < 10 ? n.toFixed(1) : Math.round(n)} ${["B", "KiB", "MiB", "GiB", "TiB"][i]}`;
}

export const count = (n) => (n ?? 0).toLocaleString("en").replaceAll(",", "\u202f");
