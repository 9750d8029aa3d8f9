// Small helpers over the DOM. Text is only ever set as text, never as HTML.

export const $ = (id) => document.getElementById(id);

const svgNames = new Set(["svg", "path", "rect", "line", "title", "circle"]);

// el makes an element with attributes, listeners (on…) and children.
export function el(name, attributes = {}, ...children) {
  const e = svgNames.has(name)
    ? document.createElementNS("http://www.w3.org/2000/svg", name)
    : document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (key.startsWith("on")) e.addEventListener(key.slice(2), value);
    else set(e, key, value);
  }
  e.append(...children.filter((c) => c !== null && c !== undefined));
  return e;
}

// set gives an attribute a value, if it has another one; false and null remove it.
export function set(e, key, value) {
  if (value === false || value === null || value === undefined) {
    if (e.hasAttribute(key)) e.removeAttribute(key);
    return;
  }
  const text = value === true ? "" : String(value);
  if (e.getAttribute(key) !== text) e.setAttribute(key, text);
}

// text sets an element's text, if it is another one.
export function text(e, value) {
  if (e.textContent !== value) e.textContent = value;
}

// show hides an element or shows it.
export const show = (e, visible) => set(e, "hidden", !visible);

// sync keeps one part for each name inside of a container, in order. make returns an object with an
// element e and a function update.
export function sync(container, parts, names, make) {
  for (const [name, part] of parts) {
    if (names.includes(name)) continue;
    part.e.remove();
    parts.delete(name);
  }
  names.forEach((name, i) => {
    if (!parts.has(name)) parts.set(name, make(name));
    const { e } = parts.get(name);
    if (container.children[i] !== e) container.insertBefore(e, container.children[i] ?? null);
  });
}

// pill says a state in words and colour.
export function pill(e, words, kind) {
  text(e, words);
  set(e, "class", "pill " + kind);
}

// facts fills a list of names and values.
export function facts(dl, pairs) {
  dl.replaceChildren(...pairs.filter(([, value]) => value !== "" && value !== null && value !== undefined)
    .map(([name, value]) => el("div", { class: String(value).length > 22 ? "long" : null }, el("dt", {}, name), el("dd", {}, value))));
}
