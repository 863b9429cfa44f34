// The atlas's page: a classic script beside the kit of all pages, so that it runs from file://. Data come as scripts that
// call the ATLAS_ functions. Names are hostile: text reaches the page as text nodes and attributes only.
(() => {
"use strict";

const loaded = { layers: new Map(), details: new Map(), photographs: null };
const views = new Map(); // layer -> how its grid is sorted, filtered and scrolled
let model = null, status = null;

window.ATLAS_MODEL = (found) => { const first = model === null; model = found; if (first) start(); };
window.ATLAS_LAYER = (i, columns) => loaded.layers.set(i, columns);
window.ATLAS_UNITS = (i, group, rows) => loaded.details.set(`${i}/${group}`, rows);
window.ATLAS_PHOTOGRAPHS = (names) => { loaded.photographs = names; };
window.ATLAS_STATUS = (found) => { status = found; };

// While the atlas is being made, what is read again gets another address each time, or a browser shows what it has.
let round = 0, looks = 0;
const fresh = (file) => (round ? `${file}?${round}` : file);

const scripts = new Map();
function script(src) {
  if (!scripts.has(src)) {
    scripts.set(src, new Promise((done, failed) => {
      const node = document.createElement("script");
      node.src = src === "d/status.js" ? `${src}?${looks}` : fresh(src);
      node.onload = done;
      node.onerror = () => { scripts.delete(src); failed(new Error(`${src} is missing; was the folder copied whole?`)); };
      document.head.append(node);
    }));
  }
  return scripts.get(src);
}
const layerFile = (i) => `L${pad(i, 4)}`;
async function columnsOf(i) {
  if (!loaded.layers.has(i)) await script(`d/${layerFile(i)}.js`);
  return loaded.layers.get(i);
}
async function detailsOf(i, unit) {
  const group = Math.floor(unit / model.group);
  if (!loaded.details.has(`${i}/${group}`)) await script(`d/${layerFile(i)}-${pad(group, 3)}.js`);
  return loaded.details.get(`${i}/${group}`)[unit % model.group];
}

const show = (...children) => byId("main").replaceChildren(...el("div", {}, children).childNodes);
const say = (text) => { byId("said").textContent = visible(text); };

const STATUS = { o: "ok", w: "weak", d: "dead", "-": "missing" };
const WORDS = { ok: "ok", weak: "weak", sofar: "weak so far", dead: "dead", missing: "not made" };
// A coarse picture that does not beat photographs says nothing of the unit: the fine one decides.
const statusOf = (columns, u) => (columns.status[u] === "w" && columns.coarse[u] === "c" ? "sofar" : STATUS[columns.status[u]]);
const settled = (counts) => ({ ...counts, weak: counts.weak - (counts.weak_coarse ?? 0), sofar: counts.weak_coarse ?? 0 });
const badge = (status) => el("span", { class: `badge ${status}` }, WORDS[status]);
const rowOf = (i) => model.layers.find((la) => la.i === i);
const labelled = (i, unit) => (i === model.model.logits && model.labels[unit] ? model.labels[unit] : "");
const unitName = (i, unit) => (labelled(i, unit) ? `${labelled(i, unit)} (${unit})` : `unit ${unit}`);
const link = (i, unit) => `#/${layerFile(i)}${unit === undefined ? "" : `/${unit}`}`;

// A unit's part of its layer's sheet, as the background of a square element of that side.
function sprite(node, i, unit, side) {
  const at = unit % model.group, la = rowOf(i), tile = la?.tile ?? side;
  node.classList.toggle("none", Math.floor(unit / model.group) >= (la?.sheets ?? Infinity)); // no unit of that sheet is made
  if (node.classList.contains("none")) { Object.assign(node.style, { backgroundImage: "", backgroundSize: "", backgroundPosition: "" }); return; }
  node.style.backgroundImage = `url("${fresh(`s/${layerFile(i)}-${pad(Math.floor(unit / model.group), 3)}.webp`)}")`;
  node.style.backgroundSize = `${model.across * side}px auto`;
  node.style.backgroundPosition = `${-(at % model.across) * side}px ${-Math.floor(at / model.across) * side}px`;
  node.classList.toggle("crisp", tile <= 64 && side > tile);
}
function bestSprite(row, column, columns, side) {
  const node = el("span", { class: "sprite", role: "img" });
  const edges = `repeating-linear-gradient(to right, transparent 0 ${side - 2}px, var(--card) ${side - 2}px ${side}px)`; // tells the pictures apart
  node.style.backgroundImage = `${columns > 1 ? `${edges}, ` : ""}url("${fresh(`s/best-${pad(Math.floor(row / model.bestRows), 3)}.webp`)}")`;
  node.style.backgroundSize = `${columns > 1 ? "auto, " : ""}${8 * side}px auto`;
  node.style.backgroundPosition = `${columns > 1 ? "0 0, " : ""}${-column * side}px ${-(row % model.bestRows) * side}px`;
  node.style.width = `${columns * side}px`;
  node.style.height = `${side}px`;
  return node;
}

// A kernel as a small picture: red excites, blue holds back, white is nothing.
function kernel(packed, [rows, columns], sum) {
  if (!packed) return null;
  const bytes = Uint8Array.from(atob(packed), (c) => c.charCodeAt(0));
  const canvas = el("canvas", { width: columns, height: rows, role: "img", "aria-label": `kernel of ${rows} by ${columns} weights, their sum ${number(sum)}` });
  const context = canvas.getContext("2d");
  const pixels = context.createImageData(columns, rows);
  bytes.forEach((byte, k) => {
    const v = ((byte + 128) % 256 - 128) / 127, fade = Math.round(255 * (1 - Math.abs(v)));
    pixels.data.set(v > 0 ? [255 - Math.round(40 * v), fade, fade, 255] : [fade, fade, 255 - Math.round(40 * -v), 255], 4 * k);
  });
  context.putImageData(pixels, 0, 0);
  return canvas;
}

// ---- The model --------------------------------------------------------------------------------------------------------

const pairs = (rows) => el("table", {}, el("tbody", {}, rows.filter(Boolean).map(([name, value]) =>
  el("tr", {}, el("th", { scope: "row" }, name), el("td", {}, value)))));
const read = () => (model.model.channels === 3 ? model.model.preprocessing.order : model.model.channels === 1 ? "gray" : counted(model.model.channels, "channel"));
const hasClasses = () => { const la = rowOf(model.model.logits); return la !== undefined && (model.labels.length > 0 || la.shape.length === 1); }; // not of a trunk or a detector
const isSignal = () => model.model.image_size[0] === 1; // drawn as stripes
// The command that refines coarse pictures: the atlas's own would stop at them again where it says --coarse.
const refining = () => (/ --coarse$/.test(model.made.command ?? "") ? "The same command without --coarse" : "The same command");
const FOUND = { // how the preprocessing is known
  embedded: "as the file says", companion: "as a file beside it says", family: "known of its family", preset: "as asked for", flag: "as asked for",
  type: "told by the type of its input", operators: "told by its first operators", weights: "told by its weights", assumed: "assumed",
};
function preprocessing() {
  const p = model.model.preprocessing, few = (values) => values.map((v) => Number(v.toPrecision(4))).join(", ");
  return `range ${p.low}..${p.high}` + (p.mean.some((m) => m) ? `, minus ${few(p.mean)}` : "") + (p.std.some((s) => s !== 1) ? `, divided by ${few(p.std)}` : "")
    + `, ${read()}, ${model.model.image_size.join(" x ")} ${p.resize} (${p.preset === "custom" ? "" : `preset ${p.preset}, `}${FOUND[p.found] ?? p.found})`;
}
function certificate() {
  const c = model.certificate;
  if (!c) return el("section", { class: "card" }, el("h2", {}, "Import not checked here"),
    el("p", {}, "Nobody compared the two executors for this atlas. ", el("code", {}, "convscope verify"), " does."));
  const small = (v) => (v === null || v === undefined ? "not at hand" : v === 0 ? "0" : Number(v).toExponential(1));
  return el("section", { class: "card" }, el("h2", {}, c.ok ? el("span", { class: "good" }, "Imported right") : el("span", { class: "bad" }, "The import differs")),
    pairs([
      ["tensors compared", `${number(c.tensors_compared)} of ${number(c.tensors_total)}, on ${c.images.join(", ")}`],
      ["worst tensor", [el("code", {}, c.worst.tensor), `: ${small(c.worst.rel)} relative (bound ${small(c.bounds.rel)})`]],
      ["gradient", c.gradient_rel === null ? "the logits do not depend on the picture" : `${small(c.gradient_rel)} against finite differences`],
      ["batch of 3 against 1", small(c.batch_rel)],
      ["against the source", c.source_rel === null ? "not at hand" : `${small(c.source_rel)} over ${counted(c.source_tensors, "tensor")}`],
    ]));
}
function photographsNote() {
  const p = model.photographs, failed = Object.entries(p.failed);
  const what = p.shipped ? `the ${p.count} photographs that ship with convscope, since none were given: "best" means little` : counted(p.count, "photograph");
  return [`Units were measured on ${what}.`, failed.length ? ` ${counted(failed.length, "picture")} could not be read, the first: ${failed[0][1]}.` : ""];
}
function unfinished() {
  const n = model.counts, notes = [];
  if (n.missing) notes.push(`${counted(n.missing, "unit")} of ${n.units.toLocaleString("en")} not made yet: the time given ran out, or the run was stopped. The same command goes on.`);
  if (n.coarse) notes.push(`${counted(n.coarse, "picture")} coarse: few steps at a small size.${n.weak_coarse ? ` ${number(n.weak_coarse)} of them are weak so far, which the fine ones may change.` : ""} ${refining()} refines them.`);
  if (isSignal()) notes.push("The model reads a signal: pictures show it as stripes, its values from left to right, dark for low ones. Photographs say little about it.");
  for (const f of model.failed.slice(0, 20)) notes.push(`${counted(f.units.length, "unit")} of ${f.layer} could not be made: ${f.reason}`);
  return notes.map((note) => el("p", { class: "note" }, note));
}
function showModel() {
  const m = model.model, n = settled(model.counts);
  const heads = [["#", "number"], ["layer"], ["clearest pictures"], ["made by, shape"], ["units", "number"], ["ok", "number"], ["weak", "number"], n.sofar ? ["weak so far", "number"] : null, ["dead", "number"],
    n.missing ? ["not made", "number"] : null, ["silent", "number"], ["always on", "number"], ["alike", "number"]].filter(Boolean);
  const layers = el("tbody", {}, model.layers.map((la) => {
    const strip = la.best.length ? bestSprite(la.row, 0, la.best.length, 32) : null;
    strip?.setAttribute("aria-label", `the ${la.best.length} clearest pictures: units ${la.best.join(", ")}`);
    const c = settled(la.counts);
    return el("tr", {}, el("td", { class: "number soft" }, la.i), el("th", { scope: "row" }, el("a", { href: link(la.i) }, la.name)), el("td", { class: "strip" }, strip), el("td", { class: "soft" }, `${la.op}, ${la.shape.join(" x ")}`),
      el("td", { class: "number" }, number(la.units)), el("td", { class: "number" }, number(c.ok)), el("td", { class: "number warn" }, c.weak || ""), n.sofar ? el("td", { class: "number soft" }, c.sofar || "") : null,
      el("td", { class: "number bad" }, c.dead || ""), n.missing ? el("td", { class: "number soft" }, c.missing || "") : null,
      el("td", { class: "number" }, la.silent || ""), el("td", { class: "number" }, la.always || ""), el("td", { class: "number" }, la.alike === null ? "–" : la.alike || ""));
  }));
  show(
    el("h1", {}, m.name),
    el("p", { class: "soft" }, `${counted(model.layers.length, "layer")}, ${counted(n.units, "unit")}: ${number(n.ok)} ok, ${number(n.weak)} weak, ${n.sofar ? `${number(n.sofar)} weak so far, ` : ""}${number(n.dead)} dead`,
      n.missing ? `, ${number(n.missing)} not made` : "", ". ", photographsNote()),
    unfinished(),
    el("div", { class: "cards" },
      el("section", { class: "card" }, el("h2", {}, "Model"), pairs([
        ["file", m.file ? el("code", {}, m.file) : "a live object"], ["format", `${m.format} by ${m.producer}, opset ${m.opset}`],
        ["sha256 of the file", el("code", {}, m.file_sha256)], ["sha256 of the graph", el("code", {}, m.sha256)],
        ["input", m.inputs.map(([name, shape, type]) => `${name} ${type} ${shape.map((s) => s ?? "N").join(" x ")}`).join("; ")],
        ["preprocessing", preprocessing()], m.preprocessing.found === "assumed" ? ["", el("span", { class: "warn" }, "assumed, not stated by the file: if it is wrong, so is every picture")] : null,
        ["size", `${number(m.parameters)} parameters, ${number(m.macs)} multiply-adds`],
        ...m.notes.map((note) => ["note", note])])),
      certificate(),
      el("section", { class: "card" }, el("h2", {}, "Pictures"), pairs([
        ["preset", model.made.preset], ["seed", model.made.seed], ["made on", `${model.made.device}, ${Object.entries(model.made.versions).map((v) => v.join(" ")).join(", ")}`],
        ["ok", "excites the unit at least as much as the best of sixteen crops of photographs does"], ["weak", "excites it less than that"], n.sofar ? ["weak so far", "a coarse picture excites it less; the fine one decides"] : null, ["dead", "nothing excites it or nothing changes it, photographs included"]]))),
    el("div", { class: "section" }, el("h2", { id: "graph-title" }, "Graph"), el("span", { class: "soft" }, "Drag to move it. Dashed boxes are folded blocks, a click opens them; boxes with a picture lead to their layer.")),
    drawing(),
    el("div", { class: "section" }, el("h2", {}, "Layers"), hasClasses() ? el("a", { href: "#/classes" }, "Classes") : null,
      el("span", { class: "soft" }, "silent: never above zero on any photograph; always on: above zero everywhere in each; alike: another unit's values over the photographs have a cosine of 0.99 or more", model.photographs.count < model.fewest ? `, told from ${model.fewest} photographs on.` : ".")),
    el("div", { class: "scroll" }, el("table", { class: "layers" }, el("thead", {}, el("tr", {}, heads.map(([head, kind]) => el("th", { scope: "col", class: kind }, head)))), layers)));
}

// ---- The drawn graph --------------------------------------------------------------------------------------------------

const open = new Set(); // blocks that are unfolded
const NODE = { width: 136, height: 46, across: 160, down: 58 };
function laidOut() {
  const g = model.graph, key = (i) => (i < 0 ? "image" : g.nodes[i][3] && !open.has(g.nodes[i][3]) ? `block ${g.nodes[i][3]}` : i);
  const boxes = new Map([["image", { key: "image", layers: [], rank: 0 }]]);
  g.nodes.forEach((_, i) => {
    const k = key(i);
    if (!boxes.has(k)) boxes.set(k, { key: k, block: g.nodes[i][3], layers: [], rank: 0, from: new Set() });
    boxes.get(k).layers.push(i);
  });
  const edges = new Map();
  for (const [a, b] of g.edges) {
    const from = key(a), to = key(b);
    if (from !== to) { edges.set(`${from} ${to}`, [from, to]); boxes.get(to).from.add(from); }
  }
  // Boxes come in order of execution, and what they read comes before: one pass gives the longest path to each.
  const columns = [];
  for (const box of boxes.values()) {
    for (const from of box.from ?? []) box.rank = Math.max(box.rank, boxes.get(from).rank + 1);
    (columns[box.rank] ??= []).push(box);
  }
  for (const column of columns.filter(Boolean)) { // in a column, near what they read
    const height = (b) => { const f = [...(b.from ?? [])].map((k) => boxes.get(k).y ?? 0); return f.length ? f.reduce((s, v) => s + v, 0) / f.length : 0; };
    const sorted = column.map((b) => [height(b), b]).sort((p, q) => p[0] - q[0]);
    sorted.forEach(([, b], k) => { b.x = b.rank * NODE.across; b.y = (k - (column.length - 1) / 2) * NODE.down; });
  }
  const top = Math.min(...[...boxes.values()].map((b) => b.y));
  for (const b of boxes.values()) b.y -= top;
  return { boxes, edges: [...edges.values()] };
}
function drawing() {
  const world = el("div", { class: "world" });
  const frame = el("div", { class: "drawing", tabindex: 0, role: "group", "aria-label": "the graph; arrow keys move it, plus and minus change its size" }, world);
  const find = el("input", { type: "search", size: 16, placeholder: "layer or operator", "aria-label": "find in the graph" });
  const view = { x: 20, y: 20, scale: 1 };
  const place = () => { world.style.transform = `translate(${view.x}px, ${view.y}px) scale(${view.scale})`; };
  const zoom = (factor, px = frame.clientWidth / 2, py = frame.clientHeight / 2) => {
    const scale = Math.min(Math.max(view.scale * factor, 0.15), 3), ratio = scale / view.scale;
    view.x = px - (px - view.x) * ratio; view.y = py - (py - view.y) * ratio; view.scale = scale;
    place();
  };
  const size = () => {
    const all = [...world.querySelectorAll(".node")];
    return [Math.max(...all.map((b) => parseFloat(b.style.left))) + NODE.width, Math.max(...all.map((b) => parseFloat(b.style.top))) + NODE.height];
  };
  const fit = (least = 0.15) => { // never so small at first that nothing can be read
    const [w, h] = size();
    view.scale = Math.min(Math.max(Math.min((frame.clientWidth - 40) / w, 380 / h), least), 1);
    frame.style.height = `${Math.min(Math.max(h * view.scale + 40, 110), 420)}px`;
    view.x = 20; view.y = Math.max((frame.clientHeight - h * view.scale) / 2, 20);
    place();
  };
  const toggle = (block) => { if (open.has(block)) open.delete(block); else open.add(block); draw(); };
  function box(b) {
    const g = model.graph, last = b.layers[b.layers.length - 1];
    const folded = typeof b.key === "string" && b.key !== "image";
    const inside = b.layers.map(rowOf).filter(Boolean), shown = inside[inside.length - 1];
    const face = shown?.best.length ? bestSprite(shown.row, 0, 1, 38) : null;
    face?.setAttribute("aria-label", `unit ${shown.best[0]}`);
    const name = b.key === "image" ? "picture" : folded ? b.block : g.nodes[last][0];
    const under = b.key === "image" ? model.model.image_size.join(" x ") : folded ? `${b.layers.length} layers` : `${g.nodes[last][1]} ${g.nodes[last][2].join("x")}`;
    const words = el("span", { class: "words" }, el("b", {}, name), el("span", {}, under));
    const node = folded ? el("button", { type: "button", class: "node", title: `${name}: ${counted(b.layers.length, "layer")}, click to unfold`, onclick: () => toggle(b.block) }, face, words)
      : shown ? el("a", { class: "node", href: link(shown.i), title: name }, face, words) : el("span", { class: "node", title: name }, words);
    node.style.left = `${b.x}px`; node.style.top = `${b.y}px`;
    b.node = node;
    return node;
  }
  function draw() {
    const { boxes, edges } = laidOut();
    const line = ([from, to]) => {
      const a = boxes.get(from), b = boxes.get(to), x1 = a.x + NODE.width, y1 = a.y + NODE.height / 2, x2 = b.x, y2 = b.y + NODE.height / 2;
      const skips = b.rank - a.rank > 1 && Math.abs(y1 - y2) < 2; // over other boxes of the row: bow below them
      const bend = skips ? NODE.down * Math.min(0.75 + 0.12 * (b.rank - a.rank), 2.2) : 0, reach = Math.min((x2 - x1) / 2, skips ? 90 : 300);
      return el("path", { d: `M${x1} ${y1} C${x1 + reach} ${y1 + bend} ${x2 - reach} ${y2 + bend} ${x2} ${y2}` });
    };
    world.replaceChildren(el("svg", { width: 1, height: 1, "aria-hidden": "true" }, edges.map(line)), ...[...boxes.values()].map(box));
    const unfolded = [...open].filter((name) => model.graph.nodes.some((n) => n[3] === name));
    folds.replaceChildren(...(unfolded.length ? [el("button", { type: "button", onclick: () => { open.clear(); draw(); fit(0.75); } }, "Fold all")] : []));
    return boxes;
  }
  function look() {
    const wanted = find.value.trim().toLowerCase(), g = model.graph;
    if (!wanted) { draw(); return; }
    const hits = g.nodes.map((n, i) => i).filter((i) => `${g.nodes[i][0]} ${g.nodes[i][1]}`.toLowerCase().includes(wanted));
    for (const i of hits.slice(0, 12)) if (g.nodes[i][3]) open.add(g.nodes[i][3]);
    const boxes = draw();
    hits.forEach((i) => boxes.get(i)?.node.classList.add("found"));
    const first = boxes.get(hits[0]);
    if (first) { view.x = frame.clientWidth / 2 - (first.x + NODE.width / 2) * view.scale; view.y = frame.clientHeight / 2 - (first.y + NODE.height / 2) * view.scale; place(); }
    say(`${counted(hits.length, "layer")} found`);
  }
  let held = null;
  frame.addEventListener("pointerdown", (event) => { if (event.button === 0) held = { x: event.clientX - view.x, y: event.clientY - view.y, moved: false }; });
  addEventListener("pointermove", (event) => {
    if (!held) return;
    const x = event.clientX - held.x, y = event.clientY - held.y;
    if (!held.moved && Math.hypot(x - view.x, y - view.y) < 4) return;
    held.moved = true; frame.classList.add("moving"); view.x = x; view.y = y; place();
  });
  addEventListener("pointerup", () => { frame.classList.remove("moving"); if (held) setTimeout(() => { held = null; }); });
  frame.addEventListener("click", (event) => { if (held?.moved) { event.preventDefault(); event.stopPropagation(); } }, true);
  frame.addEventListener("dragstart", (event) => event.preventDefault());
  frame.addEventListener("wheel", (event) => {
    if (!event.ctrlKey && !event.metaKey) { if (event.shiftKey || Math.abs(event.deltaX) > Math.abs(event.deltaY)) { view.x -= event.deltaX || event.deltaY; place(); event.preventDefault(); } return; }
    const at = frame.getBoundingClientRect();
    zoom(Math.exp(-event.deltaY / 400), event.clientX - at.left, event.clientY - at.top);
    event.preventDefault();
  }, { passive: false });
  frame.addEventListener("keydown", (event) => {
    const by = { ArrowLeft: [60, 0], ArrowRight: [-60, 0], ArrowUp: [0, 60], ArrowDown: [0, -60] }[event.key];
    if (by && event.target === frame) { view.x += by[0]; view.y += by[1]; place(); event.preventDefault(); event.stopPropagation(); }
    if (event.key === "+" || event.key === "-") { zoom(event.key === "+" ? 1.25 : 0.8); event.preventDefault(); }
  });
  frame.addEventListener("focusin", (event) => { // a box that the keyboard reaches comes into sight
    if (!event.target.classList.contains("node")) return;
    frame.scrollLeft = 0; frame.scrollTop = 0;
    const left = parseFloat(event.target.style.left) * view.scale + view.x;
    if (left < 0 || left + NODE.width * view.scale > frame.clientWidth) { view.x -= left - frame.clientWidth / 3; place(); }
  });
  find.addEventListener("input", look);
  const folds = el("span");
  const tools = el("div", { class: "toolbar" }, el("label", {}, "Find ", find),
    el("button", { type: "button", "aria-label": "larger", onclick: () => zoom(1.25) }, "+"), el("button", { type: "button", "aria-label": "smaller", onclick: () => zoom(0.8) }, "−"),
    el("button", { type: "button", onclick: () => fit() }, "Whole"), folds);
  draw();
  requestAnimationFrame(() => fit(0.75));
  return el("div", {}, tools, frame);
}

// ---- A layer's units ----------------------------------------------------------------------------------------------------

const SORTS = {
  unit: ["number", (c) => null], act: ["activation of the picture", (c) => c.act], photo: ["highest on a photograph", (c) => c.photo],
  mean: ["mean on photographs", (c) => c.mean], sparsity: ["share of zeros", (c) => c.sparsity], special: ["class specificity", (c) => c.special], status: ["status", (c) => c.status],
};
const RANK = { ok: 0, weak: 1, sofar: 2, dead: 3, missing: 4 };
function viewOf(i) {
  if (!views.has(i)) views.set(i, { sort: "unit", up: true, status: "all", find: "", scroll: 0, table: false, focus: null });
  return views.get(i);
}
const FRESH = { sort: "unit", up: true, status: "all", find: "", table: false };
function readView(i) { // what the address asks for, where it asks
  const asked = new URLSearchParams(location.hash.split("?")[1] ?? "");
  if (![...asked].length) return;
  const by = asked.get("sort") ?? "unit", key = by.replace(/^-/, "");
  Object.assign(viewOf(i), { find: asked.get("find") ?? "", sort: key in SORTS ? key : "unit", up: !by.startsWith("-"), status: ["ok", "weak", "sofar", "dead", "missing", "coarse"].includes(asked.get("show")) ? asked.get("show") : "all", table: asked.get("as") === "table" });
}
function viewAddress(i) {
  const view = viewOf(i), said = new URLSearchParams();
  if (view.find) said.set("find", view.find);
  if (view.sort !== FRESH.sort || !view.up) said.set("sort", (view.up ? "" : "-") + view.sort);
  if (view.status !== FRESH.status) said.set("show", view.status);
  if (view.table) said.set("as", "table");
  const query = said.toString();
  return link(i) + (query ? `?${query}` : "");
}
function ordered(i, columns) {
  const view = viewOf(i), fits = matcher(view.find), count = columns.status.length;
  const found = view.status === "all" && !view.find.trim() ? Array.from({ length: count }, (_, u) => u) : [];
  if (!found.length) for (let u = 0; u < count; u++) if ((view.status === "all" || statusOf(columns, u) === view.status || (view.status === "coarse" && columns.coarse[u] === "c")) && fits(u, [labelled(i, u)])) found.push(u);
  const values = SORTS[view.sort][1](columns);
  if (view.sort === "status") found.sort((a, b) => RANK[statusOf(columns, a)] - RANK[statusOf(columns, b)] || a - b);
  else if (values) found.sort((a, b) => (values[b] ?? -Infinity) - (values[a] ?? -Infinity) || a - b);
  if (!view.up) found.reverse();
  return found;
}
let grid = null; // the grid on the page: { layout, focusOn }
async function showLayer(i) {
  const la = rowOf(i), columns = await columnsOf(i), view = viewOf(i);
  if (!isHere(i)) return;
  readView(i);
  let order = ordered(i, columns);
  const holder = el("div", { class: "grid", role: "list" });
  const count = el("span", { class: "soft", role: "status" });
  const find = el("input", { type: "search", size: 14, value: view.find, placeholder: `${i === model.model.logits && model.labels.length ? "class" : "unit"}, ${la.units > 1 ? `0-${Math.min(la.units - 1, 63)}` : "0"}`, id: "find", "aria-keyshortcuts": "/" });
  const sort = el("select", {}, Object.entries(SORTS).map(([key, [name]]) => el("option", { value: key, selected: key === view.sort ? "" : null }, name)));
  const counts = settled(la.counts), found = ["ok", "weak", "sofar", "dead", "missing"].filter((s) => counts[s]);
  const states = ["all", ...(found.length > 1 ? found : []), ...(la.counts.coarse && la.counts.coarse < la.units ? ["coarse"] : [])];
  const chips = el("span", { class: "chips", role: "group", "aria-label": "status" }, states.length < 2 ? [] : states.map((s) =>
    el("button", { type: "button", "data-status": s, onclick: () => { view.status = s; again(); } }, `${WORDS[s] ?? s} ${number(s === "all" ? la.units : counts[s])}`)));
  const turn = el("button", { type: "button", "aria-label": "turn the order around", onclick: () => { view.up = !view.up; again(); } }, "⇅");
  const table = el("button", { type: "button", onclick: () => { view.table = !view.table; again(); } }, "Table");
  const heads = el("div", { class: "columns", hidden: "" });
  const facts = [`${la.op}, ${la.shape.join(" x ")}`, !la.sees ? "sees the whole picture" : `sees ${isSignal() ? `${number(la.sees[1])} values` : `${la.sees.join(" x ")} pixels`}${la.volume ? " of the slices, one below the other" : ""}${la.sees.every((side, axis) => side >= model.model.image_size[axis]) ? ", the whole picture" : ""}`,
    la.silent ? `${counted(la.silent, "unit")} silent on every photograph` : "", la.always ? `${la.always} always on` : "", la.alike ? `${la.alike} with one that is alike` : ""];
  const notes = [la.counts.missing ? `${counted(la.counts.missing, "unit")} not made yet: the time given ran out, or the run was stopped.` : "",
    la.counts.coarse ? `${counted(la.counts.coarse, "picture")} coarse: ${la.recipes.coarse.steps} steps at ${la.recipes.coarse.size.join(" x ")} pixels.` : ""].filter(Boolean);

  const PAD = 8;
  const layout = { columns: 1, width: 0, cell: 0, height: 0, side: 0 };
  const pool = new Map(); // place in the order -> element
  const free = [];
  const value = (u) => { if (columns.status[u] === "-") return "–"; const v = (SORTS[view.sort][1](columns) ?? columns.act)[u]; const s = statusOf(columns, u); return view.sort === "status" || s !== "ok" ? (s === "sofar" ? "weak?" : WORDS[s]) : number(v); };
  const WIDTHS = [["unit", 8], ["status", 13], ["act", 13], ["photo", 13], ["mean", 11], ["sparsity", 9], ["special", 12]];
  const HEADS = { unit: "unit", status: "status", act: "activation", photo: "photographs", mean: "mean", sparsity: "zeros", special: "specificity" };
  const line = (u) => WIDTHS.map(([key, wide]) => (key === "unit" ? String(u) : key === "status" ? WORDS[statusOf(columns, u)] : key === "sparsity" ? percent(columns.sparsity[u]) : number(columns[key][u])).padStart(wide)).join("")
    + (labelled(i, u) ? `   ${labelled(i, u)}` : "");

  function measure() {
    const table = view.table;
    holder.style.minWidth = heads.style.minWidth = table ? "46rem" : ""; // all columns, to be scrolled to in a narrow window
    layout.width = holder.clientWidth;
    layout.side = table ? 30 : Math.min(Math.max(la.tile, 84), 112);
    layout.columns = table ? 1 : Math.max(1, Math.floor((layout.width + PAD) / (layout.side + 2 + PAD)));
    layout.cell = table ? layout.width : layout.side + 2;
    layout.height = table ? 36 : layout.side + 2 + 22;
    layout.down = layout.height + (table ? 0 : PAD);
    holder.style.height = `${Math.ceil(order.length / layout.columns) * layout.down}px`;
  }
  function fill(node, at) {
    const u = order[at], status = statusOf(columns, u), name = labelled(i, u), coarse = columns.coarse[u] === "c";
    node.className = `tile ${status}${coarse ? " coarse" : ""}${view.table ? " row" : ""}`;
    node.href = link(i, u);
    node.setAttribute("aria-label", visible(`${unitName(i, u)}: ${WORDS[status]}${coarse ? ", coarse" : ""}, activation ${number(columns.act[u])}`));
    node.title = visible(name || `unit ${u}`);
    node.dataset.at = at;
    const [face, under] = node.children;
    face.style.width = face.style.height = `${layout.side}px`;
    if (status === "missing") Object.assign(face.style, { backgroundImage: "", backgroundSize: "", backgroundPosition: "" }); else sprite(face, i, u, layout.side);
    under.textContent = visible(view.table ? line(u) : name || String(u));
    under.dataset.value = name && status === "ok" && view.sort === "unit" ? "" : visible(value(u)); // a class's name needs the room
    node.style.width = `${layout.cell}px`; node.style.height = `${layout.height}px`;
    node.style.transform = `translate(${(at % layout.columns) * (layout.cell + PAD)}px, ${Math.floor(at / layout.columns) * layout.down}px)`;
  }
  function paint() {
    if (!holder.isConnected) return;
    const top = -holder.getBoundingClientRect().top, first = Math.max(0, Math.floor((top - 160) / layout.down)) * layout.columns;
    const last = Math.min(order.length, Math.ceil((top + innerHeight + 160) / layout.down) * layout.columns);
    for (const [at, node] of pool) if (at < first || at >= last) { if (document.activeElement === node) continue; pool.delete(at); free.push(node); }
    for (let at = first; at < last; at++) {
      if (pool.has(at)) continue;
      let node = free.pop();
      if (!node) { node = el("a", {}, el("i", { class: "sprite" }), el("b")); node.setAttribute("role", "listitem"); holder.append(node); }
      pool.set(at, node);
      fill(node, at);
    }
    for (const node of free.splice(0)) node.remove();
    view.scroll = scrollY;
  }
  function again() {
    order = ordered(i, columns);
    for (const node of pool.values()) node.remove();
    pool.clear(); free.length = 0;
    for (const chip of chips.children) chip.setAttribute("aria-pressed", String(chip.dataset.status === view.status));
    table.setAttribute("aria-pressed", String(view.table));
    sort.value = view.sort;
    heads.hidden = !view.table;
    heads.replaceChildren(...WIDTHS.map(([key, wide]) => el("button", { type: "button", "aria-pressed": String(view.sort === key), onclick: () => { view.up = view.sort === key ? !view.up : true; view.sort = key; again(); } }, HEADS[key].padStart(wide))));
    count.textContent = order.length === la.units ? counted(la.units, "unit") : `${number(order.length)} of ${counted(la.units, "unit")}`;
    none.hidden = order.length > 0;
    if (isHere(i) && location.hash !== viewAddress(i) && parsed(location.hash).layer === i) history.replaceState(null, "", viewAddress(i));
    measure(); paint();
  }
  const none = el("p", { class: "nothing", hidden: "" }, "No unit fits; change the search or the status.");
  find.addEventListener("input", () => { view.find = find.value; again(); });
  sort.addEventListener("change", () => { view.sort = sort.value; view.up = true; again(); });
  grid = {
    layer: i, paint, measure: () => { for (const [at, node] of pool) { pool.delete(at); free.push(node); } measure(); paint(); }, find,
    focusOn(at) {
      if (at < 0 || at >= order.length) return;
      const y = holder.getBoundingClientRect().top + scrollY + Math.floor(at / layout.columns) * layout.down;
      if (y < scrollY + 8) scrollTo(0, y - 8);
      else if (y + layout.height > scrollY + innerHeight - 8) scrollTo(0, y + layout.height - innerHeight + 8);
      paint();
      pool.get(at)?.focus({ preventScroll: true });
    },
    move(key) {
      const at = Number(document.activeElement?.dataset?.at ?? NaN);
      if (Number.isNaN(at)) return this.focusOn(Math.max(0, Math.floor(-holder.getBoundingClientRect().top / layout.down)) * layout.columns);
      this.focusOn(at + { ArrowLeft: -1, ArrowRight: 1, ArrowUp: -layout.columns, ArrowDown: layout.columns }[key]);
    },
    at: (u) => order.indexOf(u),
  };
  show(
    el("h1", {}, i === model.model.logits && model.labels.length ? `${la.name}: classes` : la.name),
    el("p", { class: "soft" }, facts.filter(Boolean).join("; "), ". ", photographsNote()), notes.map((n) => el("p", { class: "note" }, n)),
    el("div", { class: "toolbar", role: "search" }, el("label", {}, "Find ", find), el("label", {}, "Sort ", sort), turn, chips, table, count),
    none, el("div", { class: "scroll" }, heads, holder));
  again();
  scrollTo(0, view.scroll);
  paint();
  if (view.focus !== null) { grid.focusOn(grid.at(view.focus)); view.focus = null; }
}

// ---- One unit -----------------------------------------------------------------------------------------------------------

let wholeField = false; // crops show all that the unit sees, not only where it is excited
function crop([photo, value, near, far], rank) {
  const [height, width] = model.model.image_size;
  const box = wholeField ? far : near, SIDE = 124;
  let side = Math.max((wholeField ? 1 : 1.6) * Math.max(box[2] - box[0], box[3] - box[1]), 0.25 * Math.min(height, width));
  side = Math.min(side, Math.max(height, width));
  const start = (low, high, size) => (side >= size ? (size - side) / 2 : Math.min(Math.max((low + high - side) / 2, 0), size - side));
  const top = start(box[0], box[2], height), left = start(box[1], box[3], width), scale = SIDE / side;
  const name = loaded.photographs[photo] ?? "photograph";
  const seen = wholeField ? "all that the unit sees" : "where the unit is excited";
  const frame = el("div", { class: "crop", role: "img", "aria-label": `number ${rank + 1}: ${name}, ${seen}, value ${number(value)}`, title: name });
  frame.style.backgroundImage = `url("p/${pad(photo, 5)}.webp")`;
  frame.style.backgroundSize = `${width * scale}px ${height * scale}px`;
  frame.style.backgroundPosition = `${-left * scale}px ${-top * scale}px`;
  const mark = el("i");
  Object.assign(mark.style, { left: `${(box[1] - left) * scale}px`, top: `${(box[0] - top) * scale}px`, width: `${(box[3] - box[1]) * scale}px`, height: `${(box[2] - box[0]) * scale}px` });
  if (!wholeField || box[2] - box[0] < height || box[3] - box[1] < width) frame.append(mark);
  return el("li", {}, el("figure", {}, frame, el("figcaption", {}, number(value), el("span", { class: "soft" }, ` ${name}`))));
}
function kin(i, unit, words, weights = null) {
  const COLOURS = model.model.channels === 3 ? ["red", "green", "blue"] : [];
  if (i < 0) return el("li", {}, el("span", { class: "one" }, el("span", { class: "words" }, el("b", {}, COLOURS[unit] ?? `channel ${unit}`), el("span", {}, "of the picture"), el("span", { class: "soft" }, words)), weights));
  const la = rowOf(i), face = el("span", { class: "sprite", role: "img", "aria-label": `picture of ${unitName(i, unit)} of ${la?.name ?? ""}` });
  if (la) sprite(face, i, unit, 48);
  const body = [la ? face : null, el("span", { class: "words" }, el("b", {}, labelled(i, unit) || `unit ${unit}`), el("span", {}, la?.name ?? model.graph.nodes[i]?.[0] ?? ""), el("span", { class: "soft" }, words)), weights];
  return el("li", {}, la ? el("a", { href: link(i, unit) }, body) : el("span", { class: "one", title: "not in this atlas" }, body));
}
const part = (share) => (share < 1e-4 ? "under 0.01 %" : percent(share));
const family = (title, note, rows, otherwise) => el("section", { class: "wide" }, el("div", { class: "section" }, el("h2", {}, title), el("span", { class: "soft" }, note)),
  rows.length ? el("ul", { class: "kin" }, rows) : el("p", { class: "soft" }, otherwise));
function commandOf(i, unit) {
  const quote = (word) => (/^[\w@%+=:,./-]+$/.test(word) ? word : `'${word.replaceAll("'", "'\"'\"'")}'`);
  const la = rowOf(i);
  const words = ["--layer", la.name, "--units", String(unit), "--preset", model.made.preset];
  for (const flag of ["size", "steps"]) if (model.made[flag] !== null) words.push(`--${flag}`, String(model.made[flag]));
  const opening = model.made.opening ? visible(model.made.opening) : quote(visible(model.model.file ?? model.model.name)); // with the flags that say how it is read
  return `convscope filters ${opening} ${[...words, "--seed", String(model.made.seed)].map((w) => quote(visible(w))).join(" ")}`;
}
// The unit's further pictures side by side: by other presets, and of what inhibits it.
function variants(i, unit, one) {
  const made = one.variants ?? [], negative = (row) => model.variants?.find((v) => v.stage === row.stage)?.negative;
  if (!made.length) return null;
  const words = (row) => (negative(row) ? `What inhibits it, by ${row.preset}` : `By ${row.preset}`);
  return el("section", { class: "wide" }, el("div", { class: "section" }, el("h2", {}, "Other pictures of it"), el("span", { class: "soft" }, "Of a negative one the number says how much the unit was held back.")),
    el("ul", { class: "others" }, made.map((row) => el("li", {}, el("figure", {}, crisp(el("img", { src: fresh(row.file), loading: "lazy", alt: `${words(row).toLowerCase()}: ${unitName(i, unit)} of ${rowOf(i).name}` })),
      el("figcaption", {}, el("b", {}, words(row)), el("span", {}, badge(row.status), ` ${number(row.start)} → ${number(row.act)}`), el("span", {}, `${counted(row.steps, "step")} at ${row.size.join(" x ")} pixels`), row.reason ? el("span", {}, row.reason) : null))))));
}
const crisp = (image) => { image.addEventListener("load", () => image.classList.toggle("crisp", image.naturalWidth <= 64)); return image; };
async function showUnit(i, unit) {
  const la = rowOf(i), columns = await columnsOf(i);
  const [one] = await Promise.all([detailsOf(i, unit), loaded.photographs ? null : script("d/photographs.js")]);
  if (!isHere(i, unit)) return;
  const status = statusOf(columns, unit), coarse = columns.coarse[unit] === "c", order = ordered(i, columns), at = order.indexOf(unit);
  viewOf(i).focus = unit;
  const step = (by, label, sign) => { const to = at < 0 ? unit + by : order[at + by];
    return to === undefined || to < 0 || to >= la.units ? el("button", { type: "button", disabled: "", "aria-label": label }, sign) : el("a", { href: link(i, to), "aria-label": label, class: "step" }, sign); };
  const picture = status === "missing" ? el("p", { class: "nothing picture" }, "not made yet") : el("img", { class: "picture", src: fresh(`u/${layerFile(i)}/${pad(unit, 5)}.webp`), alt: `what excites ${unitName(i, unit)} of ${la.name}: ${WORDS[status]}` });
  if (status !== "missing") crisp(picture);
  const crops = el("ul", { class: "crops" });
  const field = el("button", { type: "button", "aria-keyshortcuts": "t", onclick: () => { wholeField = !wholeField; recrop(); } }, "All it sees");
  const named = ([photo, value]) => el("li", {}, `${number(value)} ${loaded.photographs[photo] ?? "photograph"}`); // as one line of pixels nobody sees it
  const recrop = () => { crops.replaceChildren(...one.top.map(isSignal() ? named : crop)); field.setAttribute("aria-pressed", String(wholeField)); };
  const still = one.std === 0; // on the photographs
  const untold = la.told === false ? "Not found yet: the command that made the atlas goes on." : null;
  const whole = untold !== null || one.top.every(([, , near, far]) => String(near) === String(far)); // it has no map, and no gradient was asked for
  const spot = la.sees && la.sees.some((side, axis) => side < model.model.image_size[axis]); // a few pixels hold both boxes alike
  unitView = { recrop, previous: at > 0 ? order[at - 1] : undefined, next: order[at + 1] };
  const several = model.photographs.count, isClass = labelled(i, unit) !== "";
  const readers = one.readers.map(([l, u, share, sign]) => kin(l, u, `${part(share)} of what it reads, ${sign > 0 ? "excited" : "held back"}`));
  const how = (sum, [rows]) => (rows ? (sum > 0 ? "excites" : "holds back") : sum > 0 ? "added as it is" : "subtracted"); // a residual sum's way past its branch has no kernel
  const inputs = one.inputs.map(([l, u, share, sum, packed, shape]) => kin(l, u, `${part(share)}, ${how(sum, shape)}`, kernel(packed, shape, sum)));
  show(
    el("div", { class: "title" }, el("h1", {}, isClass ? unitName(i, unit) : `${la.name}, unit ${unit}`), badge(status), coarse ? el("span", { class: "warn" }, "coarse picture") : null, el("span", { class: "spacer" }),
      la.units > 1 ? [step(-1, "previous unit", "← previous"), step(1, "next unit", "next →")] : null),
    el("div", { class: "unit" },
      el("figure", {}, picture, el("figcaption", {}, status === "missing" ? "The time given ran out, or the run was stopped; the same command goes on."
        : `${status === "dead" ? "Nothing was found that excites it" : "What excites it"}, by ${la.recipes.fine.name}: ${counted(one.steps, "step")} at ${one.size.join(" x ")} pixels${coarse ? ", a coarse picture" : ""}${isSignal() ? "; a signal, as stripes" : ""}.`)),
      el("div", {}, el("h2", {}, "Numbers"), pairs([
        one.reason ? ["verdict, beside sixteen crops of photographs", one.reason] : null, one.rescue ? ["helped by", one.rescue] : null,
        status === "missing" ? null : [`activation of the picture${la.shape.length < 2 ? "" : la.recipes.fine.middle ? ", in the middle of its map" : ", the mean over its map"}`, number(columns.act[unit])],
        ["largest value at any place of a whole photograph", `${number(columns.photo[unit])} (of ${number(several)})`], ["mean, deviation", `${number(columns.mean[unit])}, ${number(one.std)}`],
        ["places that are zero", percent(columns.sparsity[unit])], ["photographs that excite it", percent(one.active)],
        ["class specificity", several < model.fewest ? `told from ${model.fewest} photographs on` : columns.special[unit] === null ? "unknown" : `${number(columns.special[unit])} (0 alike, 1 one predicted class only)`],
        one.nan ? ["photographs with NaN", number(one.nan)] : null, one.id ? ["id", el("code", {}, one.id.slice(0, 16))] : null])),
      variants(i, unit, one),
      el("section", { class: "wide" }, el("div", { class: "section" }, el("h2", {}, "Best photographs"), el("span", { class: "soft" }, `Of ${counted(several, "photograph")}${model.photographs.shipped ? ", the shipped ones" : ""}. ${still ? "" : isSignal() ? "Each with the unit's largest value in it." : untold ? "Where in them it is excited is not found yet." : whole ? (spot ? `Bright: all that it sees there, ${la.sees.join(" x ")} pixels.` : "It has no map: it sees the whole of each.") : `Bright: ${model.made.field === "gradient" ? "where the gradient of its value is" : "where its map is above half of its maximum"}.`} `), whole || still || isSignal() ? null : field),
        !one.top.length ? el("p", { class: "soft" }, "None.") : still ? el("p", { class: "soft" }, `None stands out: it is ${number(columns.photo[unit])} everywhere in each of them.`) : crops),
      family(isClass ? "Units that speak for and against it" : "Reads from", `The length of the kernel times the mean activation, as a share of all that it reads${la.sources && inputs.length ? `; ${la.sources}` : ""}; red weights excite, blue ones hold back.`, inputs, untold ?? (la.sources ? `${la.sources[0].toUpperCase()}${la.sources.slice(1)}.` : "Nothing in this atlas, or through weights of zero alone.")),
      family("Read by", "", readers, untold ?? (columns.mean[unit] === 0 ? "Nobody to speak of: it is silent on the photographs." : "No layer of this atlas reads it through weights.")),
      family("Most alike", `In this layer, by cosine over ${counted(several, "photograph")}.`, several < model.fewest ? [] : one.near.map(([u, cosine]) => kin(i, u, `cosine ${number(cosine)}`)),
        untold ?? (several < model.fewest ? `Told from ${model.fewest} photographs on: over so few, most units of a layer are alike.` : la.units === 1 ? "It is alone in its layer." : "No other unit is excited by the same photographs.")),
      el("section", { class: "wide charts" }, el("figure", {}, histogram(one.hist[1], model.edges.slice(one.hist[0], one.hist[0] + one.hist[1].length + 1)), el("figcaption", {}, "How many photographs reach what value.")),
        one.curve && one.curve.length > 1 ? el("figure", {}, curve(one.curve, { last: one.steps, first: 1 }), el("figcaption", {}, "What ascent maximized, on its random views.")) : null),
      el("section", { class: "wide" }, el("h2", {}, coarse || status === "missing" ? "Make its fine picture" : "Make it again"), copying(commandOf(i, unit)))));
  recrop();
}

// ---- Where we are -------------------------------------------------------------------------------------------------------

let place = {}, unitView = null;
const isHere = (i, unit) => place.layer === i && place.unit === unit;
const decoded = (part) => { try { return decodeURIComponent(part); } catch { return part; } };
// #/ is the model, #/L0007 or #/name a layer, #/L0007/12 a unit, #/classes the layer of classes.
function parsed(hash) {
  const parts = hash.replace(/^#\/?/, "").split("?")[0].split("/").map(decoded);
  while (parts.length && parts[parts.length - 1] === "") parts.pop();
  if (!parts.length) return {};
  if (parts[0] === "classes" && rowOf(model.model.logits)) parts[0] = layerFile(model.model.logits);
  const named = (words) => { // names may hold slashes, and begin with one
    const number = /^L(\d{4,})$/.exec(words[0]), text = words.join("/");
    return (number && words.length === 1 && rowOf(Number(number[1]))) || model.layers.find((l) => [l.name, l.tensor].some((n) => n === text || n === `/${text}`));
  };
  const whole = named(parts), last = parts[parts.length - 1], la = whole ?? named(parts.slice(0, -1));
  if (whole) return { layer: whole.i };
  if (!la) return { miss: parts.join("/") };
  return /^\d+$/.test(last) && Number(last) < la.units ? { layer: la.i, unit: Number(last) } : { layer: la.i, miss: last };
}
async function route() {
  place = parsed(location.hash);
  grid = null; unitView = null;
  const la = place.layer === undefined ? null : rowOf(place.layer);
  const sign = () => el("span", { class: "sign", "aria-hidden": "true" }, "›");
  const unit = place.unit === undefined ? [] : [sign(), el("span", { "aria-current": "page" }, unitName(la.i, place.unit))];
  byId("path").replaceChildren(el("a", { class: "brand", href: "#/" }, model.model.name), ...(la ? [sign(), place.unit === undefined ? el("span", { "aria-current": "page" }, la.name) : el("a", { href: link(la.i) }, la.name)] : []), ...unit);
  document.title = visible([place.unit === undefined ? "" : unitName(la.i, place.unit), la?.name ?? "", model.model.name].filter(Boolean).join(" · ")) + " · convscope";
  try {
    if (place.miss !== undefined) show(el("p", { class: "nothing" }, `There is no '${place.miss}' in this atlas. `, el("a", { href: la ? link(la.i) : "#/" }, la ? "The layer" : "The model")));
    else if (place.unit !== undefined) { await showUnit(place.layer, place.unit); scrollTo(0, 0); }
    else if (la) await showLayer(place.layer);
    else { showModel(); scrollTo(0, 0); }
  } catch (error) {
    show(el("p", { class: "nothing bad" }, error.message));
  }
  document.documentElement.dataset.shown = location.hash.split("?")[0] || "#/";
}
// ---- An atlas that is still being made ------------------------------------------------------------------------------------

const EVERY = 3000, OLD = 60; // milliseconds between looks; seconds after which a last word means nothing
async function look() {
  let was = status;
  looks += 1;
  scripts.delete("d/status.js");
  try { await script("d/status.js"); } catch { return; } // an atlas without one
  const running = status?.running && Date.now() / 1000 - status.at < OLD;
  const left = running && status.seconds_left !== null && status.seconds_left !== undefined ? `, about ${status.seconds_left < 90 ? `${Math.round(status.seconds_left)} s` : `${Math.round(status.seconds_left / 60)} min`} left` : "";
  byId("status").hidden = !running;
  if (running) byId("status").replaceChildren(`This atlas is being made: ${visible(status.stage)}${status.total ? `, ${number(status.done)} of ${number(status.total)} ${visible(status.unit ?? "")}` : ""}${left}. The page looks again by itself.`);
  if (running || was?.running) { round += 1; await again(); }
  if (running) setTimeout(look, EVERY);
}
async function again() { // the model's facts; and where they have changed, all that is on the page
  const before = JSON.stringify([model.counts, model.variants]);
  scripts.delete("d/manifest.js");
  await script("d/manifest.js").catch(() => null);
  if (JSON.stringify([model.counts, model.variants]) === before || document.querySelector("dialog[open]") || ["INPUT", "SELECT"].includes(document.activeElement?.tagName)) return;
  loaded.layers.clear(); loaded.details.clear(); scripts.clear(); loaded.photographs = null;
  const y = scrollY, focus = document.activeElement?.hash;
  await route();
  scrollTo(0, y);
  if (focus) document.querySelector(`main a[href="${CSS.escape(focus)}"]`)?.focus({ preventScroll: true });
}
function goTo(said) {
  const words = said.trim(), low = words.toLowerCase();
  if (!words) return false;
  if (/^\d+$/.test(words) && place.layer !== undefined && Number(words) < rowOf(place.layer).units) { location.hash = link(place.layer, Number(words)); return true; }
  const cut = words.lastIndexOf("/"), head = words.slice(0, cut), tail = words.slice(cut + 1);
  const layer = (name) => model.layers.find((l) => l.name === name) ?? model.layers.find((l) => l.name.toLowerCase() === name.toLowerCase());
  const whole = layer(words), part = cut > 0 && /^\d+$/.test(tail) ? layer(head) : null;
  const named = model.labels.findIndex((l) => l.toLowerCase() === low), begun = named >= 0 ? named : model.labels.findIndex((l) => l.toLowerCase().includes(low));
  const near = model.layers.find((l) => l.name.toLowerCase().includes(low));
  if (whole) location.hash = link(whole.i);
  else if (part && Number(tail) < part.units) location.hash = link(part.i, Number(tail));
  else if (begun >= 0 && rowOf(model.model.logits)) location.hash = link(model.model.logits, begun);
  else if (near) location.hash = link(near.i);
  else return false;
  return true;
}
function openGoto() {
  byId("goto-text").value = ""; byId("goto-miss").hidden = true;
  byId("goto").showModal();
}
function start() {
  byId("goto-list").replaceChildren(...model.layers.slice(0, 60).map((l) => el("option", { value: l.name })));
  byId("foot").replaceChildren(...(model.made.command ? [el("span", {}, "Made by"), copying(model.made.command)] : []));
  addEventListener("hashchange", route);
  route();
  look();
}
let pending = false;
addEventListener("scroll", () => { if (!pending && grid) { pending = true; requestAnimationFrame(() => { pending = false; grid?.paint(); }); } }, { passive: true });
addEventListener("resize", () => grid?.measure());
history.scrollRestoration = "manual";
byId("skip").addEventListener("click", (event) => { event.preventDefault(); byId("main").focus(); }); // the address is the state
byId("open-goto").addEventListener("click", openGoto);
byId("open-keys").addEventListener("click", () => byId("keys").showModal());
for (const button of document.querySelectorAll("[data-close]")) button.addEventListener("click", () => button.closest("dialog").close());
for (const dialog of document.querySelectorAll("dialog")) dialog.addEventListener("click", (event) => { if (event.target === dialog) dialog.close(); });
byId("goto-form").addEventListener("submit", (event) => {
  if (goTo(byId("goto-text").value)) return;
  event.preventDefault(); byId("goto-miss").hidden = false;
});
addEventListener("keydown", (event) => {
  const active = document.activeElement, typing = ["INPUT", "SELECT", "TEXTAREA"].includes(active?.tagName);
  if (!model || event.ctrlKey || event.metaKey || event.altKey || document.querySelector("dialog[open]")) return;
  if (typing) { if (event.key === "Escape") { active.blur(); if (grid && active === grid.find && active.value) { active.value = ""; active.dispatchEvent(new Event("input")); } event.preventDefault(); } return; }
  const arrow = event.key.startsWith("Arrow");
  if (grid && arrow) grid.move(event.key);
  else if (unitView && (event.key === "ArrowLeft" || event.key === "ArrowRight")) {
    const to = event.key === "ArrowLeft" ? unitView.previous : unitView.next;
    if (to !== undefined) location.replace(link(place.layer, to));
  } else if (unitView && event.key === "t") { wholeField = !wholeField; unitView.recrop(); say(wholeField ? "crops show all that the unit sees" : "crops show where the unit is excited"); }
  else if (event.key === "Escape" && place.layer !== undefined) location.hash = place.unit === undefined ? "#/" : link(place.layer);
  else if (event.key === "/") { const find = grid?.find ?? document.querySelector("main input[type=search]"); if (!find) return; find.focus(); }
  else if (event.key === "g") openGoto();
  else if (event.key === "?") byId("keys").showModal();
  else return;
  event.preventDefault();
});
})();
