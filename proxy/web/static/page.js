// The page: the status, drawn anew whenever the stream says that there is a new one.  Every name and reason comes from
// outside, so text is only ever set as text (textContent): nothing here writes HTML.

const STALE = 4000; // ms without a new status after which it is shown as old
const AGAIN = 2000; // ms until a broken stream, or a status that could not be had, is tried again
const EVENTS = 100;
const ORDER = { down: 0, unknown: 1, reserve: 2, up: 3 };
const TONES = {
  up: "up", active: "up", degraded: "warn", unknown: "warn", reserve: "warn", down: "down", stopping: "down", fault: "down",
  drain: "warn", maint: "warn",
};

const at = (id) => document.getElementById(id);
let fresh = 0; // when the status came that is shown, ms
let asking = false;
let missed = false;
let why = "";
let events = [];

function made(tag, className, text) {
  const node = document.createElement(tag);
  if (className) node.className = className;
  if (text !== undefined) node.textContent = text;
  return node;
}

function badge(text) {
  return made("span", `badge ${TONES[text] || ""}`, text);
}

function moment(value) {
  return typeof value === "number" ? new Date(value * 1000) : new Date(value);
}

function span(seconds) {
  const whole = Math.max(0, Math.round(seconds));
  const units = [[86400, "d"], [3600, "h"], [60, "m"]];
  for (const [size, name] of units) if (whole >= 2 * size) return `${Math.floor(whole / size)} ${name}`;
  return `${whole} s`;
}

function since(value) {
  return value === null || value === undefined ? "" : span((Date.now() - moment(value)) / 1000);
}

function number(value) {
  return value === null || value === undefined ? "" : value.toLocaleString("en", { maximumFractionDigits: 1 });
}

function milliseconds(value) {
  if (value === null || value === undefined) return "";
  return value < 10 ? `${value.toFixed(1)} ms` : `${Math.round(value)} ms`;
}

function lastReason(backend) {
  const failed = backend.probes.find((probe) => probe.ok === false);
  return failed && backend.state !== "up" ? failed.reason : backend.reason;
}

function badness(backend) {
  return ORDER[backend.state] * 2 + (backend.admin === "ready" ? 0 : 1);
}

function cell(row, className, text, label) {
  const node = made("td", className, text);
  if (label) node.dataset.label = label;
  if (text === "") node.classList.add("empty");
  row.append(node);
  return node;
}

function backendRow(backend) {
  const row = document.createElement("tr");
  row.dataset.backend = backend.name;
  const name = cell(row, "name", backend.name);
  if (!backend.address.startsWith(backend.name)) name.append(made("div", "faint", backend.address));
  const state = cell(row, "state");
  state.append(badge(backend.state));
  if (backend.admin !== "ready") state.append(" ", badge(backend.admin));
  cell(row, "number", since(backend.since), "since");
  cell(row, "number", number(backend.effective_weight), "weight");
  cell(row, "number", number(backend.active), "open");
  cell(row, "number", backend.queued ? number(backend.queued) : "", "queued");
  cell(row, "number", number(backend.rate), "per s");
  cell(row, "number", milliseconds(backend.latency_ms.p50), "p50");
  cell(row, "number", milliseconds(backend.latency_ms.p99), "p99");
  const act = [`${backend.admin} by ${backend.admin_by || "an operator"}`, backend.admin_reason].filter(Boolean).join(": ");
  const reason = [backend.admin === "ready" ? "" : act, lastReason(backend)].filter(Boolean).join("; ");
  cell(row, backend.state === "down" ? "why bad" : "why", reason);
  return row;
}

function serviceCard(service) {
  const card = made("article", "card");
  card.dataset.service = service.name;
  const head = made("div", "head");
  const usable = service.backends.filter((one) => one.state === "up" || one.state === "reserve").length;
  const open = service.backends.reduce((sum, one) => sum + one.active, 0);
  const rate = service.backends.reduce((sum, one) => sum + one.rate, 0);
  head.append(made("h3", "", service.name), badge(service.state));
  head.append(made("span", "faint", `${usable} of ${service.backends.length} usable · ${number(open)} open · ${number(rate)} per s`));
  card.append(head, made("p", "faint", `${service.listen.join(", ")} · ${service.scheduler}`));
  const table = document.createElement("table");
  const top = document.createElement("tr");
  for (const title of ["backend", "state", "since", "weight", "open", "queued", "per s", "p50", "p99", "reason"]) {
    const heading = made("th", { backend: "name", state: "state", reason: "reason" }[title] || "number", title);
    heading.scope = "col";
    top.append(heading);
  }
  const thead = document.createElement("thead");
  thead.append(top);
  const body = document.createElement("tbody");
  const sorted = service.backends.map((one, index) => [badness(one), index, one]).sort((a, b) => a[0] - b[0] || a[1] - b[1]);
  body.append(...sorted.map(([, , one]) => backendRow(one)));
  table.append(thead, body);
  card.append(table);
  return card;
}

function routerCard(router) {
  const card = made("article", "card");
  card.dataset.router = router.name;
  const head = made("div", "head");
  head.append(made("h3", "", router.name), badge(router.state));
  if (router.standby) head.append(badge("standby"));
  const parts = Object.entries(router.priority_parts || {}).map(([name, value]) => `${name} ${value}`);
  const effective = router.effective_priority ?? router.priority;
  card.append(head, made("p", "", router.addresses.join(", ")));
  card.append(made("p", "faint", `priority ${effective}${parts.length ? ` (${parts.join(", ")})` : ""}${router.since ? ` · for ${since(router.since)}` : ""}`));
  const peer = router.peer;
  const heard = peer ? `peer ${peer.node || peer.address}, priority ${peer.priority}, heard ${span(peer.last_advert_s)} ago` : "no peer heard";
  card.append(made("p", "faint", heard));
  const change = router.last_change;
  if (change && change.reason) card.append(made("p", "faint", `${change.from} → ${change.to}: ${change.reason}`));
  return card;
}

const WORST = { down: 0, stopping: 0, degraded: 1, up: 2 };

function draw(status) {
  const failing = status.services.filter((one) => one.state !== "up").length;
  document.title = `${status.node}: ${failing ? `${failing} of ${status.services.length} not up` : "all up"}`;
  at("node").textContent = status.node;
  at("state").textContent = status.state;
  at("state").className = `badge ${status.state === "running" ? "up" : "down"}`;
  at("state").hidden = false;
  const alive = status.workers.filter((one) => one.alive && !one.draining).length;
  const all = status.workers.filter((one) => !one.draining).length;
  const parts = [`steelyard ${status.version}`, `up ${span(status.uptime_s)}`, `${alive} of ${all} workers`];
  if (status.config.overrides) parts.push(`${status.config.overrides} overrides`);
  at("about").textContent = parts.join(" · ");
  const wrong = [];
  if (!status.config.valid) wrong.push(`The last reload was refused: ${(status.config.error || "").split("\n")[0]}`);
  if (all && !alive) wrong.push("No worker is alive.");
  why = wrong.join(" ");
  at("routers").hidden = status.vrrp.length === 0;
  at("routers").querySelector(".cards").replaceChildren(...status.vrrp.map(routerCard));
  const sorted = status.services.map((one, index) => [WORST[one.state] ?? 1, index, one]).sort((a, b) => a[0] - b[0] || a[1] - b[1]);
  at("services").querySelector(".list").replaceChildren(...sorted.map(([, , one]) => serviceCard(one)));
  fresh = Date.now();
  age();
}

function drawEvents() {
  at("events").querySelector("ol").replaceChildren(...events.map((event) => {
    const row = made("li", "");
    const time = made("time", "", moment(event.at).toLocaleString("sv"));
    time.dateTime = moment(event.at).toISOString();
    row.append(time, made("span", event.level === "warning" || event.level === "error" ? event.level : "", `${event.kind} ${event.subject}: ${event.text}`));
    return row;
  }));
}

function age() {
  const old = Date.now() - fresh;
  const stale = !fresh || old > STALE;
  const away = fresh ? `The daemon is away: this is ${span(old / 1000)} old.` : "The daemon does not answer.";
  at("live").className = stale ? "stale" : "fresh";
  at("live").textContent = stale ? (fresh ? `${span(old / 1000)} old` : "no answer yet") : "live";
  document.querySelector("main").classList.toggle("stale", stale);
  const text = [stale && (fresh || missed) ? away : "", why].filter(Boolean).join(" ");
  if (at("alarm").textContent !== text) at("alarm").textContent = text;
  at("alarm").hidden = text === "";
}

async function ask() {
  if (asking) return;
  asking = true;
  try {
    const answer = await fetch("status.json", { signal: AbortSignal.timeout(5000) });
    if (!answer.ok) throw new Error(String(answer.status));
    draw(await answer.json());
  } catch {
    missed = true;
    age();
  } finally {
    asking = false;
  }
}

function follow() {
  const stream = new EventSource("events");
  stream.onopen = () => { events = []; };
  stream.addEventListener("status", ask);
  stream.addEventListener("event", (message) => {
    events = [JSON.parse(message.data), ...events].slice(0, EVENTS);
    drawEvents();
  });
  stream.onerror = () => {
    missed = true;
    if (stream.readyState !== EventSource.CLOSED) return; // it connects anew by itself
    stream.close();
    setTimeout(follow, AGAIN);
  };
}

setInterval(age, 1000);
ask();
follow();
