"use strict";
// What pages of one file share: the address, what a click enlarges, walls of tiles that are found and sorted, keys.

// ---- The address --------------------------------------------------------------------------------------------------------

// #/unit/12?layer=conv1&find=0-63&sort=-activation: what is enlarged, and how the page is found and sorted.
const address = {
  read() {
    const [path, query = ""] = location.hash.replace(/^#\/?/, "").split("?");
    const [kind, at] = path.split("/");
    return { kind: /^\d+$/.test(at ?? "") ? kind : null, at: Number(at), params: new URLSearchParams(query) };
  },
  of(kind, at, params) {
    const query = params.toString();
    return `#/${kind ? `${kind}/${at}` : ""}${query ? `?${query}` : ""}`;
  },
};

// ---- Enlarged views -----------------------------------------------------------------------------------------------------

const unitView = byId("unit"), keysView = byId("keys"), pageTitle = document.title;
const kinds = new Map(); // kind of address -> { show(at, params): a view or null, step(at, by, params): at, focus(at, params) }
let pushed = false, shownKind = null; // whether the entry before the enlarged one is this page's own

const placed = () => { const { kind, at, params } = address.read(); return kinds.has(kind) ? { kind, at, params, by: kinds.get(kind) } : null; };
function showView(title, body, picture = false) {
  const here = placed(), to = (by) => here.by.step(here.at, by, here.params);
  const step = (by, label, sign) => el("button", { type: "button", "aria-label": label, disabled: to(by) === null ? "" : null, onclick: () => go(by) }, sign);
  unitView.classList.toggle("picture", picture);
  unitView.replaceChildren(
    el("header", {}, el("h2", { id: "unit-title", tabindex: -1, autofocus: "" }, title), step(-1, `previous ${here.kind}`, "←"), step(1, `next ${here.kind}`, "→"),
      el("button", { type: "button", "aria-label": "close", onclick: () => unitView.close() }, "✕")),
    el("div", { class: "body" }, body));
  document.title = `${visible([title].flat(3).filter((part) => typeof part === "string").join(" "))} · ${pageTitle}`;
  if (!unitView.open) unitView.showModal();
  unitView.scrollTop = 0;
  byId("unit-title").focus();
}
function route(event) {
  const here = placed();
  if (event && here && !shownKind) pushed = true; // opened from the page itself: the entry before is the page
  for (const one of kinds.values()) one.restore?.(address.read().params);
  shownKind = here && here.by.show(here.at, here.params) ? here.kind : null;
  if (!shownKind) { pushed = false; if (unitView.open) unitView.close(); }
}
function go(by) {
  const here = placed(), to = here?.by.step(here.at, by, here.params) ?? null;
  if (to !== null) location.replace(address.of(here.kind, to.at ?? to, to.params ?? here.params));
}
unitView.addEventListener("close", () => {
  document.title = pageTitle;
  const here = placed(), back = pushed;
  shownKind = null; pushed = false;
  if (!here) return;
  const wall = new URLSearchParams(here.params);
  here.by.leave?.(wall);
  if (back) history.back(); // the page again, so that Back leads to what was before it
  else history.replaceState(null, "", address.of(null, null, wall));
  here.by.focus?.(here.at, here.params);
});
for (const view of [unitView, keysView]) view.addEventListener("click", (event) => { if (event.target === view) view.close(); });

// Pictures that a click enlarges, in the order of the page; the address is #/picture/3.
function enlarging(source, alt, caption = "") {
  const image = picture(source, alt);
  return el("button", { type: "button", class: "enlarge", title: "enlarge", "aria-label": `enlarge: ${alt}`, "data-caption": caption,
    onclick: (event) => { location.hash = address.of("picture", enlarged().indexOf(event.currentTarget), address.read().params); } }, image);
}
const enlarged = () => [...document.querySelectorAll("main .enlarge")];
kinds.set("picture", {
  show(at) {
    const button = enlarged()[at], image = button?.querySelector("img");
    if (!image) return false;
    const large = picture(image.src, image.alt), grow = () => { // small ones by whole numbers
      const by = Math.max(1, Math.floor(Math.min((innerWidth - 80) / large.naturalWidth, (innerHeight - 190) / large.naturalHeight)));
      large.style.width = `${large.naturalWidth * Math.min(by, large.naturalWidth <= CRISP ? 12 : 2)}px`;
    };
    large.addEventListener("load", grow, { once: true });
    showView(image.alt, [el("figure", {}, large, button.dataset.caption ? el("figcaption", {}, button.dataset.caption) : null)], true);
    return true;
  },
  step: (at, by) => (enlarged()[at + by] ? at + by : null),
  focus: (at) => enlarged()[at]?.focus(),
});

// ---- Links to the unit's other pages --------------------------------------------------------------------------------------

const LINKS = embedded("links") ?? {}; // layer -> [{ label, page, layer, units }]
function elsewhere(layer, unit) {
  const held = (LINKS[layer] ?? []).filter((link) => link.units === "all" || matcher(link.units)(unit, []));
  if (!held.length) return null;
  const to = (link) => `${link.page}${address.of("unit", unit, new URLSearchParams({ layer: link.layer }))}`;
  return el("nav", { class: "wide links", "aria-label": "this unit on other pages" }, el("span", { class: "soft" }, "The same unit:"),
    held.map((link) => el("a", { href: to(link) }, link.layer === layer ? link.label : `${link.label} (${link.layer})`)));
}

// ---- Lists that are found, sorted and enlarged ------------------------------------------------------------------------------

// holder: where it goes. groups: [{ name, head?, items }], or a function of the controls' values that gives them.
// kind: the word in the address, "unit". unit(item): its number, or null. texts(item, group): what Find looks in.
// sorts: key -> [label, item => value, "down"?]. states: [name, item => boolean][], chips above the list.
// tile(item, group): its node in the list, an <a> where it can be enlarged; view(item, group): [title, nodes] enlarged.
// all: the word for all groups together; where there is none, one group at a time is shown. chooser: what groups are.
// controls: more of [name, node]. layout(nodes, group): what holds a group's tiles. noun: what is counted. more: said beside the count.
function listing({ holder, groups, kind = "unit", noun = kind, unit = (item) => item.unit, texts = () => [], sorts, states = [], tile, view = null, all = null,
                   controls = [], layout = null, more = () => "", placeholder = "unit, 0-63, text", chooser = "Layer", keys = [] }) {
  const find = el("input", { id: "find", type: "search", size: 14, placeholder, "aria-keyshortcuts": "/" });
  const sort = el("select", { id: "sort" }, Object.entries(sorts).map(([key, [label]]) => el("option", { value: key }, label)));
  const turn = el("button", { type: "button", id: "turn", "aria-label": "turn the order around", "aria-pressed": "false", title: "turn the order around" }, "⇅");
  const count = el("span", { id: "count", class: "soft", role: "status" });
  const chips = el("span", { id: "chips", class: "chips", role: "group", "aria-label": "Show" });
  const nothing = el("p", { class: "nothing", id: "nothing", hidden: "" }, "Nothing fits; change the search or what is shown.");
  const place = el("div", { id: "list" });
  const values = Object.fromEntries(controls.map(([name, node]) => [name, () => (node.type === "checkbox" ? (node.checked ? "1" : "") : node.value)]));
  const first = Object.fromEntries(controls.map(([name]) => [name, values[name]()]));
  const defaultSort = Object.keys(sorts)[0];
  let known = typeof groups === "function" ? groups({}) : groups;
  const layer = el("select", { id: "layer" }, all === null ? [] : el("option", { value: "" }, all), known.map((group) => el("option", { value: group.name }, group.name)));
  const firstLayer = all === null ? known[0]?.name ?? "" : "";
  layer.value = firstLayer;
  const many = known.length > 1 || all !== null;
  let state = "all", order = [], drawn = false;
  const nodes = new Map(); // group/unit -> tile

  const keyOf = (group, item) => `${group.name}/${unit(item)}`;
  function params() {
    const found = new URLSearchParams(), direction = turn.getAttribute("aria-pressed") === "true" ? "-" : "";
    if (many && layer.value !== firstLayer) found.set("layer", layer.value);
    if (find.value) found.set("find", find.value);
    if (direction || sort.value !== defaultSort) found.set("sort", direction + sort.value);
    if (state !== "all") found.set("show", state);
    for (const [name] of controls) if (values[name]() !== first[name]) found.set(name, values[name]());
    return found;
  }
  function restore(from) {
    const named = from.get("layer"), isEnlarged = all !== null && address.read().kind; // then it says whose unit that is
    if (many && !isEnlarged) layer.value = [...layer.options].some((option) => option.value === named) ? named : firstLayer;
    find.value = from.get("find") ?? "";
    const by = from.get("sort") ?? defaultSort;
    sort.value = by.replace(/^-/, "") in sorts ? by.replace(/^-/, "") : defaultSort;
    turn.setAttribute("aria-pressed", String(by.startsWith("-")));
    state = states.some(([name]) => name === from.get("show")) ? from.get("show") : "all";
    for (const [name, node] of controls) {
      const value = from.get(name) ?? first[name];
      if (node.type === "checkbox") node.checked = value === "1"; else node.value = value;
      node.dispatchEvent(new Event("restored"));
    }
  }
  function compared(by) {
    const [, value, direction] = sorts[by], down = (direction === "down") !== (turn.getAttribute("aria-pressed") === "true");
    return (a, b) => {
      const p = value(a), q = value(b), none = (v) => v === null || v === undefined || v === -Infinity;
      if (none(p) || none(q)) return none(p) - none(q) || unit(a) - unit(b);
      const order = typeof p === "string" ? p.localeCompare(q, undefined, { numeric: true }) : p - q;
      return (down ? -order : order) || unit(a) - unit(b);
    };
  }
  function draw() {
    known = typeof groups === "function" ? groups(Object.fromEntries(controls.map(([name]) => [name, values[name]()]))) : groups;
    const fits = matcher(find.value), by = compared(sort.value), inState = states.find(([name]) => name === state)?.[1] ?? (() => true);
    const inside = known.filter((group) => !many || layer.value === "" || group.name === layer.value);
    const shown = inside.map((group) => [group, group.items.filter((item) => inState(item) && fits(unit(item), [...texts(item, group), many ? group.name : ""])).sort(by)]).filter(([, items]) => items.length);
    order = shown.flatMap(([group, items]) => items.map((item) => [group, item]));
    nodes.clear();
    drawn = true;
    const total = inside.reduce((sum, group) => sum + group.items.length, 0);
    count.textContent = [order.length === total ? counted(total, noun) : `${order.length.toLocaleString("en")} of ${counted(total, noun)}`, more(inside)].filter(Boolean).join(" · ");
    nothing.hidden = order.length > 0;
    const tileOfItem = (group, item) => { const node = tile(item, group); nodes.set(keyOf(group, item), node); return node; };
    const body = layout ?? ((tiles) => el("ul", { class: "wall" }, tiles.map((node) => el("li", {}, node))));
    if (!shown.some(([group]) => group.head)) { // one wall of all groups
      order.sort((p, q) => by(p[1], q[1]));
      place.replaceChildren(...(order.length ? [body(order.map(([group, item]) => tileOfItem(group, item)), order[0][0])].flat() : []));
    } else place.replaceChildren(...shown.map(([group, items]) => {
      const section = el("section", { class: "card section" }, el("header", {}, group.head()));
      const fill = () => { if (section.children.length === 1) section.append(...[body(items.map((item) => tileOfItem(group, item)), group)].flat()); };
      later(section, fill, items.length);
      return section;
    }));
    for (const chip of chips.children) chip.setAttribute("aria-pressed", String(chip.dataset.status === state));
    for (const chip of chips.children) chip.lastChild.textContent = inside.reduce((sum, group) => sum + group.items.filter((item) => chip.dataset.status === "all" || states.find(([name]) => name === chip.dataset.status)[1](item)).length, 0).toLocaleString("en");
  }
  function changed() {
    draw();
    history.replaceState(null, "", address.of(null, null, params()));
  }
  const having = states.filter(([, fits]) => known.some((group) => group.items.some(fits)));
  if (having.length && (having.length > 1 || known.some((group) => !group.items.every(having[0][1]))))
    chips.append(...["all", ...having.map(([name]) => name)].map((name) => el("button", { type: "button", "data-status": name, onclick: () => { state = name; changed(); } }, `${name} `, document.createTextNode(""))));
  find.addEventListener("input", changed);
  sort.addEventListener("change", () => { turn.setAttribute("aria-pressed", "false"); changed(); });
  turn.addEventListener("click", () => { turn.setAttribute("aria-pressed", String(turn.getAttribute("aria-pressed") !== "true")); changed(); });
  layer.addEventListener("change", changed);
  for (const [, node] of controls) node.addEventListener("change", changed);

  const labelled = (node) => (node.dataset?.label ? el("label", {}, node.type === "checkbox" ? [node, node.dataset.label] : [`${node.dataset.label} `, node]) : node);
  holder.append(el("form", { class: "toolbar", id: "tools", role: "search", "aria-label": `Choose ${noun}s`, onsubmit: (event) => event.preventDefault() },
    many ? el("label", {}, `${chooser} `, layer) : null, el("label", {}, "Find ", find), el("label", {}, "Sort ", sort), turn, chips, controls.map(([, node]) => labelled(node)), count,
    el("button", { type: "button", id: "help", "aria-keyshortcuts": "?", onclick: () => keysView.showModal() }, "Keys")), nothing, place);

  const find1 = (at, from) => { const named = from.get("layer") ?? layer.value; return known.flatMap((g) => (many && named && g.name !== named ? [] : g.items.filter((item) => unit(item) === at).map((item) => [g, item])))[0]; };
  const paramsOf = (group) => { const found = params(); if (many && (all !== null || group.name !== firstLayer)) found.set("layer", group.name); return found; };
  const isAt = (hit) => order.findIndex(([group, item]) => group === hit[0] && item === hit[1]);
  kinds.set(kind, {
    restore: (from) => { // what is on the page stays, where it is what is asked for
      const before = drawn ? params().toString() : null;
      restore(from);
      if (params().toString() !== before) draw();
    },
    show(at, from) {
      const hit = view && find1(at, from);
      if (!hit) return false;
      showView(...view(hit[1], hit[0]));
      return true;
    },
    step(at, by, from) {
      const hit = find1(at, from), place = hit ? isAt(hit) : -1, next = place < 0 ? undefined : order[place + by];
      return next ? { at: unit(next[1]), params: paramsOf(next[0]) } : null;
    },
    leave: (wall) => { if (all !== null) { if (layer.value) wall.set("layer", layer.value); else wall.delete("layer"); } },
    focus: (at, from) => { const hit = find1(at, from); if (hit) nodes.get(keyOf(...hit))?.focus(); },
  });
  const list = { href: (item, group) => address.of(kind, unit(item), paramsOf(group)), find, changed, draw };
  addKeys(list, noun, keys);
  return list;
}

// Fills a long list when it comes near the window; short pages are filled at once.
let filled = 0;
const watcher = typeof IntersectionObserver === "function" ? new IntersectionObserver((entries) => {
  for (const entry of entries) if (entry.isIntersecting) { watcher.unobserve(entry.target); entry.target.fill(); entry.target.style.minHeight = ""; }
}, { rootMargin: "800px" }) : null;
function later(section, fill, count) {
  filled += count;
  if (!watcher || filled < 400) { fill(); return; }
  section.fill = fill;
  section.style.minHeight = `${Math.min(120 + count * 8, 1200)}px`;
  watcher.observe(section);
}

// ---- Keys ---------------------------------------------------------------------------------------------------------------

// The link beside the one that has the focus: left and right in order, up and down by what is seen.
function moveFocus(key) {
  const links = [...document.querySelectorAll("main a.tile")], at = links.indexOf(document.activeElement);
  let target = links[at < 0 ? 0 : at + { ArrowLeft: -1, ArrowRight: 1 }[key]];
  if (at >= 0 && (key === "ArrowUp" || key === "ArrowDown")) {
    const from = links[at].getBoundingClientRect(), sign = key === "ArrowDown" ? 1 : -1, middle = (from.left + from.right) / 2;
    let best = Infinity;
    for (const link of links) {
      const to = link.getBoundingClientRect(), down = sign * (to.top - from.top);
      const cost = down * 1000 + Math.abs((to.left + to.right) / 2 - middle);
      if (down > 4 && cost < best) { best = cost; target = link; }
    }
  }
  target?.focus();
  return Boolean(target);
}
function addKeys(list, noun, own) {
  const rows = [["← → ↑ ↓", `move over the ${noun}s, or to the next one where one is enlarged`], ["Enter", "enlarge it"], ["Esc", "back to the page; in Find, empty it"], ["/", "find"], ...own.map(([key, what]) => [key, what]), ["?", "these keys"]];
  keysView.replaceChildren(el("div", { class: "keys" }, el("h2", { id: "keys-title" }, "Keys"),
    el("table", {}, rows.map(([keys, what]) => el("tr", {}, el("td", {}, keys.split(" ").map((key) => [el("kbd", {}, key), " "])), el("td", {}, what)))),
    el("p", {}, el("button", { type: "button", id: "keys-close", onclick: () => keysView.close() }, "Close"))));
  addEventListener("keydown", (event) => {
    const active = document.activeElement, typing = ["INPUT", "SELECT", "TEXTAREA"].includes(active?.tagName) && active.type !== "checkbox";
    if (event.ctrlKey || event.metaKey || event.altKey || keysView.open || unitView.open) return;
    const mine = own.find(([key]) => key === event.key);
    if (typing) {
      if (event.key !== "Escape" || active !== list.find) return;
      list.find.value = ""; list.changed(); list.find.blur();
    } else if (event.key.startsWith("Arrow")) { if (!moveFocus(event.key)) return; }
    else if (event.key === "/") list.find.focus();
    else if (event.key === "?") keysView.showModal();
    else if (mine) mine[2]();
    else return;
    event.preventDefault();
  });
}
function started() { // after the page's own script has said what it shows
  addEventListener("keydown", (event) => {
    if (!unitView.open || event.ctrlKey || event.metaKey || event.altKey || ["INPUT", "SELECT"].includes(document.activeElement?.tagName)) return;
    if (event.key === "ArrowLeft" || event.key === "ArrowRight") { go(event.key === "ArrowLeft" ? -1 : 1); event.preventDefault(); }
  });
  addEventListener("hashchange", route);
  route();
  document.documentElement.dataset.shown = ""; // for who drives the page
}
document.querySelector("a.skip")?.addEventListener("click", (event) => { event.preventDefault(); byId("main").focus(); }); // the address is the state
