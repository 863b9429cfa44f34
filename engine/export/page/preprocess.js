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

// How a picture becomes an input: the size it is resized to, and where the input lies in that (engine/pictures/framing.py).
function framed(height, width, size, p) {
  if (p.resize === "letterbox") {
    const ratio = Math.min(size[0] / height, size[1] / width);
    const resized = [height, width].map(side => Math.max(even(side * ratio), 1));
    return [resized, ...[0, 1].map(i => 0 - even((size[i] - resized[i]) / 2 - 0.1))];
  }
  const scaled = size.map(side => Math.floor(side / p.crop));
  const kept = ratio => [height, width].map(side => Math.max(even(side / ratio), 1));
  let resized = scaled;
  if (p.resize === "border") resized = kept(Math.max(height / scaled[0], width / scaled[1]));
  else if (p.resize === "crop" && scaled[0] === scaled[1]) {
    const short = Math.min(height, width);
    resized = [height, width].map(side => side === short ? scaled[0] : Math.max(Math.trunc(scaled[0] * side / short), 1));
  } else if (p.resize === "crop") resized = kept(Math.min(height / scaled[0], width / scaled[1]));
  const offsets = resized.map((have, i) =>
    size[i] > have ? 0 - Math.floor((size[i] - have) / 2) : even((have - size[i]) / 2));
  return [resized, ...offsets];
}

// The colour beside a picture that does not fill its frame.
function border(p) {
  if (p.resize === "letterbox") return [114 / 255, 114 / 255, 114 / 255];
  if (p.resize !== "border" || ![1, 3].includes(p.mean.length)) return [0, 0, 0];
  return [0, 1, 2].map(c => even(255 * p.mean[p.mean.length > 1 ? c : 0]) / 255);
}

// RGB pixels in [0, 1] (height * width * 3) in the network's size, cropped, padded or squashed as its preprocessing says.
function fit(pixels, [height, width], size, p) {
  const [resized, top, left] = framed(height, width, size, p);
  const scaled = resize(pixels, [height, width], resized, 3, p.interpolation), beside = border(p);
  const found = new Float32Array(size[0] * size[1] * 3);
  for (let y = 0; y < size[0]; y++) for (let x = 0; x < size[1]; x++) {
    const row = y + top, column = x + left, inside = row >= 0 && column >= 0 && row < resized[0] && column < resized[1];
    for (let c = 0; c < 3; c++) {
      const value = inside ? scaled[(row * resized[1] + column) * 3 + c] : beside[c];
      found[(y * size[1] + x) * 3 + c] = Math.min(Math.max(value, 0), 1);
    }
  }
  return found;
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
