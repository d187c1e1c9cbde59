// The page: it receives the events of the sandbox and passes them to its parts.

import { Chaos } from "./chaos.js";
import { find, number, replaceContent } from "./elements.js";
import { Limits } from "./limits.js";
import { MessageList } from "./list.js";
import { MessageView } from "./message.js";

const PAGES = ["outbox", "limits", "chaos"];
const NARROW = matchMedia("(max-width: 820px)");

const list = new MessageList({ onSelect: (n) => NARROW.matches || show(n), onOpen: open });
const view = new MessageView({ onClose: close });
const limits = new Limits();
const chaos = new Chaos();
let total = 0;
let unannounced = 0;

// Events of the sandbox.

let source;
let last = "";

function listen() {
  source = new EventSource(`/_sandbox/outbox/events${last ? `?after=${encodeURIComponent(last)}` : ""}`);
  source.onopen = () => showConnection("live", "Live");
  source.onerror = () => {
    showConnection("lost", "Connection lost, trying again");
    // A refusal ends an EventSource for good; a lost connection does not.
    if (source.readyState === EventSource.CLOSED) setTimeout(listen, 2000);
  };
  on("hello", (data) => {
    if (!data.resumed) {
      list.reset(data.first);
      limits.reset();
      total = data.first;
      if (messageInHash() !== null) view.show(Number(messageInHash()));
    }
    replaceContent(find("exports"), exportsFor(data));
    showCounts();
  });
  on("messages", (data) => {
    const before = total;
    total = data.total;
    list.add(data.rows);
    unannounced += before ? data.rows.length : 0;
    showCounts();
  });
  on("receipts", (data) => {
    list.setStates(data.states);
    if (data.states.some(([n]) => n === view.n)) view.refresh(view.n);
  });
  on("limits", (data) => limits.update(data));
  on("settings", (data) => chaos.update(data));
}

function on(name, listener) {
  source.addEventListener(name, (event) => {
    last = event.lastEventId;
    listener(JSON.parse(event.data));
  });
}

function showConnection(state, text) {
  find("link").dataset.state = state;
  find("link-text").textContent = text;
}

function exportsFor(data) {
  return [
    `export PICO_BASE_URL=${location.origin}`,
    `export PICO_USERNAME=${data.username}`,
    `export PICO_API_KEY=${data.api_key ?? "…  # the one you chose"}`,
    "export PICO_SENDER=8612345678888",
  ].join("\n");
}

function showCounts() {
  find("total").textContent = number(total);
  document.title = `(${number(total)}) Outbox · pico sandbox`;
  find("older").hidden = list.first === 0;
  find("older").textContent = `${number(list.first)} older messages are in /_sandbox/ledger.`;
  const found = list.shown.length;
  find("found").textContent = list.query ? `${number(found)} of ${number(list.rows.length)}` : "";
  find("empty").hidden = list.rows.length > 0;
  find("list").hidden = found === 0;
  find("nothing").hidden = found > 0 || !list.query || list.rows.length === 0;
}

// Announced in groups: a screen reader could not keep up with each message of a bulk send.
setInterval(() => {
  if (!unannounced) return;
  find("announcer").textContent = `${unannounced} new ${unannounced === 1 ? "message" : "messages"}`;
  unannounced = 0;
}, 5000);

// The address: #/, #/message/12, #/limits, #/chaos.

function messageInHash() {
  const match = /^#\/message\/(\d{1,15})$/.exec(location.hash);
  return match ? match[1] : null;
}

function showHash() {
  const page = PAGES.find((name) => location.hash === `#/${name}`) ?? "outbox";
  for (const name of PAGES) find(name).hidden = name !== page;
  for (const tab of document.querySelectorAll("[data-page]")) {
    if (tab.dataset.page === page) tab.setAttribute("aria-current", "page");
    else tab.removeAttribute("aria-current");
  }
  const n = messageInHash();
  find("outbox").classList.toggle("reading", n !== null);
  if (n !== null) {
    list.select(Number(n), { notify: false });
    view.show(Number(n));
  } else if (page === "outbox") {
    view.blank();
    list.render();
  }
  if (limits.visible) limits.paint();
}

function open(n) {
  location.hash = `#/message/${n}`;
  if (NARROW.matches) find("message").focus({ preventScroll: true });
}

// Replaces the history entry, so that the back button does not repeat each step through the list.
function show(n) {
  location.replace(`#/message/${n}`);
}

function close() {
  location.hash = "#/";
  find("list").focus({ preventScroll: true });
}

addEventListener("hashchange", showHash);

// Keys.

const search = find("search");
search.addEventListener("input", () => {
  list.search(search.value);
  showCounts();
});
find("clear-search").addEventListener("click", () => clearSearch());

function clearSearch() {
  search.value = "";
  list.search("");
  showCounts();
}

const MOVES = {
  j: 1,
  ArrowDown: 1,
  k: -1,
  ArrowUp: -1,
};

addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || find("keys").open) return;
  const typing = event.target.closest("input, select, textarea");
  if (event.key === "Escape") {
    if (typing === search && search.value) clearSearch();
    else if (typing) typing.blur();
    else if (messageInHash() !== null) close();
    if (typing === search) find("list").focus({ preventScroll: true });
    return;
  }
  const inOutbox = !find("outbox").hidden;
  if (typing === search && (event.key === "Enter" || event.key === "ArrowDown")) {
    find("list").focus({ preventScroll: true });
    list.step(event.key === "Enter" ? 0 : 1);
    event.preventDefault();
    return;
  }
  if (typing) return;
  const inMessage = find("message").contains(event.target);
  if (event.key === "/") {
    location.hash = inOutbox ? location.hash : "#/";
    search.focus();
    search.select();
  } else if (event.key === "?") find("keys").showModal();
  else if ("123".includes(event.key)) location.hash = ["#/", "#/limits", "#/chaos"][Number(event.key) - 1];
  else if (!inOutbox) return;
  else if (event.key in MOVES && !(inMessage && event.key.startsWith("Arrow"))) list.step(MOVES[event.key]);
  else if (event.key === "g" || (event.key === "Home" && !inMessage)) list.step(-Infinity);
  else if (event.key === "End" && !inMessage) list.step(Infinity);
  else if (event.key === "PageDown" && !inMessage) list.step(list.pageSize());
  else if (event.key === "PageUp" && !inMessage) list.step(-list.pageSize());
  else if (event.key === "Enter" && !event.target.closest("a, button, summary") && list.selected !== null) {
    open(list.selected);
    find("message").focus({ preventScroll: true });
  } else return;
  event.preventDefault();
});

find("close-keys").addEventListener("click", () => find("keys").close());
find("copy-exports").addEventListener("click", async () => {
  await navigator.clipboard?.writeText(find("exports").textContent);
  find("copy-exports").textContent = "Copied";
});

showHash();
showCounts();
listen();
