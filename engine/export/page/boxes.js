"use strict";
// A detector's boxes out of its own outputs: decoded and thinned out as Python's engine/outputs does it.

const logistic = value => 1 / (1 + Math.exp(-value));

function reader(tensor, candidatesFirst) {  // (candidate, column) -> number
  const [, a, b] = tensor.dims, [count, columns] = candidatesFirst ? [a, b] : [b, a];
  const at = candidatesFirst ? (i, c) => tensor.data[i * columns + c] : (i, c) => tensor.data[c * count + i];
  return { at, count, columns };
}

function scoresOf(row, columns, s) {  // of one candidate, each class
  let values = Array.from({ length: columns }, (_, c) => row(c));
  if (s.softmax) {
    const largest = Math.max(...values), powers = values.map(v => Math.exp(v - largest)), sum = powers.reduce((a, b) => a + b, 0);
    values = powers.map(v => v / sum);
  } else if (!s.probability) values = values.map(logistic);
  const sure = s.objectness === null ? 1 : values[s.objectness];
  return values.slice(s.first, s.first + s.classes).map(v => v * sure);
}

function sidesOf(numbers, place, grid, i) {  // left, top, right, bottom in pixels
  let [a, b, c, d] = numbers;
  if (grid) {
    const [column, row, stride] = grid.slice(3 * i, 3 * i + 3);
    [a, b, c, d] = [(a + column) * stride, (b + row) * stride, Math.exp(c) * stride, Math.exp(d) * stride];
  }
  if (place.form === "cxcywh") [a, b, c, d] = [a - c / 2, b - d / 2, a + c / 2, b + d / 2];
  if (place.form === "tlbr") [a, b, c, d] = [b, a, d, c];
  const [x, y] = place.scale;
  return [a * x, b * y, c * x, d * y];
}

function overlap(a, b) {  // intersection over union
  const width = Math.min(a[2], b[2]) - Math.max(a[0], b[0]), height = Math.min(a[3], b[3]) - Math.max(a[1], b[1]);
  const shared = Math.max(width, 0) * Math.max(height, 0), area = s => Math.max(s[2] - s[0], 0) * Math.max(s[3] - s[1], 0);
  const union = area(a) + area(b) - shared;
  return union > 0 ? shared / union : 0;
}

function boxesOf(results, info) {  // [{ place, index, score, sides }], the surest first
  const scores = reader(results[info.scores.output], info.scores.candidates_first);
  const places = reader(results[info.place.output], info.place.candidates_first);
  let found = [];
  for (let i = 0; i < scores.count; i++) {
    const each = scoresOf(c => scores.at(i, c), scores.columns, info.scores), score = Math.max(...each);
    if (score >= info.least) found.push({ place: i, index: each.indexOf(score), score });
  }
  found.sort((a, b) => b.score - a.score || a.place - b.place);
  for (const box of found) box.sides = sidesOf([0, 1, 2, 3].map(c => places.at(box.place, c)), info.place, info.grid, box.place);
  if (!info.thin) return found;
  const kept = [];
  for (const box of found) {
    if (!kept.some(k => k.index === box.index && overlap(k.sides, box.sides) > info.overlap)) kept.push(box);
  }
  return kept;
}

if (typeof module !== "undefined") module.exports = { boxesOf };
