// The operator's page: asks for the document as it changes, and shows it. Whatever comes from files, plugins or callers is put in as
// text: nothing here makes markup of a string. The token stays in `token` and is written nowhere.
"use strict";

const SVG = "http://www.w3.org/2000/svg";
let token = "";
let state = null;
let past = { step_s: 5, lines: [] };
const byId = (id) => document.getElementById(id);

// ---- making elements, and changing those that stand into those that should

/** An element; `facts` are attributes, `on…` listeners, the rest children: elements, or texts. */
function h(name, facts = {}, ...children) {
  const svg = ["svg", "path", "line"].includes(name);
  const made = svg ? document.createElementNS(SVG, name) : document.createElement(name);
  for (const [key, value] of Object.entries(facts)) {
    if (key.startsWith("on")) made.addEventListener(key.slice(2), value);
    else if (value === true) made.setAttribute(key, "");
    else if (value !== false && value !== null && value !== undefined) made.setAttribute(key, value);
  }
  for (const child of children.flat(3)) {
    if (child !== null && child !== undefined && child !== false) made.append(child);
  }
  return made;
}

/** Makes `old` look like `next`, so that what has the focus, is open or scrolled stays as it is. */
function morph(old, next) {
  if (old.nodeType !== next.nodeType || old.nodeName !== next.nodeName || old.id !== next.id || old.dataset?.key !== next.dataset?.key) {
    old.replaceWith(next);
    return;
  }
  if (old.nodeType === Node.TEXT_NODE) {
    if (old.data !== next.data) old.data = next.data;
    return;
  }
  if (next.dataset?.keep !== undefined) return;
  for (const { name } of [...old.attributes]) {
    if (!next.hasAttribute(name) && !(name === "open" && old.nodeName === "DETAILS")) old.removeAttribute(name);
  }
  for (const { name, value } of next.attributes) if (old.getAttribute(name) !== value) old.setAttribute(name, value);
  children(old, [...next.childNodes]);
}

function children(parent, wanted) {
  for (const [at, next] of wanted.entries()) {
    const old = parent.childNodes[at];
    if (old) morph(old, next);
    else parent.append(next);
  }
  while (parent.childNodes.length > wanted.length) parent.lastChild.remove();
}

// ---- words for numbers

const number = (value) => Number(value).toLocaleString("en-US", { maximumFractionDigits: 0 });
const rate = (value) => (value === 0 ? "0" : value < 10 ? value.toFixed(1) : number(value));
const plural = (count, one, many = one + "s") => `${number(count)} ${count === 1 ? one : many}`;

function time(us) {
  if (us === null || us === undefined) return "–";
  if (us < 1000) return `${(us / 1000).toFixed(2)} ms`;
  if (us < 10_000) return `${(us / 1000).toFixed(1)} ms`;
  return us < 1_000_000 ? `${Math.round(us / 1000)} ms` : `${(us / 1e6).toFixed(1)} s`;
}

function span(seconds) {
  const s = Math.max(0, Math.round(seconds));
  if (s < 120) return `${s} s`;
  if (s < 7200) return `${Math.round(s / 60)} min`;
  return s < 172_800 ? `${Math.round(s / 3600)} h` : `${Math.round(s / 86_400)} days`;
}

const date = (seconds) => new Date(seconds * 1000).toISOString().slice(0, 16).replace("T", " ") + " UTC";
const ago = (seconds) => `${span(state.now - seconds)} ago`;

/** A moment to come or gone, as people say it, with the date to read by. */
function when(seconds) {
  const left = seconds - state.now;
  return h("time", { title: date(seconds), datetime: new Date(seconds * 1000).toISOString() }, left >= 0 ? `in ${span(left)}` : ago(seconds));
}

const pill = (text, kind = "") => h("span", { class: `pill ${kind}` }, text);
const code = (text) => h("code", {}, text);
const LIFE = { well: ["good", "valid"], due: ["warn", "renew now"], urgent: ["bad", "ends soon"], over: ["bad", "over"], not_begun: ["bad", "not begun"] };
const life = (kind) => pill(LIFE[kind][1], LIFE[kind][0]);
const worst = (kinds) => (kinds.includes("bad") ? "bad" : kinds.includes("warn") ? "warn" : "good");

function table(heads, rows, none) {
  if (rows.length === 0) return h("p", { class: "empty" }, none);
  const cell = (name, at) => (value) => h(name, { class: heads[at].startsWith(">") ? "num" : heads[at].startsWith("*") ? "wide" : null }, value);
  return h("div", { class: "scroll", tabindex: "0", role: "group", "aria-label": "Table" }, h("table", {},
    h("thead", {}, h("tr", {}, heads.map((head, at) => cell("th", at)(head.replace(/^[>*]/, ""))))),
    h("tbody", {}, rows.map((row) => h("tr", { "data-key": row.key }, row.cells.map((value, at) => cell("td", at)(value)))))));
}

// ---- lines of the last quarter of an hour

const POINTS = 180;

function spark(label, shown, values, { second = null, error = false, unit }) {
  const pad = (list) => [...Array(Math.max(0, POINTS - list.length)).fill(0), ...list];
  const most = Math.max(1e-9, ...values, ...(second ?? []));
  const line = (list) => pad(list).map((value, at) => `${at ? "L" : "M"}${at} ${(40 - (value / most) * 36).toFixed(1)}`).join("");
  const path = line(values);
  const peak = unit(Math.max(0, ...values, ...(second ?? [])));
  return h("figure", { class: `spark${error ? " err" : ""}` },
    h("figcaption", {}, h("span", {}, label), h("span", {}, shown ?? `peak ${peak}`)),
    h("svg", { viewBox: `0 0 ${POINTS - 1} 41`, preserveAspectRatio: "none", role: "img", "aria-label": `${label} of the last 15 minutes, at most ${peak}` },
      h("line", { class: "base", x1: 0, x2: POINTS - 1, y1: 40.5, y2: 40.5 }),
      h("path", { class: "area", d: `${path}L${POINTS - 1} 40L0 40Z` }),
      second && h("path", { class: "faint", d: line(second) }),
      h("path", { class: "path", d: path })));
}

function sparks(plugin) {
  const found = past.lines.find((one) => one.plugin === plugin) ?? { requests: [], failed: [], p50_us: [], p99_us: [] };
  const each = (list) => list.map((value) => value / past.step_s);
  return h("div", { class: "sparks" },
    spark("requests", null, each(found.requests), { unit: (value) => `${rate(value)}/s` }),
    spark("errors", null, each(found.failed), { error: true, unit: (value) => `${rate(value)}/s` }),
    spark("p99, p50", null, found.p99_us, { second: found.p50_us, unit: (value) => time(value || null) }));
}

// ---- sections: each gives its kind (good, warn, bad or none) and what stands in it

function section(id, title, note, ...body) {
  return h("section", { id, "aria-labelledby": `${id}-title` }, h("h2", { id: `${id}-title` }, title, note && h("span", { class: "note" }, note)), ...body);
}

function overview() {
  const { lately, connections } = state;
  const tile = (value, label, kind = "") => h("div", { class: "tile" }, h("b", { class: kind }, value), h("span", {}, label));
  return section("overview", "Now", `last minute · ${state.service} ${state.version}, up ${span(state.now - state.started)}`,
    h("div", { class: "tiles" },
      tile(`${rate(lately.requests_per_s)}/s`, "requests"),
      tile(`${rate(lately.failed_per_s)}/s`, "errors (5xx)", lately.failed_per_s > 0 ? "bad" : ""),
      tile(time(lately.p50_us), "half within"), tile(time(lately.p99_us), "99 % within"),
      tile(number(lately.in_flight), "in flight"),
      connections.map(({ name, count }) => tile(number(count), { client: "clients", hop: "hop connections", plugin: "plain to plugins" }[name] ?? name))));
}

/** Opens to what the documentation says of an alarm or a code; it comes from the program itself. */
function help(link) {
  const word = link.split("#")[1];
  const open = async (event) => {
    const place = event.target.querySelector("pre");
    if (!event.target.open || place.textContent) return;
    const answer = await fetch("/docs/alarms.md");
    place.textContent = answer.ok ? said(await answer.text(), word) : "The documentation could not be read.";
  };
  return h("details", { "data-key": `help-${word}`, "data-keep": "", ontoggle: open }, h("summary", {}, "What it means and what to do"),
    h("pre", {}), h("p", { class: "hint" }, h("a", { href: `/${link}`, target: "_blank", rel: "noreferrer" }, link)));
}

/** The part of a Markdown text under the heading of a word, or its row of a table. */
function said(text, word) {
  const lines = text.split("\n");
  const plain = (line) => line.replace(/[`*]/g, "");
  const head = lines.findIndex((line) => /^#+ /.test(line) && plain(line).replace(/^#+ /, "").trim() === word);
  if (head >= 0) {
    const depth = lines[head].match(/^#+/)[0].length;
    const end = lines.findIndex((line, at) => at > head && /^#+ /.test(line) && line.match(/^#+/)[0].length <= depth);
    return plain(lines.slice(head + 1, end < 0 ? undefined : end).join("\n")).trim();
  }
  const row = lines.find((line) => line.startsWith("|") && plain(line.split("|")[1]).trim() === word);
  return row ? plain(row.split("|").slice(2, -1).map((part) => part.trim()).join("\n\n")) : "Nothing is written of this.";
}

function alarms() {
  const missing = state.missing.map((text) => h("div", { class: "sheet alarm" }, h("h3", {}, pill("not ready", "bad")), h("p", {}, text)));
  const raised = state.alarms.map((alarm) => h("div", { class: "sheet alarm", "data-key": `alarm-${alarm.name}` },
    h("h3", {}, pill(alarm.name, "bad"), h("span", { class: "soft" }, "since ", h("time", { title: date(alarm.since) }, ago(alarm.since)))),
    h("p", {}, alarm.message), help(alarm.docs)));
  const all = [...missing, ...raised];
  return section("alarms", "Alarms", null, all.length ? all : h("p", { class: "empty" }, "Nothing wants to be mended."));
}

const STATE = { well: ["good", "well"], weak: ["warn", "some instances out"], down: ["bad", "down"], nowhere: ["bad", "no address"], disabled: ["", "disabled"] };
const OUT = { failures: "requests failed", probes: "probes failed", version: "version too old or unknown" };

function instances(list, canary) {
  const rows = list.map((one) => ({
    key: `${canary ? "canary-" : ""}${one.address}`,
    cells: [
      h("span", {}, code(one.address), canary && " ", canary && pill("canary")),
      one.healthy ? pill("in", "good") : h("span", {}, pill("out", "bad"), " ", one.out_for.map((why) => OUT[why] ?? why).join(", "),
        one.ejected_until > state.now && h("span", { class: "soft" }, ", until ", when(one.ejected_until))),
      `${(one.share / 10).toFixed(one.share % 10 ? 1 : 0)} %`, number(one.in_flight), one.expected_us ? time(one.expected_us) : "–",
      one.version === null ? h("span", { class: "soft" }, "not said") : h("span", { class: one.version_differs ? "warn" : null }, one.version),
    ],
  }));
  return rows;
}

function plugin(one) {
  const [kind, word] = STATE[one.state];
  const running = [...new Set(one.instances.map((each) => each.version).filter((version) => version !== null))];
  const { lately } = one;
  const value = (shown, label, bad) => h("div", {}, h("b", { class: bad ? "bad" : null }, shown), h("span", {}, label));
  return h("article", { class: `sheet plugin ${kind}`, "data-key": `plugin-${one.name}`, "data-plugin": one.name, "data-state": one.state },
    h("div", { class: "head" }, h("h3", {}, one.name), h("span", { class: "mount" }, one.mount), pill(word, kind)),
    h("div", { class: "facts" },
      h("span", {}, "wants ", one.version), h("span", { class: one.instances.some((each) => each.version_differs) ? "warn" : null }, "runs ", running.join(", ") || "unknown"),
      h("span", {}, one.auth_mode), one.shadow && pill("rules only watch", "warn"), one.rate_limit && h("span", {}, one.rate_limit), h("span", {}, one.file)),
    h("div", { class: "numbers" },
      value(`${rate(lately.requests_per_s)}/s`, "requests"), value(`${rate(lately.failed_per_s)}/s`, "errors", lately.failed_per_s > 0),
      value(time(lately.p50_us), "p50"), value(time(lately.p99_us), "p99")),
    sparks(one.name),
    h("div", { class: "facts" }, h("span", {}, `${number(one.in_flight)} of ${number(one.max_in_flight)} in flight`),
      one.waiting > 0 && h("span", { class: "warn" }, `${number(one.waiting)} waiting`),
      one.canary && h("span", {}, one.canary.mirror ? "copies go to a canary" : `canary: ${one.canary.percent} %, ${plural(one.canary.companies, "company", "companies")}`)),
    table(["*instance", "state", ">share", ">in flight", ">expects", "runs"], [...instances(one.instances), ...instances(one.canary?.instances ?? [], true)], "No address yet."));
}

function plugins() {
  const urgency = (one) => ["bad", "warn"].indexOf(STATE[one.state][0]) >>> 0;
  const list = [...state.own.plugins].sort((one, other) => urgency(one) - urgency(other));
  return section("plugins", "Plugins", plural(list.length, "plugin"), list.length ? h("div", { class: "grid" }, list.map(plugin)) : h("p", { class: "empty" }, "No plugin is in force: put a file into the plugin folder."));
}

const FILE = { in_force: ["good", "in force"], last_good: ["bad", "faulty; last good version in force"], faulty: ["bad", "faulty; not in force"] };

function fault(one) {
  const place = one.line ? `line ${one.line}, column ${one.column}: ` : "";
  return h("div", { class: "fault" }, h("p", {}, place, one.message),
    one.text !== null && h("pre", { tabindex: "0" }, one.text + "\n", " ".repeat(one.caret), h("span", { class: "caret" }, "^")));
}

function files() {
  const own = state.own.files;
  const rows = [...own.files].sort((a, b) => b.faults.length - a.faults.length).map((one) => ({
    key: one.file,
    cells: [h("div", {}, code(one.file), one.faults.map(fault)), pill(FILE[one.state][1], FILE[one.state][0]),
      one.plugin ? `${one.plugin} ${one.version}` : "–", one.mount ? code(one.mount) : "–", one.since ? h("time", { title: date(one.since) }, ago(one.since)) : "–"],
  }));
  const changes = own.changes.map(({ at, text }) => h("li", {}, h("time", { title: date(at) }, ago(at)), h("span", {}, text)));
  return section("files", "Files", own.folder,
    own.faults.map((text) => h("div", { class: "fault" }, text)),
    h("div", { class: "sheet" }, table(["*file", "state", "plugin", "mount", "since"], rows, "The folder holds no file.")),
    h("div", { class: "two" },
      h("div", { class: "sheet" }, h("h3", {}, "Changes, the last twenty"), changes.length ? h("ul", { class: "changes" }, changes) : h("p", { class: "empty" }, "Nothing has changed since the start.")),
      h("div", { class: "sheet" }, h("h3", {}, "Mounts inside others, and on hold"),
        table(["mount", "plugin", "lies in", "of"], own.shadowed.map((one) => ({ key: one.inner, cells: [code(one.inner), one.inner_plugin, code(one.outer), one.outer_plugin] })), "No mount lies in another's."),
        own.held.length > 0 && h("p", { class: "warn" }, "On hold, answered with 503: ", own.held.join(", ")))));
}

function trust() {
  const own = state.trust;
  const pairs = (list) => h("dl", { class: "pairs" }, list.filter(Boolean).map(([name, ...value]) => [h("dt", {}, name), h("dd", {}, ...value)]));
  const hops = own.hops.map((one) => ({
    key: `${one.peer}-${one.serial}-${one.group}-${one.http}`,
    cells: [h("span", {}, code(one.peer)), number(one.connections), `${one.tls}, ${one.http}`,
      h("span", {}, one.group, " ", one.post_quantum ? pill("post-quantum", "good") : pill("not post-quantum", "warn")), one.cipher,
      h("span", {}, when(one.not_after), " ", one.life !== "well" && life(one.life)), span(one.oldest_s)],
  }));
  const crls = (own.crls ?? []).map((one) => ({
    key: one.issuer,
    cells: [one.issuer, one.number ?? "–", number(one.revoked), h("time", { title: date(one.this_update) }, ago(one.this_update)), h("span", {}, when(one.next_update), " ", life(one.life))],
  }));
  const last = own.last_revocation;
  return section("trust", "Trust", `set ${own.generation}`,
    h("div", { class: "two" },
      h("div", { class: "sheet" }, h("h3", {}, "Own certificate"), pairs([
        ["identity", code(own.id)], ["issued by", own.issuer ?? "unknown"], ["until", date(own.not_after), " (", when(own.not_after), ") ", life(own.life)],
        ["next renewal", date(own.renewal), " (", when(own.renewal), ")"], ["serial", code(own.serial)],
        own.public && ["public certificate", "until ", date(own.public.not_after), " (", when(own.public.not_after), ") ", life(own.public.life)],
        ["roots", own.roots.map((root, at) => h("div", { "data-key": String(at) }, root.subject, h("span", { class: "soft" }, " until ", date(root.not_after))))]])),
      h("div", { class: "sheet" }, h("h3", {}, "Revocation"),
        h("p", { class: "last-revocation" }, last ? h("span", {}, "Last list with more on it: ", h("time", { title: date(last.at) }, ago(last.at)), `, ${plural(last.added, "certificate")} revoked, ${plural(last.cut, "connection")} cut`, last.peers.length ? `: ${last.peers.join(", ")}` : ".") : "Nothing was revoked since the start."),
        h("p", { class: "soft" }, plural(own.revoked_closed, "connection"), " closed for a revocation since the start."),
        own.crls === null ? h("p", { class: "warn" }, "This program does without revocation lists (--no-crl).") : table(["*list of", ">number", ">revoked", "made", "next due"], crls, "There is no list."))),
    h("div", { class: "sheet" }, h("h3", {}, state.service === "gateway" ? "Sidecars it speaks with" : "Peers that are connected"),
      table(["*peer", ">connections", "protocol", "key exchange", "cipher", "certificate ends", ">oldest"], hops, "No hop stands now.")));
}

function counted(list, what, none) {
  return table([`*${what}`, ">last 15 min", ">since the start"], list.map((one) => ({ key: one.name, cells: [h("div", {}, code(one.name), one.docs && help(one.docs)), number(one.lately), number(one.total)] })), none);
}

function companies(busiest) {
  const of = (title, list) => h("div", { class: "sheet" }, h("h3", {}, title),
    table(busiest.named ? ["*company", ">count"] : ["rank", ">count"], list.map((one, at) => ({ key: String(at), cells: [busiest.named ? code(one.company) : `no. ${at + 1}`, (one.over ? "≤ " : "") + number(one.count)] })), "None."));
  return [h("h3", { class: "soft" }, `Companies of the last ${Math.round(busiest.window_s / 60)} minutes`, !busiest.named && " (numbers alone: --page-tenants on names them)"),
    h("div", { class: "grid three" }, of("Most requests", busiest.requests), of("Most refusals", busiest.refusals), of("Most shed", busiest.sheds))];
}

function callers() {
  const own = state.own.callers;
  const issuers = own.issuers.map((one) => ({
    key: one.source,
    cells: [h("div", {}, one.issuer ?? "any issuer", h("div", { class: "soft" }, one.source), one.problem && h("div", { class: "bad" }, one.problem)),
      h("div", {}, one.keys.map((key, at) => h("div", { "data-key": String(at) }, key))), span(one.age_s), one.fetched_s === null ? "–" : `${span(one.fetched_s)} ago`],
  }));
  const limits = own.limits.map((one, at) => ({
    key: `${one.plugin ?? ""}${at}`,
    cells: [one.plugin ?? "own file", h("span", {}, one.limit, " ", one.shadow && pill("only watches", "warn")),
      one.left.length ? h("div", {}, one.left.map((left) => h("div", { "data-key": left.company }, code(left.company), " ", h("progress", { max: left.of, value: left.left, "aria-label": `left of ${left.of}` }), ` ${number(left.left)} left`))) : h("span", { class: "soft" }, "–")],
  }));
  return section("callers", "Callers", null,
    h("div", { class: "two" },
      h("div", { class: "sheet" }, h("h3", {}, "Refusals by code"), counted(state.rejections, "code", "Nobody was refused.")),
      h("div", { class: "sheet" }, h("h3", {}, "Refused tokens by reason"), counted(own.tokens, "reason", "No token was refused."))),
    own.companies && companies(own.companies),
    h("div", { class: "sheet" }, h("h3", {}, "Issuers"), table(["*issuer", "*keys", ">in force for", ">fetched"], issuers, "No issuer is configured: public plugins alone can be served.")),
    h("div", { class: "sheet" }, h("h3", {}, "Limits"), table(["plugin", "*limit", "*left"], limits, "No plugin has a rate_limit.")),
    h("div", { class: "sheet" }, h("h3", {}, "Suspended companies"), h("p", { class: own.suspended.count ? "" : "empty" }, plural(own.suspended.count, "company", "companies"), own.suspended.companies.length ? `: ${own.suspended.companies.join(", ")}${own.suspended.companies.length < own.suspended.count ? " …" : ""}` : "")));
}

function behind() {
  const own = state.own;
  const [kind, word] = own.reachable === null ? ["", "not tried yet"] : own.reachable ? ["good", "takes connections"] : ["bad", "takes no connection"];
  const { lately } = own;
  const value = (shown, label, bad) => h("div", {}, h("b", { class: bad ? "bad" : null }, shown), h("span", {}, label));
  return section("plugin", "Plugin", null, h("article", { class: `sheet plugin ${kind}`, "data-plugin": own.plugin, "data-reachable": String(own.reachable) },
    h("div", { class: "head" }, h("h3", {}, own.plugin), h("span", { class: "mount" }, own.address), pill(word, kind)),
    own.why && h("p", { class: "bad" }, own.why),
    h("div", { class: "numbers" }, value(`${rate(lately.requests_per_s)}/s`, "requests"), value(`${rate(lately.failed_per_s)}/s`, "errors", lately.failed_per_s > 0),
      value(time(lately.upstream_p50_us), "plugin, p50"), value(time(lately.upstream_p99_us), "plugin, p99")),
    sparks(own.plugin),
    h("div", { class: "facts" }, h("span", {}, "lets in ", own.allow.join(", ")), own.allow_no_tenant && h("span", { class: "warn" }, "requests without a company pass where the gateway says so"))));
}

function answers() {
  const failed = state.handshakes.map((one) => ({ key: `${one.side}-${one.reason}`, cells: [one.side, code(one.reason), number(one.total)] }));
  return section("answers", state.service === "gateway" ? "Handshakes" : "Refusals and handshakes", null, h("div", { class: "two" },
    state.service !== "gateway" && h("div", { class: "sheet" }, h("h3", {}, "Refusals by code"), counted(state.rejections, "code", "Nobody was refused.")),
    h("div", { class: "sheet" }, h("h3", {}, "Failed handshakes"), table(["side", "*reason", ">since the start"], failed, "None has failed."))));
}

// ---- a request that somebody asks about, and requests as they end: made once, so that what is typed stays

const field = (label, control) => h("div", { class: "grow" }, h("label", { for: control.id }, label), control);

function trial() {
  const method = h("select", { id: "try-method" }, ["GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS"].map((name) => h("option", {}, name)));
  const text = (id, facts = {}) => h("input", { id, autocomplete: "off", spellcheck: "false", ...facts });
  const path = text("try-path", { required: true, placeholder: "/v1/lab-reporting/reports/7" });
  const bearer = h("textarea", { id: "try-token", rows: "2", autocomplete: "off", spellcheck: "false" });
  const [host, client, origin] = [text("try-host"), text("try-client", { placeholder: "192.0.2.7" }), text("try-origin")];
  const result = h("div", { id: "try-result", role: "status", "aria-live": "polite" });
  const ask = async (event) => {
    event.preventDefault();
    const question = { method: method.value, path: path.value };
    for (const [name, control] of Object.entries({ token: bearer, host, client, origin })) if (control.value.trim()) question[name] = control.value.trim();
    try {
      const answer = await call("/explain", { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(question) });
      const told = await answer.json();
      if (!answer.ok) throw new Error(told.message);
      const passes = told.code === null;
      result.replaceChildren(h("p", {}, passes ? pill(told.own ? "the gateway answers itself" : "goes on", "good") : pill(`${told.status} ${told.code}`, "bad"), told.plugin ? ` to plugin ${told.plugin}` : ""),
        h("ol", { class: "steps" }, told.steps.map((step) => h("li", {}, h("b", {}, step.stage), h("span", {}, step.text)))));
    } catch (error) {
      result.replaceChildren(h("p", { class: "bad" }, error.message));
    }
  };
  return section("try", "Try", "what would become of a request; nothing is sent", h("div", { class: "sheet" }, h("form", { onsubmit: ask },
    h("div", { class: "row" }, h("div", {}, h("label", { for: "try-method" }, "Method"), method), field("Path", path)),
    h("div", {}, h("label", { for: "try-token" }, "Token (stays in this page's memory)"), bearer),
    h("details", {}, h("summary", {}, "Host, client address, origin"), h("div", { class: "row" }, field("Host", host), field("Client", client), field("Origin", origin))),
    h("div", {}, h("button", {}, "Explain"))), result));
}

function tap() {
  const text = (id, facts) => h("input", { id, autocomplete: "off", spellcheck: "false", ...facts });
  const [plugin, company, status, slow] = [text("tap-plugin", {}), text("tap-company", {}), text("tap-status", { placeholder: "5xx" }), text("tap-slow", { inputmode: "numeric", placeholder: "200" })];
  const button = h("button", {}, "Look"), told = h("p", { class: "hint", role: "status" }), body = h("tbody", {});
  const heads = ["time", "method", "path", "status", "ms", "company", "plugin", "code"];
  const lines = h("div", { class: "scroll", tabindex: "0" }, h("table", { class: "tap-lines" }, h("thead", {}, h("tr", {}, heads.map((head) => h("th", {}, head)))), body));
  lines.hidden = true;
  let stop = null;
  const show = (line) => {
    const kind = line.status >= 500 ? "bad" : line.status >= 400 ? "warn" : null;
    body.prepend(h("tr", {}, [line.ts?.slice(11, 23), line.method, line.path, h("span", { class: kind }, String(line.status)), String(line.latency_ms), line.company_id, line.plugin, line.code].map((value) => h("td", {}, value ?? "–"))));
    while (body.childElementCount > 200) body.lastElementChild.remove();
  };
  const look = async (event) => {
    event.preventDefault();
    if (stop) return stop.abort();
    const asked = new URLSearchParams();
    for (const [name, control] of Object.entries({ plugin, company, status, slow_ms: slow })) if (control.value.trim()) asked.set(name, control.value.trim());
    stop = new AbortController();
    button.textContent = "Stop";
    told.textContent = "Looking.";
    lines.hidden = false;
    try {
      const answer = await call(`/tap?${asked}`, { signal: stop.signal });
      if (answer.status === 404) throw new Error("There is no tap here: it was taken out of this program (--no-tap).");
      if (!answer.ok) throw new Error((await answer.json()).message);
      await events(answer.body, stop, (name, data) => {
        if (name === "dropped") told.textContent = `Some were left out, since there were too many to show: ${typeof data === "number" ? data : data.dropped}.`;
        else show(data);
      });
      told.textContent = "It has ended.";
    } catch (error) {
      told.textContent = error.name === "AbortError" ? "Stopped." : error.message;
    }
    stop = null;
    button.textContent = "Look";
  };
  return section("tap", "Tap", "finished requests as they end; never a token, body or query", h("div", { class: "sheet" },
    h("form", { onsubmit: look }, h("div", { class: "row" }, field("Plugin", plugin), field("Company", company), field("Status", status), field("Slower than, ms", slow), button)), told, lines));
}

// ---- the whole

const once = new Map();
const made = (name, make) => once.get(name) ?? once.set(name, make()).get(name);

function sections() {
  const alarmed = state.alarms.length + state.missing.length ? "bad" : "good";
  const trusted = worst([state.trust, state.trust.public, ...state.trust.hops, ...(state.trust.crls ?? [])].filter(Boolean).map((one) => LIFE[one.life][0]));
  const all = [["overview", "Now", null, overview], ["alarms", "Alarms", alarmed, alarms]];
  if (state.service === "gateway") {
    const { plugins: list, files: folder } = state.own;
    const faulty = folder.faults.length + folder.files.filter((one) => one.state !== "in_force").length;
    all.push(["plugins", "Plugins", worst(list.map((one) => STATE[one.state][0])), plugins], ["files", "Files", faulty ? "bad" : "good", files],
      ["trust", "Trust", trusted, trust], ["callers", "Callers", null, callers], ["answers", "Handshakes", null, answers], ["try", "Try", null, () => made("try", trial)]);
  } else if (state.own) {
    const { reachable } = state.own;
    all.push(["plugin", "Plugin", reachable === null ? null : reachable ? "good" : "bad", behind], ["trust", "Trust", trusted, trust], ["answers", "Refusals", null, answers]);
  } else {
    all.push(["trust", "Trust", trusted, trust], ["answers", "Refusals", null, answers]);
  }
  if (state.own) all.push(["tap", "Tap", null, () => made("tap", tap)]);
  return all;
}

function show() {
  if (!state) return;
  const all = sections();
  const content = byId("content");
  content.hidden = false;
  for (const [at, [id, , , make]] of all.entries()) {
    const old = content.children[at];
    if (old && once.has(id)) continue;
    const next = make();
    if (!old) content.append(next);
    else morph(old, next);
  }
  children(byId("sections"), all.map(([id, title, kind]) => h("li", { "data-key": id }, h("a", { href: `#${id}` }, kind && h("span", { class: `dot ${kind}` }), title))));
  const bad = state.alarms.length + state.missing.length;
  byId("title").textContent = `Gapura ${state.service}`;
  byId("identity").textContent = state.trust.id;
  document.title = `${bad ? `(${bad}) ` : ""}Gapura ${state.service}`;
  const ready = byId("ready");
  ready.className = `pill ${state.missing.length ? "bad" : bad ? "warn" : "good"}`;
  ready.textContent = state.missing.length ? "not ready" : bad ? "ready, with alarms" : "ready";
}

function live(text, bad) {
  const place = byId("live");
  if (place.textContent !== text) place.textContent = text;
  place.className = bad ? "bad" : "";
}

// ---- asking

const call = (path, facts = {}) => fetch(path, { cache: "no-store", ...facts, headers: { ...facts.headers, ...(token && { Authorization: `Bearer ${token}` }) } });
const pause = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

/** Reads events until they end; who says nothing for half a minute is gone. */
async function events(body, stop, take) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  let text = "";
  for (;;) {
    const gone = setTimeout(() => stop.abort(), 30_000);
    const { value, done } = await reader.read().finally(() => clearTimeout(gone));
    if (done) return;
    text += value;
    const parts = text.split("\n\n");
    text = parts.pop();
    for (const part of parts) {
      const lines = part.split("\n");
      const of = (name) => lines.filter((line) => line.startsWith(name)).map((line) => line.slice(name.length).trimStart()).join("\n");
      const data = of("data:");
      if (data) take(of("event:") || "message", JSON.parse(data));
    }
  }
}

function ask_token(wrong) {
  byId("token").hidden = false;
  byId("content").hidden = true;
  byId("token-wrong").textContent = wrong ? "That is not the token." : "";
  byId("ready").textContent = "token wanted";
  live("", false);
  byId("token-text").focus();
}

async function follow() {
  for (let wait = 500; ; wait = Math.min(wait * 2, 8000)) {
    const stop = new AbortController();
    try {
      const answer = await call("/events", { signal: stop.signal });
      if (answer.status === 401) return ask_token(token !== "");
      if (!answer.ok) throw new Error((await answer.json()).message);
      byId("token").hidden = true;
      await events(answer.body, stop, (name, data) => {
        wait = 500;
        if (name === "past") past = data;
        if (name === "state") {
          state = data;
          live(`live, ${new Date().toLocaleTimeString("en-GB")}`, false);
        }
        show();
      });
      live("the program has ended the connection; trying again", true);
    } catch (error) {
      live(error.name === "AbortError" || error instanceof TypeError ? "no connection; trying again" : error.message, true);
    }
    await pause(wait);
  }
}

byId("token-form").addEventListener("submit", (event) => {
  event.preventDefault();
  token = byId("token-text").value.trim();
  byId("token-text").value = "";
  follow();
});

// Which theme: as the system has it, unless somebody chooses.
const THEMES = ["auto", "light", "dark"];
const theme = byId("theme");
function wear(name) {
  document.documentElement.dataset.theme = name;
  theme.textContent = name;
  theme.setAttribute("aria-label", `Theme: ${name}; choose another`);
}
theme.addEventListener("click", () => wear(THEMES[(THEMES.indexOf(document.documentElement.dataset.theme) + 1) % THEMES.length]));
wear("auto");
follow();
