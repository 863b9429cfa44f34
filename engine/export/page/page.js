"use strict";
// The page: a photograph in, classes and the map of one of them out. Nothing leaves the machine.

const info = JSON.parse(document.getElementById("info").textContent);
const $ = id => document.getElementById(id);
const [HEIGHT, WIDTH] = info.size;
const NOTHING = {};  // asks for nothing: what the model says itself
let session, current = null, chosen = NOTHING, busy = false;

const say = text => { $("status").textContent = text; };

function embedded(id) {  // bytes that the page holds as base64
  const element = $(id);
  return element ? Uint8Array.from(atob(element.textContent.trim()), c => c.charCodeAt(0)) : null;
}

async function bytes(id, file) {
  return embedded(id) ?? new Uint8Array(await (await fetch(file)).arrayBuffer());
}

async function start() {
  ort.env.wasm.numThreads = 1;
  ort.env.wasm.proxy = false;
  ort.env.wasm.wasmBinary = (await bytes("wasm", "ort-wasm-simd-threaded.wasm")).buffer;
  const script = embedded("mjs");
  const mjs = script ? URL.createObjectURL(new Blob([script], { type: "text/javascript" })) : "./ort-wasm-simd-threaded.mjs";
  ort.env.wasm.wasmPaths = { mjs: new URL(mjs, location.href).href };
  session = await ort.InferenceSession.create(await bytes("model", "model.onnx"), { executionProviders: ["wasm"] });
  say("Ready. Drop a photograph, choose one, or use the camera.");
  document.documentElement.dataset.shown = "ready";
}

function inputOf(pixels, size) {
  const fitted = fit(pixels, size, info.size, info.preprocessing);
  const values = normalize(fitted, info.size, info.channels, info.preprocessing);
  return { fitted, values };
}

function tensorOf(values) {
  if (!info.channels_last) return new ort.Tensor("float32", values, [1, info.channels, HEIGHT, WIDTH]);
  const area = HEIGHT * WIDTH, turned = new Float32Array(values.length);
  for (let c = 0; c < info.channels; c++) for (let i = 0; i < area; i++) turned[i * info.channels + c] = values[c * area + i];
  return new ort.Tensor("float32", turned, [1, HEIGHT, WIDTH, info.channels]);
}

async function run(values, asked) {
  const feeds = { [info.input]: tensorOf(values) };
  for (const name of info.asks) feeds[name] = new ort.Tensor("int64", BigInt64Array.from([BigInt(asked[name] ?? -1)]), [1]);
  const began = performance.now(), results = await session.run(feeds);
  return { results, map: results["heatmap"], milliseconds: performance.now() - began };
}

function probabilities(scores) {  // as the model's own head makes them
  const values = Array.from(scores.data);
  if (info.head === "logits" && values.length > 1) {
    const largest = Math.max(...values), powers = values.map(v => Math.exp(v - largest));
    const sum = powers.reduce((a, b) => a + b, 0);
    return powers.map(v => v / sum);
  }
  return info.head === "logits" ? values.map(v => 1 / (1 + Math.exp(-v))) : values;
}

function shares(maps) {  // how much of the picture each class is the strongest in
  const [, count, rows, columns] = maps.dims, area = rows * columns, found = new Array(count).fill(0);
  for (let i = 0; i < area; i++) {
    let best = 0;
    for (let k = 1; k < count; k++) if (maps.data[k * area + i] > maps.data[best * area + i]) best = k;
    found[best] += 1 / area;
  }
  return found;
}

function answers(results) {  // what the model says: the most likely first, each with what asks for it
  const scores = results[info.output], name = i => info.labels ? info.labels[i] : "class " + i;
  if (info.lists === "boxes" && info.boxes) {
    return boxesOf(results, info.boxes).slice(0, 20).map((b, i) => (
      { text: `${i + 1}: ${name(b.index)}  ${(100 * b.score).toFixed(1)} %`, asked: { box: b.place, class: b.index }, box: b.sides }));
  }
  if (info.lists === "text") {
    const read = lineOf(results, info.text), line = read.map(c => c.text).join("");
    const whole = { text: read.length ? `the whole line: ${line}` : "nothing is read", asked: { character: -1 } };
    return [whole, ...read.map(c => ({ text: `${c.number}: ${c.text}  ${(100 * c.probability).toFixed(1)} %`, asked: { character: c.number } }))];
  }
  const isVector = info.lists === "classes" && scores.dims.length === 2;
  if (!isVector && !(info.lists === "masks" && scores.dims.length === 4 && scores.dims[1] > 1)) return [];
  const found = isVector ? probabilities(scores) : shares(scores);
  return found.map((p, i) => ({ p, text: `${name(i)}  ${(100 * p).toFixed(1)} %`, asked: { class: i } }))
    .sort((a, b) => b.p - a.p).filter(a => isVector || a.p > 0).slice(0, 5);
}

async function explain(asked) {
  if (!current || busy || !session) return;
  busy = true;
  try {
    const result = await run(current.values, asked), found = answers(result.results);
    const same = a => info.asks.every(name => a.asked[name] === asked[name]);
    chosen = asked === NOTHING && found.length ? found[0].asked : asked;
    current.answers = found;
    draw(current.fitted, result.map);
    const pressed = asked === NOTHING ? found[0] : found.find(same);
    list(found, pressed);
    $("caption").hidden = false;
    const about = pressed ? `The evidence for: ${pressed.text}` : "The evidence for the model's own answer.";
    const isZero = result.map.data.every(value => !(value > 0));
    $("about").textContent = about + (isZero ? "\nThere is none: the map is zero everywhere." : "");
    const nothing = info.lists === "boxes" && !found.length ? "No box is likely here. " : "";
    say(`${nothing}Computed in ${Math.round(result.milliseconds)} ms on this machine.`);
    globalThis.explanation = { asked: chosen, map: result.map, input: current.values };  // for who drives the page by a program
    document.documentElement.dataset.explained = asked === NOTHING ? "-1" : String(number(asked));
  } catch (error) { say(`The model failed: ${error.message}`); } finally { busy = false; }
}

const number = asked => asked.box ?? asked.character ?? asked.class;

function list(found, pressed) {
  $("classes").replaceChildren(...found.map(answer => {
    const button = document.createElement("button");
    button.textContent = answer.text;
    button.setAttribute("aria-pressed", String(answer === pressed));
    button.dataset.index = String(number(answer.asked));
    button.disabled = !info.asks.length;
    button.onclick = () => explain(answer.asked);
    const row = document.createElement("li");
    row.append(button);
    return row;
  }));
}

function draw(fitted, map) {
  const canvas = $("picture"), context = canvas.getContext("2d"), [, rows, columns] = map.dims;
  canvas.width = WIDTH; canvas.height = HEIGHT;
  const heat = new Float32Array(map.data), largest = heat.reduce((a, b) => Math.max(a, b), 0) || 1;
  const grown = growMap(heat, rows, columns), image = context.createImageData(WIDTH, HEIGHT);
  const strength = Number($("strength").value) / 100;
  for (let i = 0; i < WIDTH * HEIGHT; i++) {
    const value = Math.min(Math.max(grown[i] / largest, 0), 1), colour = info.colours[Math.round(255 * value)];
    const alpha = strength * value;
    for (let c = 0; c < 3; c++) image.data[4 * i + c] = 255 * fitted[3 * i + c] * (1 - alpha) + colour[c] * alpha;
    image.data[4 * i + 3] = 255;
  }
  context.putImageData(image, 0, 0);
  current.map = map;
  outline(context);
}

function outline(context) {  // boxes with their numbers, the one that is explained in a thicker line
  const size = Math.max(HEIGHT, WIDTH);
  (current.answers || []).filter(answer => answer.box).forEach((answer, i) => {
    const [left, top, right, bottom] = answer.box, mine = chosen && answer.asked.box === chosen.box;
    context.lineWidth = size / (mine ? 110 : 320);
    context.strokeStyle = mine ? "#fff" : "#fffb";
    context.shadowColor = "#000"; context.shadowBlur = size / 160;
    context.strokeRect(left, top, right - left, bottom - top);
    context.font = `${Math.round(size / 26)}px system-ui, sans-serif`;
    context.fillStyle = "#fff";
    context.fillText(String(i + 1), left + size / 120, Math.max(top, 0) + size / 26);
    context.shadowBlur = 0;
  });
}

function growMap(map, rows, columns) {  // bilinear, half-pixel centres
  const grown = new Float32Array(WIDTH * HEIGHT);
  const place = (i, size, count) => Math.min(Math.max((i + 0.5) * count / size - 0.5, 0), count - 1);
  for (let y = 0; y < HEIGHT; y++) for (let x = 0; x < WIDTH; x++) {
    const v = place(y, HEIGHT, rows), u = place(x, WIDTH, columns), top = Math.floor(v), left = Math.floor(u);
    const below = Math.min(top + 1, rows - 1), right = Math.min(left + 1, columns - 1), dv = v - top, du = u - left;
    grown[y * WIDTH + x] = (1 - dv) * ((1 - du) * map[top * columns + left] + du * map[top * columns + right])
      + dv * ((1 - du) * map[below * columns + left] + du * map[below * columns + right]);
  }
  return grown;
}

async function show(source, height, width) {  // anything that a canvas can draw
  if (!width || !height) return;
  const canvas = document.createElement("canvas"), context = canvas.getContext("2d", { willReadFrequently: true });
  canvas.width = width; canvas.height = height;
  context.drawImage(source, 0, 0);
  current = inputOf(opaque(context.getImageData(0, 0, width, height).data), [height, width]);
  await explain(NOTHING);
}

async function open(file) {
  try {
    const options = { colorSpaceConversion: "none", premultiplyAlpha: "none", imageOrientation: "from-image" };
    const bitmap = await createImageBitmap(file, options);
    chosen = NOTHING;
    await show(bitmap, bitmap.height, bitmap.width);
  } catch (error) { say(`${file.name || "This"} is no picture that the browser reads.`); }
}

async function camera() {
  const video = $("video");
  if (video.srcObject) {
    video.srcObject.getTracks().forEach(track => track.stop());
    video.srcObject = null;
    $("camera").textContent = "Camera";
    return;
  }
  try {
    video.srcObject = await navigator.mediaDevices.getUserMedia({ video: true });
  } catch (error) { say("No camera: the browser gives it to pages from https and localhost alone, and with your leave."); return; }
  await video.play();
  $("camera").textContent = "Stop the camera";
  while (video.srcObject) {
    await show(video, video.videoHeight, video.videoWidth);
    await new Promise(done => setTimeout(done, 50));
  }
}

$("file").onchange = event => event.target.files[0] && open(event.target.files[0]);
$("camera").onclick = camera;
$("strength").oninput = () => current && current.map && draw(current.fitted, current.map);
addEventListener("dragover", event => event.preventDefault());
addEventListener("drop", event => {
  event.preventDefault();
  const file = event.dataTransfer.files[0];
  if (file) open(file);
});
start().catch(error => say(`The model does not start: ${error.message}`));
