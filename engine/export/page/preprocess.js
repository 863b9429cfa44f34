"use strict";
// A photograph as a network's input: the port of convscope's engine/pictures/read.py (fit) and
// engine/graph/preprocessing.py (normalize). Resampling is Pillow's, antialiased, channel by channel.

const KERNELS = {
  bilinear: [1, x => Math.max(0, 1 - Math.abs(x))],
  bicubic: [2, x => {
    const a = -0.5, d = Math.abs(x);
    if (d < 1) return ((a + 2) * d - (a + 3)) * d * d + 1;
    return d < 2 ? (((d - 5) * d + 8) * d - 4) * a : 0;
  }],
  lanczos: [3, x => {
    const sinc = t => t === 0 ? 1 : Math.sin(Math.PI * t) / (Math.PI * t);
    return Math.abs(x) < 3 ? sinc(x) * sinc(x / 3) : 0;
  }],
};

// For each of `to` positions the first of `from` positions that it reads, and their weights.
function weights(from, to, interpolation) {
  const scale = from / to, found = [];
  if (interpolation === "nearest") {
    for (let i = 0, place = scale / 2; i < to; i++, place += scale) {  // summed up, as Pillow does: ties lie there
      found.push([Math.min(Math.floor(place), from - 1), [1]]);
    }
    return found;
  }
  const [reach, kernel] = KERNELS[interpolation], stretch = Math.max(scale, 1), support = reach * stretch;
  for (let i = 0; i < to; i++) {
    const center = (i + 0.5) * scale;
    const first = Math.max(Math.trunc(center - support + 0.5), 0);
    const last = Math.min(Math.trunc(center + support + 0.5), from);
    const row = [];
    for (let x = first; x < last; x++) row.push(kernel((x - center + 0.5) / stretch));
    const sum = row.reduce((a, b) => a + b, 0);
    found.push([first, row.map(w => w / sum)]);
  }
  return found;
}

// Pixels (height * width * channels, Float32Array) in another size.
function resize(pixels, [height, width], [tall, wide], channels, interpolation) {
  if (height === tall && width === wide) return pixels;
  const columns = weights(width, wide, interpolation), rows = weights(height, tall, interpolation);
  const across = new Float32Array(height * wide * channels), done = new Float32Array(tall * wide * channels);
  for (let y = 0; y < height; y++) for (let x = 0; x < wide; x++) for (let c = 0; c < channels; c++) {
    const [first, row] = columns[x];
    let sum = 0;
    for (let k = 0; k < row.length; k++) sum += row[k] * pixels[(y * width + first + k) * channels + c];
    across[(y * wide + x) * channels + c] = sum;
  }
  for (let y = 0; y < tall; y++) for (let x = 0; x < wide; x++) for (let c = 0; c < channels; c++) {
    const [first, row] = rows[y];
    let sum = 0;
    for (let k = 0; k < row.length; k++) sum += row[k] * across[((first + k) * wide + x) * channels + c];
    done[(y * wide + x) * channels + c] = sum;
  }
  return done;
}

const even = x => { const r = Math.round(x); return Math.abs(x % 1) === 0.5 && r % 2 ? r - 1 : r; };  // half to even

// RGB pixels in [0, 1] (height * width * 3) in the network's size, cropped or squashed as its preprocessing says.
function fit(pixels, [height, width], size, p) {
  let found = pixels;
  if (p.resize === "crop") {
    const scale = Math.max(size[0] / p.crop / height, size[1] / p.crop / width);
    const larger = [Math.max(even(height * scale), size[0]), Math.max(even(width * scale), size[1])];
    const scaled = resize(pixels, [height, width], larger, 3, p.interpolation);
    const top = even((larger[0] - size[0]) / 2), left = even((larger[1] - size[1]) / 2);
    found = new Float32Array(size[0] * size[1] * 3);
    for (let y = 0; y < size[0]; y++) {
      const start = ((top + y) * larger[1] + left) * 3;
      found.set(scaled.subarray(start, start + size[1] * 3), y * size[1] * 3);
    }
  } else {
    found = resize(pixels, [height, width], size, 3, p.interpolation);
  }
  return found.map(v => Math.min(Math.max(v, 0), 1));
}

// The network's input, Float32Array of channels * height * width, from what `fit` gives.
function normalize(fitted, [height, width], channels, p) {
  const area = height * width, input = new Float32Array(channels * area);
  const at = (values, c) => values[values.length > 1 ? c : 0];
  for (let c = 0; c < channels; c++) {
    const source = p.order === "BGR" && channels === 3 ? 2 - c : c;
    const scale = (p.high - p.low) / at(p.std, c), bias = (p.low - at(p.mean, c)) / at(p.std, c);
    for (let i = 0; i < area; i++) {
      const value = channels === 1
        ? 0.299 * fitted[3 * i] + 0.587 * fitted[3 * i + 1] + 0.114 * fitted[3 * i + 2]
        : fitted[3 * i + source];
      input[c * area + i] = value * scale + bias;
    }
  }
  return input;
}

// RGB in [0, 1] from a canvas's RGBA bytes: transparent parts on white.
function opaque(bytes) {
  const pixels = new Float32Array(bytes.length / 4 * 3);
  for (let i = 0, j = 0; i < bytes.length; i += 4, j += 3) {
    const alpha = bytes[i + 3] / 255;
    for (let c = 0; c < 3; c++) pixels[j + c] = bytes[i + c] / 255 * alpha + 1 - alpha;
  }
  return pixels;
}

if (typeof module !== "undefined") module.exports = { resize, fit, normalize, opaque };
