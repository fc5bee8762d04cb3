// Elements. Whatever comes from the report goes through here, as text and never as markup.

const SVG = "http://www.w3.org/2000/svg";

function build(node, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
  node.append(...children);
  return node;
}

export const byId = (id) => document.getElementById(id);

export const element = (tag, attributes = {}, ...children) =>
  build(document.createElement(tag), attributes, children);

export const drawing = (tag, attributes = {}, ...children) =>
  build(document.createElementNS(SVG, tag), attributes, children);

// Characters that nobody sees, and those that turn the text around them; joiners belong to some scripts.
const UNSEEN = /(?![\u200c\u200d])[\p{Cc}\p{Cf}\p{Zl}\p{Zp}]/gu;

const visible = (text) =>
  text.replace(UNSEEN, (character) => `\\u{${character.codePointAt(0).toString(16).toUpperCase()}}`);

// These change nothing where nothing has changed, so that selections, tooltips and screen readers are
// left in peace.

export function setText(node, text) {
  const seen = visible(text);
  if (node.textContent !== seen) node.textContent = seen;
}

/// A name's text, whose lines end where its parts do, if they can.
export function setName(node, text) {
  const seen = visible(text);
  if (node.textContent === seen) return;
  const [first, ...others] = seen.split(/(?<=[._:/-])/);
  node.replaceChildren(first, ...others.flatMap((part) => [element("wbr"), part]));
}

export function setAttribute(node, name, value) {
  const text = visible(String(value));
  if (node.getAttribute(name) !== text) node.setAttribute(name, text);
}

export function setHidden(node, hidden) {
  if (node.hidden !== hidden) node.hidden = hidden;
}

const known = new WeakMap();

/// Makes the children of `parent` those of `items`, in order. A child stays that of its key.
export function setChildren(parent, items, key, create, update) {
  const before = known.get(parent) ?? new Map();
  const after = new Map();
  let place = parent.firstChild;
  items.forEach((item, index) => {
    const name = key(item, index);
    if (after.has(name)) return;
    const node = before.get(name) ?? create(item);
    before.delete(name);
    after.set(name, node);
    update?.(node, item);
    if (node === place) place = place.nextSibling;
    else parent.insertBefore(node, place);
  });
  before.forEach((node) => node.remove());
  known.set(parent, after);
}

/// A list of names and values, made once; returns what sets them.
export function facts(container, names) {
  const list = container.appendChild(element("dl", { class: "facts" }));
  const values = names.map((name) => {
    const value = element("dd");
    list.append(element("div", {}, element("dt", {}, name), value));
    return value;
  });
  return (texts) => values.forEach((value, index) => setText(value, texts[index]));
}
