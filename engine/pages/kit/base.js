"use strict";
// What every page and the atlas share: text, numbers, pictures, charts, and how Find is understood.
// Names are hostile, so text reaches the page as text nodes and attributes only.

const byId = (id) => document.getElementById(id);
const embedded = (id) => JSON.parse(byId(id)?.textContent || "null");
const pad = (n, width) => String(n).padStart(width, "0");

// ---- Text and elements --------------------------------------------------------------------------------------------------

// Characters that a reader cannot see, or that turn the text around, are written out, so that a name looks like what it is.
const visible = (text) => String(text).replace(/[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff]/g,
  (c) => `\\u${pad(c.charCodeAt(0).toString(16), 4)}`);

// el("p", {class: "soft", onclick: f}, "text", node): attributes by setAttribute, listeners by name, children as text or nodes.
const SVG = new Set(["svg", "path", "polyline", "line", "circle", "text", "g", "rect", "title"]);
function el(tag, attributes = {}, ...children) {
  const node = SVG.has(tag) ? document.createElementNS("http://www.w3.org/2000/svg", tag) : document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (typeof value === "function") node.addEventListener(name.slice(2), value);
    else if (value !== null && value !== undefined && value !== false) node.setAttribute(name, typeof value === "string" ? visible(value) : value);
  }
  node.append(...children.flat(4).filter((c) => c !== null && c !== undefined && c !== false).map((c) => (c instanceof Node ? c : visible(c))));
  return node;
}

// A number as a person writes it: 4 significant digits, no exponent where it is readable without.
function number(value) {
  if (value === null || value === undefined) return "–";
  if (Number.isInteger(value)) return value.toLocaleString("en");
  const size = Math.abs(value);
  return size !== 0 && (size < 1e-3 || size >= 1e6) ? value.toExponential(2) : String(Number(value.toPrecision(4)));
}
const percent = (share) => (share === null || share === undefined ? "–" : `${Number((100 * share).toPrecision(share < 0.1 ? 2 : 3))} %`);
const counted = (n, one, many = `${one}s`) => `${n.toLocaleString("en")} ${n === 1 ? one : many}`;

// Names and values in two columns; rows without a value are left out.
const pairs = (rows) => el("table", {}, el("tbody", {}, rows.filter((row) => row && row[1] !== null && row[1] !== undefined && row[1] !== "").map(([name, value]) =>
  el("tr", {}, el("th", { scope: "row" }, name), el("td", { class: "number" }, typeof value === "number" ? number(value) : value)))));

async function copy(text, button) {
  try { await navigator.clipboard.writeText(text); button.textContent = "Copied"; }
  catch { button.textContent = "Select and copy"; }
  setTimeout(() => { button.textContent = "Copy"; }, 1500);
}
function copying(words) {
  const button = el("button", { type: "button", onclick: () => copy(words, button) }, "Copy");
  return el("div", { class: "command" }, el("code", {}, words), button);
}
for (const button of document.querySelectorAll("[data-copy]"))
  button.addEventListener("click", () => copy(byId(button.dataset.copy).textContent, button));

// ---- Pictures -----------------------------------------------------------------------------------------------------------

const CRISP = 96; // pixels; of smaller pictures every pixel is seen
function picture(source, alt) {
  const image = el("img", { src: source, alt, loading: "lazy", decoding: "async" });
  image.addEventListener("load", () => image.classList.toggle("crisp", image.naturalWidth <= CRISP), { once: true });
  return image;
}

// A tile of a sheet, { picture, across, count, tile: [rows, columns], margin }: pictures of one size side by side.
let sheets = 0;
function sheetClass(sheet) {
  if (!sheet.class) {
    sheet.class = `sheet-${sheets++}`;
    document.styleSheets[0].insertRule(`.${sheet.class} { background-image: url("${sheet.picture}") }`);
  }
  return sheet.class;
}
function tileOf(sheet, at, label, many = 1) { // `many` tiles of a row as one
  const [rows, columns] = sheet.tile, across = sheet.across, down = Math.ceil(sheet.count / across);
  const wide = across * (columns + sheet.margin) - sheet.margin, high = down * (rows + sheet.margin) - sheet.margin;
  const w = many * (columns + sheet.margin) - sheet.margin, x = (at % across) * (columns + sheet.margin), y = Math.floor(at / across) * (rows + sheet.margin);
  const node = el("span", { class: `sheet ${sheetClass(sheet)}${columns <= CRISP ? " crisp" : ""}`, role: "img", "aria-label": label });
  node.style.aspectRatio = `${w} / ${rows}`;
  node.style.backgroundSize = `${(100 * wide) / w}% ${(100 * high) / rows}%`;
  node.style.backgroundPosition = `${wide > w ? (100 * x) / (wide - w) : 0}% ${high > rows ? (100 * y) / (high - rows) : 0}%`;
  return node;
}

// ---- Charts -------------------------------------------------------------------------------------------------------------

const BOX = { width: 460, height: 190, left: 74, right: 14, top: 14, bottom: 40 };
const words = (x, y, text, anchor = "middle") => el("text", { x, y, "text-anchor": anchor, class: "tick" }, text);
const chart = (label, children) => el("svg", { viewBox: `0 0 ${BOX.width} ${BOX.height}`, class: "curve", role: "img", "aria-label": label }, children);

// A curve with its axes; `last` is the number under its right end, `reference` a level to compare with.
function curve(values, { last = values.length - 1, reference = null, label = "what ascent maximized", first = 0 } = {}) {
  const known = [...values, reference].filter((v) => v !== null && v !== undefined);
  const low = Math.min(...known), high = Math.max(...known), span = high - low || 1, right = BOX.width - BOX.right;
  const x = (i) => BOX.left + (i / Math.max(1, values.length - 1)) * (right - BOX.left);
  const y = (v) => BOX.top + (1 - (v - low) / span) * (BOX.height - BOX.top - BOX.bottom);
  const rule = (v, kind) => el("line", { x1: BOX.left, x2: right, y1: y(v), y2: y(v), class: kind });
  const points = values.map((v, i) => (v === null ? null : `${x(i).toFixed(1)},${y(v).toFixed(1)}`)).filter(Boolean).join(" ");
  return chart(`${label}: from ${number(values[0])} to ${number(values[values.length - 1])} in ${last} steps`, [
    rule(high, "rule"), rule(low, "rule"),
    reference === null || reference === undefined ? null : [rule(reference, "reference"),
      words(right, y(reference) + (y(reference) < 40 ? 15 : -5), `photographs ${number(reference)}`, "end")],
    el("polyline", { points, class: "trace" }),
    words(BOX.left - 6, y(high) + 4, number(high), "end"), words(BOX.left - 6, y(low) + 4, number(low), "end"),
    words(BOX.left, BOX.height - 22, String(first)), words(right, BOX.height - 22, String(last), "end"),
    words((BOX.left + right) / 2, BOX.height - 5, "step of ascent")]);
}

// Counts as bars; `edges` are the counts.length + 1 values between them, null for an infinity.
const said = (edges, k) => (edges[k] === null ? (k === 0 ? "−∞" : "∞") : number(edges[k]));
function histogram(counts, edges, { under = "largest value in a photograph", what = "photographs" } = {}) {
  if (!counts.length) return el("p", { class: "soft" }, `No number of ${what} to show.`);
  const most = Math.max(...counts), wide = (BOX.width - BOX.left - BOX.right) / counts.length, tall = BOX.height - BOX.top - BOX.bottom;
  const ticks = counts.length <= 6 ? counts.map((_, k) => k).concat(counts.length) : [0, 1, 2, 3, 4].map((k) => Math.round((k * counts.length) / 4));
  return chart(`${under}: from ${said(edges, 0)} to ${said(edges, counts.length)}, at most ${most} ${what} in a bin`, [
    el("line", { x1: BOX.left, x2: BOX.width - BOX.right, y1: BOX.top + tall, y2: BOX.top + tall, class: "rule" }),
    counts.map((n, k) => (n ? el("rect", { x: BOX.left + k * wide + 1, width: Math.max(wide - 2, 1), y: BOX.top + tall * (1 - n / most), height: tall * (n / most), class: "bar" }) : null)),
    words(BOX.left - 6, BOX.top + 5, number(most), "end"), words(BOX.left - 6, BOX.top + tall + 4, "0", "end"),
    [...new Set(ticks)].map((k) => words(BOX.left + k * wide, BOX.height - 22, said(edges, k), k === counts.length ? "end" : "middle")),
    words((BOX.left + BOX.width - BOX.right) / 2, BOX.height - 5, under)]);
}

// ---- Find ---------------------------------------------------------------------------------------------------------------

// "12", "0-63", "3,7-9" are numbers; anything else is looked for in texts. matcher(text)(number or null, texts).
function matcher(text) {
  const low = text.trim().toLowerCase();
  if (!low) return () => true;
  if (/^[\d\s,-]+$/.test(low)) {
    const ranges = low.split(",").map((part) => part.trim().split("-").map((n) => (n.trim() === "" ? NaN : Number(n))));
    return (n) => n !== null && ranges.some(([from, to]) => (to === undefined || Number.isNaN(to) ? n === from : n >= from && n <= to));
  }
  return (_, texts) => texts.some((t) => String(t ?? "").toLowerCase().includes(low));
}
