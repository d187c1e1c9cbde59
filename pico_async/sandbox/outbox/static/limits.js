// The limits page: arrivals per second at the server, against the limit.

import { clockTime, draw, find, make, millis, number, replaceContent } from "./elements.js";

const HEIGHT = 260;
const LEFT = 34;
const BOTTOM = 22;
const TOP = 12;

export class Limits {
  constructor() {
    this.seconds = new Map();
    this.last = null;
    this.receivedAt = 0;
    this.node = find("chart");
    new ResizeObserver(() => this.paint()).observe(this.node);
    setInterval(() => this.visible && this.paint(), 1000);
  }

  get visible() {
    return !find("limits").hidden;
  }

  reset() {
    this.seconds.clear();
  }

  update(limits) {
    this.last = limits;
    this.receivedAt = performance.now();
    for (const [second, ...counts] of limits.seconds) this.seconds.set(second, counts);
    if (this.visible) this.paint();
  }

  paint() {
    if (!this.last) return;
    this.tiles();
    this.chart();
    this.failed();
  }

  tiles() {
    const { densest, verdicts, operations, rate } = this.last;
    const over = rate !== null && densest.count > rate;
    const all = [
      ["Sends of SMS", number(operations["sms.send"] ?? 0), ""],
      ["Densest second", number(densest.count), densest.at === null ? "" : `${over ? "over the limit, " : ""}from ${millis(densest.at)}`, over ? "bad" : densest.count ? "good" : ""],
      ["Refused for their rate", number(verdicts["refused-rate"]), "", verdicts["refused-rate"] ? "bad" : ""],
      ["Token requests", number(operations["token.get"] ?? 0), ""],
      ["The limit", rate === null ? "none" : number(rate), rate === null ? "" : "SMS per second"],
    ];
    replaceContent(
      find("tiles"),
      ...all.map(([name, value, note, mood]) =>
        make("div", { class: "tile", "data-mood": mood }, make("span", { class: "tile-name" }, name), make("b", {}, value), make("span", { class: "muted" }, note)),
      ),
    );
    find("rate-label").textContent = rate === null ? "no limit" : `the limit, ${rate} per second`;
  }

  chart() {
    const width = this.node.clientWidth;
    if (!width) return;
    const rate = this.last.rate;
    const now = this.last.now + Math.min(600, (performance.now() - this.receivedAt) / 1000);
    const count = Math.max(20, Math.min(90, Math.floor((width - LEFT) / 14)));
    const first = Math.floor(now) - count + 1;
    let most = rate ? rate * 1.25 : 10;
    for (let second = first; second < first + count; second++) {
      const counts = this.seconds.get(second);
      if (counts) most = Math.max(most, counts[0] + counts[1] + counts[2]);
    }
    const unit = (HEIGHT - BOTTOM - TOP) / most;
    const step = (width - LEFT - 4) / count;
    const y = (value) => HEIGHT - BOTTOM - value * unit;
    const svg = draw("svg", { viewBox: `0 0 ${width} ${HEIGHT}`, width, height: HEIGHT, role: "img", "aria-label": this.description(first, count) });
    const tick = niceTick(most);
    for (let value = 0; value <= most; value += tick) {
      svg.append(draw("line", { class: "grid", x1: LEFT, x2: width, y1: y(value), y2: y(value) }));
      svg.append(draw("text", { class: "axis", x: LEFT - 8, y: y(value) + 4, "text-anchor": "end" }, number(value)));
    }
    for (let index = 0; index < count; index++) {
      const counts = this.seconds.get(first + index);
      let height = 0;
      ["accepted", "refused", "other"].forEach((name, kind) => {
        const value = counts?.[kind] ?? 0;
        if (!value) return;
        svg.append(draw("rect", { class: name, x: LEFT + index * step + 0.5, width: Math.max(1, step - 1.5), y: y(height + value), height: value * unit, rx: 1 }));
        height += value;
      });
      if ((first + index) % 15 === 0 && index * step > 20 && index * step < width - LEFT - 40)
        svg.append(draw("text", { class: "axis", x: LEFT + index * step, y: HEIGHT - 4, "text-anchor": "middle" }, clockTime((this.last.epoch + first + index) * 1000)));
    }
    if (rate !== null) svg.append(draw("line", { class: "limit", x1: LEFT, x2: width, y1: y(rate), y2: y(rate) }));
    replaceContent(this.node, svg);
  }

  description(first, count) {
    let accepted = 0;
    let refused = 0;
    for (let second = first; second < first + count; second++) {
      accepted += this.seconds.get(second)?.[0] ?? 0;
      refused += this.seconds.get(second)?.[1] ?? 0;
    }
    return `The last ${count} seconds: ${accepted} sends accepted, ${refused} refused for their rate. Densest second ever: ${this.last.densest.count}.`;
  }

  failed() {
    const rows = [...this.last.failed].reverse();
    find("none-failed").hidden = rows.length > 0;
    find("failed").closest("table").hidden = rows.length === 0;
    replaceContent(
      find("failed"),
      ...rows.map((one) =>
        make("tr", {}, make("td", {}, millis(one.at)), make("td", {}, one.operation), make("td", {}, one.to ?? ""), make("td", {}, one.verdict), make("td", {}, one.fault ?? "")),
      ),
    );
  }
}

function niceTick(most) {
  const rough = most / 5;
  const power = 10 ** Math.floor(Math.log10(rough));
  return Math.max(1, [1, 2, 5, 10].find((step) => step * power >= rough) * power);
}
