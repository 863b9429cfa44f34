"use strict";
// Reading a line of text in the model's output, as convscope's sequences.py does: the best symbol of each step, repeats
// joined and the blank left out where there is one. `text` says where the line lies: {output, time, symbols: axes of the
// output, blank (null: every step is a symbol), are_probabilities, names (null: none)}.

function lineOf(results, text) {  // the characters: {number, text, probability}
  const { data, dims } = results[text.output], count = dims[text.symbols], steps = dims[text.time];
  const stride = axis => dims.slice(axis + 1).reduce((a, b) => a * b, 1);
  const at = (step, k) => Number(data[step * stride(text.time) + k * stride(text.symbols)]);
  const found = [];
  let last = -1;
  for (let step = 0; step < steps; step++) {
    let best = 0;
    for (let k = 1; k < count; k++) if (at(step, k) > at(step, best)) best = k;
    const probability = text.are_probabilities ? at(step, best) : share(k => at(step, k), count, best);
    const goes_on = text.blank !== null && best === last;
    last = best;
    if (best === text.blank) continue;
    if (goes_on) {
      const mine = found[found.length - 1];
      mine.probability = Math.max(mine.probability, probability);
    } else {
      found.push({ number: found.length + 1, text: text.names ? text.names[best] : `<${best}>`, probability });
    }
  }
  return found;
}

function share(value, count, index) {  // softmax
  let sum = 0;
  for (let k = 0; k < count; k++) sum += Math.exp(value(k) - value(index));
  return 1 / sum;
}

if (typeof module !== "undefined") module.exports = { lineOf };
