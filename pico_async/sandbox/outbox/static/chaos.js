// The chaos panel: it shows the last settings that the sandbox sent, and sends each change at once.

import { change, find, make, replaceContent } from "./elements.js";

const RULES = ["sliding-log", "aligned-window", "first-request-window", "token-bucket"];
const OPERATIONS = [
  "sms.send", "mms.send", "voice.send", "token.get", "balance.get", "campaigns.create", "campaigns.list", "campaigns.update",
  "campaigns.delete", "templates.create_sms", "templates.create_mms", "templates.list", "templates.delete", "*",
];
const FAULTS = [
  "accept-then-drop", "drop-before-accept", "accept-then-hang", "hang-before-accept", "bad-gateway-before", "bad-gateway-after",
  "unavailable", "rate-limited", "server-trouble-before", "server-trouble-after", "masked-error", "stale-token", "no-request-id",
  "truncated-reply", "garbage-reply", "oversized-reply", "redirect", "bad-request", "expectation-failed", "duplicate-suppressed",
  "refused-connection", "accept-then-reset",
];
const RATES = ["sms", "mms", "voice", "token", "balance", "management"];

export class Chaos {
  constructor() {
    this.fields = new Map(); // for each field, how to show new settings
    this.result = make("p", { class: "result", role: "status" });
    this.rules = make("ul", { class: "rules" });
    replaceContent(find("panel"), this.network(), this.limits(), this.failures(), this.faults(), this.receipts(), this.tokens(), this.result);
  }

  update(settings) {
    for (const [node, read] of this.fields) if (document.activeElement !== node) read(settings);
    replaceContent(
      this.rules,
      ...settings.faults.map((rule) =>
        make(
          "li",
          {},
          make("b", {}, rule.fault),
          ` on ${rule.operation}`,
          rule.to ? ` to ${rule.to}` : "",
          rule.times === null ? ", always" : `, ${rule.times} ${rule.times === 1 ? "time" : "times"}`,
          rule.probability < 1 ? `, ${Math.round(rule.probability * 100)} %` : "",
        ),
      ),
    );
    const hasFaults =
      settings.latency_s > 0 || settings.jitter_s > 0 || settings.fault_rate > 0 || settings.faults.length > 0 || settings.dialect !== "documented";
    find("chaos-on").hidden = !hasFaults;
  }

  async send(path, body, success, method) {
    try {
      const settings = await change(path, body, method);
      this.result.dataset.mood = "good";
      this.result.textContent = success;
      return settings;
    } catch (error) {
      this.result.dataset.mood = "bad";
      this.result.textContent = error.message;
      return null;
    }
  }

  set(name, changes) {
    return this.send("/_sandbox/settings", changes, `${name}: set, from the next request on.`);
  }

  number(name, label, unit, { read, write, ...limits }) {
    const input = make("input", { type: "number", name, min: 0, step: "any", inputmode: "decimal", ...limits });
    this.fields.set(input, (settings) => {
      const value = read(settings);
      input.value = value === null ? "" : String(Math.round(value * 1e6) / 1e6);
    });
    input.addEventListener("change", () => this.set(label, write(input.value === "" ? null : Number(input.value))));
    return make("label", { class: "field" }, make("span", {}, label), make("span", { class: "with-unit" }, input, make("span", { class: "unit" }, unit)));
  }

  choice(name, label, options, { read, write }) {
    const select = make("select", { name }, ...options.map(([value, text]) => make("option", { value }, text)));
    this.fields.set(select, (settings) => {
      select.value = read(settings);
    });
    select.addEventListener("change", () => this.set(label, write(select.value)));
    return make("label", { class: "field" }, make("span", {}, label), select);
  }

  network() {
    const ms = (name) => ({ read: (settings) => settings[name] * 1000, write: (value) => ({ [name]: (value ?? 0) / 1000 }) });
    return card(
      "Network",
      "Latency delays the reply; jitter delays the arrival.",
      this.number("latency", "Latency", "ms", ms("latency_s")),
      this.number("jitter", "Jitter, at most", "ms", ms("jitter_s")),
      this.choice("dialect", "Dialect of failures", [["documented", "documented"], ["ruoyi", "ruoyi: HTTP 200 with a code"]], {
        read: (settings) => settings.dialect,
        write: (dialect) => ({ dialect }),
      }),
    );
  }

  limits() {
    return card(
      "Limits",
      "A rule or a rate that changes counts from zero again. An empty rate means no limit.",
      this.choice("rate_rule", "Window rule", [...RULES.map((rule) => [rule, rule]), ["none", "none: no limit"]], {
        read: (settings) => settings.rate_rule ?? "none",
        write: (rule) => ({ rate_rule: rule === "none" ? null : rule }),
      }),
      make(
        "div",
        { class: "pair" },
        ...RATES.map((name) =>
          this.number(`rate-${name}`, name, "/ s", { read: (settings) => settings.rates[name], write: (value) => ({ rates: { [name]: value } }) }),
        ),
      ),
    );
  }

  failures() {
    const boxes = FAULTS.map((fault) => {
      const box = make("input", { type: "checkbox", value: fault });
      this.fields.set(box, (settings) => {
        box.checked = settings.fault_kinds.includes(fault);
      });
      return box;
    });
    boxes.forEach((box) =>
      box.addEventListener("change", () => this.set("Faults", { fault_kinds: boxes.filter((one) => one.checked).map((one) => one.value) })),
    );
    return card(
      "By chance",
      "This share of all sends fails, each with one of the chosen faults.",
      this.number("fault_rate", "Share of the sends", "%", {
        max: 100,
        read: (settings) => settings.fault_rate * 100,
        write: (value) => ({ fault_rate: (value ?? 0) / 100 }),
      }),
      make("details", {}, make("summary", {}, "Faults to draw from"), make("div", { class: "boxes" }, ...boxes.map((box) => make("label", {}, box, box.value)))),
    );
  }

  faults() {
    const fault = make("select", { name: "fault" }, ...FAULTS.map((one) => make("option", { value: one }, one)));
    const operation = make("select", { name: "operation" }, ...OPERATIONS.map((one) => make("option", { value: one }, one === "*" ? "any operation" : one)));
    const to = make("input", { name: "to", inputmode: "tel", placeholder: "any number", autocomplete: "off" });
    const times = make("input", { type: "number", name: "times", min: 1, step: 1, placeholder: "always", value: 1 });
    const form = make(
      "form",
      { class: "pair" },
      labelled("Fault", fault),
      labelled("Operation", operation),
      labelled("Number", to),
      labelled("Times", times),
      make("div", { class: "buttons wide" }, make("button", { type: "submit", class: "primary" }, "Inject"), button("Remove all faults", () => this.send("/_sandbox/faults", undefined, "All faults are removed.", "DELETE"))),
    );
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      const rule = { fault: fault.value, operation: operation.value, to: to.value.trim() || null, times: times.value === "" ? null : Number(times.value) };
      this.send("/_sandbox/faults", rule, `${rule.fault} is in force.`);
    });
    return card("On purpose", "A rule strikes the next requests that match it.", form, this.rules);
  }

  receipts() {
    const on = make("input", { type: "checkbox", role: "switch", name: "receipts" });
    this.fields.set(on, (settings) => {
      on.checked = settings.receipts.on;
    });
    on.addEventListener("change", () => this.set("Delivery receipts", { receipts: { on: on.checked } }));
    const plain = (name) => ({ read: (settings) => settings.receipts[name], write: (value) => ({ receipts: { [name]: value ?? 0 } }) });
    const share = (name) => ({ max: 100, read: (settings) => settings.receipts[name] * 100, write: (value) => ({ receipts: { [name]: (value ?? 0) / 100 } }) });
    return card(
      "Delivery receipts",
      "Sent to the callback of each SMS. v0.4 does not document method and body: they are the sandbox's own invention.",
      make("label", { class: "switch" }, on, make("span", {}, "Send receipts")),
      this.choice("form", "Form", [["json", "POST, JSON"], ["form", "POST, form"], ["query", "GET, query"]], {
        read: (settings) => settings.receipts.form,
        write: (form) => ({ receipts: { form } }),
      }),
      make(
        "div",
        { class: "pair" },
        this.number("sent_after", "SENT after", "s", plain("sent_after_s")),
        this.number("delivered_after", "DELIVERED after", "s", plain("delivered_after_s")),
        this.number("undelivered", "Undelivered", "%", share("undelivered")),
        this.number("duplicates", "Sent twice", "%", share("duplicates")),
        this.number("reordered", "Reordered", "%", share("reordered")),
        this.number("tries", "Tries", "", { ...plain("tries"), min: 1, max: 20, step: 1 }),
        this.number("backoff", "First backoff", "s", plain("backoff_s")),
        this.number("timeout", "Timeout", "s", plain("timeout_s")),
      ),
    );
  }

  tokens() {
    return card(
      "Tokens",
      "Makes every token stale that was issued so far: the next request gets a 401.",
      make("div", { class: "buttons" }, button("Expire all tokens", () => this.send("/_sandbox/expire-tokens", undefined, "All tokens are stale."))),
    );
  }
}

function card(title, note, ...children) {
  return make("section", { class: "card" }, make("h2", {}, title), make("p", { class: "muted" }, note), ...children);
}

function labelled(label, control) {
  return make("label", { class: "field" }, make("span", {}, label), control);
}

function button(text, listener) {
  return make("button", { type: "button", on: { click: listener } }, text);
}
