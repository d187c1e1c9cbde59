// One message, with everything that the sandbox knows about it.

import { ask, change, find, fullTime, make, millis, number, replaceContent, STATES } from "./elements.js";

export class MessageView {
  constructor({ onClose }) {
    this.node = find("message");
    this.onClose = onClose;
    this.n = null;
    this.requests = 0;
    this.blank();
  }

  blank() {
    this.n = null;
    replaceContent(
      this.node,
      make("div", { class: "blank" }, make("p", {}, "Choose a message to see it in full."), make("p", {}, make("kbd", {}, "?"), " shows the keys.")),
    );
  }

  async show(n) {
    this.n = n;
    const request = ++this.requests;
    try {
      const message = await ask(`/_sandbox/outbox/messages/${n}`);
      if (request === this.requests && this.n === n) this.fill(message);
    } catch (error) {
      if (request === this.requests) replaceContent(this.node, this.back(), make("p", { class: "error", role: "alert" }, error.message));
    }
  }

  refresh(n) {
    if (n === this.n) this.show(n);
  }

  back() {
    return make("button", { type: "button", class: "back", on: { click: () => this.onClose() } }, "← All messages");
  }

  fill(message) {
    const kept = this.node.scrollTop;
    const same = this.node.dataset.n === String(message.n);
    this.node.dataset.n = message.n;
    const focusedAgain = document.activeElement?.id === "again";
    replaceContent(
      this.node,
      this.back(),
      make(
        "header",
        { class: "message-head" },
        make(
          "div",
          {},
          make("h1", {}, `+${message.to}`),
          make(
            "p",
            { class: "muted" },
            message.sender ? `from ${message.sender} · ` : "",
            make("time", { datetime: new Date(message.at).toISOString() }, fullTime(message.at)),
          ),
        ),
        badge(message),
      ),
      message.fault && make("p", { class: "note warn" }, make("b", {}, "Carried out, but the client got a faulty reply: "), message.fault),
      text(message),
      parts(message),
      message.template && template(message.template),
      facts(message),
      message.extra.length > 0 &&
        section("Extra fields", make("p", { class: "muted" }, "Not in the reference; the sandbox ignores them."), pairs(message.extra)),
      this.receipts(message),
    );
    this.node.scrollTop = same ? kept : 0;
    if (focusedAgain) find("again")?.focus();
  }

  receipts(message) {
    const error = make("p", { class: "error", role: "alert" });
    const again = make(
      "button",
      {
        type: "button",
        id: "again",
        on: {
          click: async () => {
            error.textContent = "";
            try {
              await change(`/_sandbox/outbox/messages/${message.n}/receipt`);
            } catch (failure) {
              error.textContent = failure.message;
            }
          },
        },
      },
      "Send again",
    );
    if (message.state === "none") return section("Delivery receipts", make("p", { class: "muted" }, "The message has no callback."));
    const rows = message.tries.map((one) =>
      make(
        "li",
        { "data-mood": one.acknowledged ? "good" : "bad" },
        make("span", { class: "try-status" }, one.status),
        make("span", { class: "try-result" }, one.acknowledged ? `acknowledged, ${one.result}` : one.result),
        make("span", { class: "muted" }, one.is_copy ? "copy" : one.number > 1 ? `try ${one.number}` : ""),
        make("time", { class: "muted" }, millis(one.at)),
      ),
    );
    return section(
      "Delivery receipts",
      make("p", { class: "callback" }, message.callback),
      rows.length ? make("ol", { class: "tries" }, ...rows) : make("p", { class: "muted" }, message.state === "off" ? "Receipts were off. Turn them on at Chaos." : "No receipt was sent yet."),
      make("div", { class: "buttons" }, again, error),
    );
  }
}

function section(title, ...children) {
  return make("section", {}, make("h2", {}, title), ...children);
}

function badge(message) {
  const [text, mood] = STATES[message.state] ?? [message.state, "quiet"];
  return make("span", { class: "state big", "data-mood": mood }, text);
}

function text(message) {
  if (message.text === null) return null;
  const copy = make("button", { type: "button", class: "plain copy" }, "Copy");
  copy.addEventListener("click", async () => {
    await navigator.clipboard?.writeText(message.text);
    copy.textContent = "Copied";
  });
  return make("div", { class: "bubble" }, make("p", { id: "text", dir: "auto" }, message.text), copy);
}

function parts(message) {
  if (!message.parts) return null;
  const { encoding, units, count } = message.parts;
  const [alone, joined] = encoding === "GSM-7" ? [160, 153] : [70, 67];
  const each = count === 1 ? alone : joined;
  const bars = make("span", { class: "bars", "aria-hidden": "true" });
  for (let part = 0; part < Math.min(count, 24); part++) bars.append(make("meter", { min: 0, max: each, value: Math.min(each, units - part * each) }));
  return make(
    "p",
    { class: "parts" },
    make("b", {}, encoding),
    ` · ${number(units)} ${encoding === "GSM-7" ? "septets" : "units"} · ${number(count)} ${count === 1 ? "part" : "parts"} of up to ${each}`,
    message.templated ? " · before the variables are filled" : "",
    bars,
  );
}

// {{var}} is highlighted and not filled: how Pico fills it is not documented.
function withMarkedVariables(content) {
  const pieces = content.split(/(\{\{[^{}]*\}\})/);
  return pieces.map((piece, index) => (index % 2 ? make("mark", {}, piece) : piece));
}

function template(found) {
  return section(
    "Template",
    make("div", { class: "bubble" }, make("p", { id: "template", dir: "auto" }, ...withMarkedVariables(found.content))),
    pairs([
      ["Name", found.name],
      ["Status", found.status],
      ["Id", found.id],
      ["Campaign", found.campaign ? found.campaign.name + (found.campaign.deleted ? " (deleted)" : "") : "unknown"],
      ...(found.campaign?.remark ? [["Remark", found.campaign.remark]] : []),
    ]),
  );
}

function facts(message) {
  const all = [
    ["Kind", message.kind.toUpperCase()],
    ["Request id", message.request_id],
    ["Media", message.media_url],
    ["Language", message.lang],
  ];
  return section("Details", pairs(all.filter(([, value]) => value !== null)));
}

function pairs(all) {
  return make("dl", { class: "pairs" }, ...all.flatMap(([name, value]) => [make("dt", {}, name), make("dd", {}, value)]));
}
