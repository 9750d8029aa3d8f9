// What the gateway tells: one stream of events, and requests.

import { clock } from "./format.js";

export const state = new Map(); // by key: "sensor/air", "journal"; what each holds is in the README
export const lines = []; // of the log, oldest first
const maxLines = 300;

let source = null;

// open starts the stream. changed is called with the keys that are new, and alive with whether the
// stream is there; closed when it is over for good, as after a logout.
export function open({ changed, alive, closed }) {
  close();
  source = new EventSource("/api/events");
  source.onmessage = (e) => {
    const m = JSON.parse(e.data);
    clock(m.now);
    const keys = new Set(Object.keys(m.set ?? {}));
    if (m.all) {
      for (const key of state.keys()) keys.add(key);
      state.clear();
      lines.length = 0;
    }
    for (const [key, value] of Object.entries(m.set ?? {})) {
      if (value === null) state.delete(key);
      else state.set(key, value);
    }
    if (m.log) {
      lines.push(...m.log);
      lines.splice(0, lines.length - maxLines);
      keys.add("log");
    }
    alive(true);
    changed(keys);
  };
  source.onerror = () => {
    alive(false);
    if (source.readyState === EventSource.CLOSED) {
      close();
      closed();
    }
  };
}

export function close() {
  source?.close();
  source = null;
}

// ask sends a request and returns the answer, or throws an error with its text and status.
export async function ask(path, body) {
  let response;
  try {
    response = await fetch(path, body === undefined ? {} : {
      method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(body),
    });
  } catch {
    throw new Error("the gateway does not answer");
  }
  const answer = await response.json().catch(() => ({}));
  if (!response.ok) {
    throw Object.assign(new Error(answer.error ?? `the gateway answers ${response.status}`), { status: response.status });
  }
  return answer;
}
