// The list of messages. Only rows on the screen have elements.

import { clockTime, find, make, number, STATES } from "./elements.js";

const ROW = 72;
const SPARE = 6;
const MOST_ROWS = 25_000; // rows that are kept
const REMOVED_ROWS = 5_000; // rows that are removed at once

export class MessageList {
  constructor({ onSelect, onOpen }) {
    this.rows = []; // all rows, oldest first
    this.first = 0; // the number of rows[0]
    this.found = null; // rows that match the search, oldest first; null without a search
    this.query = "";
    this.selected = null;
    this.onSelect = onSelect;
    this.onOpen = onOpen;
    this.scroller = find("list");
    this.runway = find("runway");
    this.pool = [];
    this.renderRequested = false;
    this.length = 0;
    this.scroller.addEventListener("scroll", () => this.render(), { passive: true });
    this.scroller.addEventListener("click", (event) => {
      const option = event.target.closest("[data-n]");
      if (option) this.onOpen(Number(option.dataset.n));
    });
    new ResizeObserver(() => this.render()).observe(this.scroller);
  }

  get shown() {
    return this.found ?? this.rows;
  }

  reset(first) {
    this.rows = [];
    this.first = first;
    this.found = this.query ? [] : null;
    this.selected = null;
    this.render();
  }

  row(n) {
    return this.rows[n - this.first];
  }

  add(rows) {
    for (const row of rows) {
      row.searchText = `${row.to}\n${row.sender ?? ""}\n${row.text}\n${row.kind}`.toLowerCase();
      this.rows.push(row);
      if (this.found && row.searchText.includes(this.query)) this.found.push(row);
    }
    if (this.rows.length > MOST_ROWS) {
      this.rows.splice(0, REMOVED_ROWS);
      this.first += REMOVED_ROWS;
      if (this.found) this.found = this.found.filter((row) => row.n >= this.first);
    }
    this.render();
  }

  setStates(states) {
    for (const [n, state] of states) {
      const row = this.row(n);
      if (row) row.state = state;
    }
    this.render();
  }

  search(text) {
    this.query = text.trim().toLowerCase();
    this.found = this.query ? this.rows.filter((row) => row.searchText.includes(this.query)) : null;
    this.scroller.scrollTop = 0;
    this.length = this.shown.length;
    this.render();
  }

  // The index of a row from the top; the newest row has index 0.
  indexOf(n) {
    const shown = this.shown;
    let low = 0;
    let high = shown.length - 1;
    while (low <= high) {
      const middle = (low + high) >> 1;
      if (shown[middle].n === n) return shown.length - 1 - middle;
      if (shown[middle].n < n) low = middle + 1;
      else high = middle - 1;
    }
    return -1;
  }

  at(index) {
    return this.shown[this.shown.length - 1 - index];
  }

  step(by) {
    const count = this.shown.length;
    if (!count) return;
    const now = this.selected === null ? -1 : this.indexOf(this.selected);
    const next = Math.min(count - 1, Math.max(0, now + by));
    this.select(this.at(next).n);
  }

  select(n, { notify = true } = {}) {
    this.selected = n;
    const index = n === null ? -1 : this.indexOf(n);
    if (index >= 0) {
      const top = index * ROW;
      const { scrollTop, clientHeight } = this.scroller;
      if (top < scrollTop) this.scroller.scrollTop = top;
      else if (top + ROW > scrollTop + clientHeight) this.scroller.scrollTop = top + ROW - clientHeight;
    }
    this.render();
    if (notify && n !== null) this.onSelect(n);
  }

  pageSize() {
    return Math.max(1, Math.floor(this.scroller.clientHeight / ROW) - 1);
  }

  render() {
    if (this.renderRequested) return;
    this.renderRequested = true;
    requestAnimationFrame(() => {
      this.renderRequested = false;
      this.paint();
    });
  }

  paint() {
    const count = this.shown.length;
    const { scroller, runway } = this;
    runway.style.setProperty("height", `${count * ROW}px`);
    // A reader who has scrolled down keeps the position when rows arrive above.
    if (count > this.length && scroller.scrollTop > ROW / 2) scroller.scrollTop += (count - this.length) * ROW;
    this.length = count;
    const from = Math.max(0, Math.floor(scroller.scrollTop / ROW) - SPARE);
    const to = Math.min(count, Math.ceil((scroller.scrollTop + scroller.clientHeight) / ROW) + SPARE);
    const wanted = Math.max(0, to - from);
    while (this.pool.length < wanted) {
      const made = makeOption();
      this.pool.push(made);
      runway.append(made.node);
    }
    while (this.pool.length > wanted + 2 * SPARE) this.pool.pop().node.remove();
    this.pool.forEach((option, offset) => {
      const index = from + offset;
      if (index < to) fill(option, this.at(index), index, count, this.selected);
      else {
        option.node.hidden = true;
        option.node.removeAttribute("id");
      }
    });
    const active = this.selected !== null && this.indexOf(this.selected) >= 0 ? `m${this.selected}` : null;
    if (active) scroller.setAttribute("aria-activedescendant", active);
    else scroller.removeAttribute("aria-activedescendant");
  }
}

function makeOption() {
  const to = make("span", { class: "to" });
  const from = make("span", { class: "from" });
  const time = make("time", { class: "time" });
  const text = make("span", { class: "snippet" });
  const kind = make("span", { class: "tag kind" });
  const parts = make("span", { class: "tag" });
  const fault = make("span", { class: "tag fault" });
  const state = make("span", { class: "state" });
  const node = make(
    "div",
    { class: "row", role: "option" },
    make("span", { class: "line" }, to, from, time),
    make("span", { class: "line" }, text, kind, fault, parts, state),
  );
  return { node, to, from, time, text, kind, parts, fault, state };
}

function put(node, text) {
  if (node.textContent !== text) node.textContent = text;
  node.hidden = text === "";
}

function fill(option, row, index, count, selected) {
  const { node } = option;
  node.hidden = false;
  node.classList.toggle("odd", index % 2 === 1);
  node.style.setProperty("transform", `translateY(${index * ROW}px)`);
  node.setAttribute("aria-posinset", index + 1);
  node.setAttribute("aria-setsize", count);
  node.setAttribute("aria-selected", row.n === selected);
  node.id = `m${row.n}`;
  node.dataset.n = row.n;
  put(option.to, `+${row.to}`);
  put(option.from, row.sender ? `from ${row.sender}` : "");
  put(option.time, clockTime(row.at));
  put(option.text, row.text || (row.templated ? "(template)" : "(no text)"));
  put(option.kind, row.kind === "sms" ? "" : row.kind.toUpperCase());
  put(option.fault, row.fault ?? "");
  put(option.parts, row.parts ? `${row.parts.encoding} · ${row.parts.count}` : "");
  option.parts.title = row.parts ? `${number(row.parts.count)} ${row.parts.count === 1 ? "part" : "parts"}` : "";
  const [text, mood] = STATES[row.state] ?? [row.state, "quiet"];
  option.state.dataset.mood = mood;
  put(option.state, mood === "quiet" ? "" : text);
}
