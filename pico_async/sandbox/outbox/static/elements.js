// All elements are made here. Text is always set as text, never as markup.

const SVG = "http://www.w3.org/2000/svg";

const isPresent = (child) => child !== null && child !== undefined && child !== false;

function fill(node, attributes, children) {
  for (const [name, value] of Object.entries(attributes ?? {})) {
    if (value === undefined || value === null || value === false) continue;
    if (name === "on") for (const [event, listener] of Object.entries(value)) node.addEventListener(event, listener);
    else node.setAttribute(name, value === true ? "" : value);
  }
  node.append(...children.filter(isPresent));
  return node;
}

export const make = (name, attributes, ...children) => fill(document.createElement(name), attributes, children);
export const draw = (name, attributes, ...children) => fill(document.createElementNS(SVG, name), attributes, children);
export const find = (id) => document.getElementById(id);

export function replaceContent(node, ...children) {
  node.replaceChildren(...children.filter(isPresent));
}

const CLOCK = new Intl.DateTimeFormat(undefined, { hour: "2-digit", minute: "2-digit", second: "2-digit", hour12: false });
const DAY = new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "medium" });
export const clockTime = (ms) => CLOCK.format(ms);
export const fullTime = (ms) => DAY.format(ms);
export const millis = (ms) => `${clockTime(ms)}.${String(Math.floor(ms) % 1000).padStart(3, "0")}`;
export const number = (count) => count.toLocaleString("en-US");

export const STATES = {
  off: ["Receipts off", "quiet"],
  none: ["No callback", "quiet"],
  waiting: ["Receipt due", "pending"],
  sent: ["Sent", "pending"],
  delivered: ["Delivered", "good"],
  undelivered: ["Undelivered", "bad"],
  retrying: ["Retrying", "warn"],
  failed: ["Receipt failed", "bad"],
  refused: ["Callback refused", "bad"],
};

export async function ask(path, options) {
  const reply = await fetch(path, options);
  const body = await reply.json().catch(() => ({}));
  if (!reply.ok) throw new Error(body.errors?.[0] ?? `The sandbox answered ${reply.status}.`);
  return body;
}

export const change = (path, body, method = "POST") =>
  ask(path, { method, headers: { "Content-Type": "application/json" }, body: body === undefined ? undefined : JSON.stringify(body) });
