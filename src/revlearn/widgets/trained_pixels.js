// A learned training set: ten images after each update, the validation loss, and what softmax
// regression learns from the images.

import { Plot, element, explorable, nearestRatio, number, player, slider } from "./common.js";

const MOMENTUM = nearestRatio(0.9);
const LENGTH = 100; // steps of training

/** Undo the packing of Python: `rows` arrays of small whole numbers. */
async function unpack(text, rows) {
  const bytes = Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
  const inflated = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate"));
  const levels = new Int8Array(await new Response(inflated).arrayBuffer());
  const length = rows ? levels.length / rows : 0;
  return Array.from({ length: rows }, (_, row) => Float64Array.from({ length }, (_, k) => levels[k * rows + row]));
}

/** The snapshots, each a list of images, what led to each from the one before, and the digits. */
export async function load(model) {
  const [count, classes, side] = model.get("shape");
  const scales = model.get("scales");
  const cut = (row) => Array.from({ length: classes }, (_, k) => row.subarray(k * side * side, (k + 1) * side * side));
  const rows = (await unpack(model.get("packed"), count)).map((row, k) => row.map((level) => scales[k] * level));
  let now = new Float64Array(rows[0].length);
  const snapshots = rows.map((row) => (now = now.map((value, k) => value + row[k])));
  const digits = await unpack(model.get("digits"), model.get("labels").length);
  return {
    snapshots: snapshots.map(cut),
    changes: rows.map(cut),
    digits: digits.map((row) => row.map((level) => model.get("digit_scale") * level)),
  };
}

function dot(a, b) {
  let sum = 0;
  for (let k = 0; k < a.length; k += 1) sum += a[k] * b[k];
  return sum;
}

function probabilities(logits) {
  const largest = Math.max(...logits);
  const raised = logits.map((logit) => Math.exp(logit - largest));
  const total = raised.reduce((sum, value) => sum + value, 0);
  return raised.map((value) => value / total);
}

/**
 * Train softmax regression on the images, from blank weights, and test it on the digits before each
 * step and after the last. The weights stay combinations of the images, so that only the
 * coefficients are kept, one row for each image: products of images with images and with digits
 * are all that is needed.
 */
export function learn({ images, digits, labels, penalty, rate, steps = LENGTH }) {
  const count = images.length;
  const zeros = () => Array.from({ length: count + 1 }, () => Array(count).fill(0)); // last: biases
  const [w, v] = [zeros(), zeros()];
  const products = (image) => [...images.map((other) => dot(image, other)), 1];
  const among = images.map(products);
  const across = digits.map(products);
  const logits = (row) => {
    const sums = Array(count).fill(0);
    for (let i = 0; i <= count; i += 1) for (let c = 0; c < count; c += 1) sums[c] += row[i] * w[i][c];
    return sums;
  };
  const curve = [];
  const look = () => {
    const found = across.map((row) => probabilities(logits(row)));
    const right = found.filter((p, j) => p.indexOf(Math.max(...p)) === labels[j]).length;
    const loss = found.reduce((sum, p, j) => sum - Math.log(p[labels[j]]), 0) / digits.length;
    curve.push({ loss, right });
  };
  for (let t = 0; t < steps; t += 1) {
    look();
    const errors = among.map((row, i) => probabilities(logits(row)).map((p, c) => (p - (i === c)) / count));
    errors.push(errors[0].map((_, c) => errors.reduce((sum, row) => sum + row[c], 0)));
    for (let i = 0; i <= count; i += 1)
      for (let c = 0; c < count; c += 1) {
        v[i][c] = MOMENTUM * v[i][c] - (1 - MOMENTUM) * (errors[i][c] + 2 * penalty * w[i][c]);
        w[i][c] += rate * v[i][c];
      }
  }
  look();
  return curve;
}

// Matplotlib's PuOr, reversed: purple below zero, white, orange above.
const COLOURS = ["2d004b", "542788", "8073ac", "b2abd2", "d8daeb", "f7f7f7", "fee0b6", "fdb863", "e08214", "b35806", "7f3b08"]
  .map((code) => [0, 2, 4].map((at) => parseInt(code.slice(at, at + 2), 16)));

/** The colour of a share of the largest value, from −1 to 1. */
function colour(share) {
  const place = Math.min(Math.max((share + 1) / 2, 0), 1) * (COLOURS.length - 1);
  const below = Math.min(Math.floor(place), COLOURS.length - 2);
  return COLOURS[below].map((value, k) => value + (place - below) * (COLOURS[below + 1][k] - value));
}

function paint(canvas, values, limit) {
  const context = canvas.getContext("2d");
  const drawn = context.createImageData(canvas.width, canvas.height);
  values.forEach((value, k) => drawn.data.set([...colour(value / limit), 255], 4 * k));
  context.putImageData(drawn, 0, 0);
}

/** A row of images with their classes below, a heading, and the scale of colours. */
function gallery(classes, side) {
  const canvases = Array.from({ length: classes }, () => element("canvas", { width: side, height: side }));
  const row = element("div", { class: "revlearn-images", role: "img" },
    ...canvases.map((canvas, k) => element("div", {}, canvas, String(k))));
  const bar = element("canvas", { width: 101, height: 1, "aria-hidden": "true" });
  paint(bar, Array.from({ length: 101 }, (_, k) => k - 50), 50);
  const [title, low, high] = [element("span"), element("span"), element("span")];
  const heading = element("div", { class: "revlearn-images-heading" }, title, element("span", {}, low, bar, high));
  return {
    element: element("div", {}, heading, row),
    draw({ images, limit, heading, says }) {
      canvases.forEach((canvas, k) => paint(canvas, images[k], limit));
      title.textContent = heading;
      low.textContent = number(-limit, 2);
      high.textContent = `${number(limit, 2)} pixel value`;
      row.setAttribute("aria-label", says);
    },
  };
}

const extremes = (images) => images.reduce(
  ([low, high], image) => image.reduce(([a, b], value) => [Math.min(a, value), Math.max(b, value)], [low, high]),
  [Infinity, -Infinity],
);
const updatesOf = (count) => `${count} update${count === 1 ? "" : "s"}`;
const largest = (images) => Math.max(...extremes(images).map(Math.abs));

function build({ root, model, set, say, guard }) {
  const [count, classes, side] = model.get("shape");
  const labels = model.get("labels");
  const iterations = model.get("iterations");
  const updates = slider({
    label: "updates of the images", min: 0, max: count - 1, step: 1, value: model.get("snapshot"),
    show: (k) => String(iterations[k]), change: (value) => set("snapshot", value),
  });
  const play = player({ interval: 250, step: () => {
    set("snapshot", (model.get("snapshot") + 1) % count);
    return model.get("snapshot") < count - 1;
  } });
  const rate = slider({
    label: "rate of the training", min: -1, max: 2, step: 0.1, value: Math.log10(model.get("rate")),
    show: (value) => number(10 ** value, 2), change: (value) => set("rate", 10 ** value),
  });
  const learned = gallery(classes, side);
  const added = gallery(classes, side);
  const fall = new Plot({ label: "validation loss after each update", height: 170 });
  const test = new Plot({ label: "loss on real digits and share of them wrong, at each step of training", height: 190 });
  root.append(
    updates, element("div", { class: "revlearn-controls" }, play),
    learned.element, added.element, fall.element,
  );
  if (labels.length) root.append(rate, test.element);

  let data = null;
  let broken = null; // why the images cannot be shown
  let limit = 1;
  load(model)
    .then((loaded) => {
      data = loaded;
      limit = Math.max(...data.snapshots.map(largest)) || 1;
    })
    .catch((error) => (broken = error))
    .finally(guard(update));

  function update() {
    if (broken) throw broken;
    if (data === null) return; // it comes in a moment
    const k = Math.min(model.get("snapshot"), count - 1);
    updates.move(k);
    rate.move(Math.log10(model.get("rate")));
    const [low, high] = extremes(data.snapshots[k]);
    const change = k > 0 ? largest(data.changes[k]) : 0;
    learned.draw({
      images: data.snapshots[k], limit, heading: `The images after ${updatesOf(iterations[k])}`,
      says: `${classes} images, one for each class, between ${number(low, 2)} and ${number(high, 2)}`,
    });
    added.element.hidden = k === 0;
    if (k > 0)
      added.draw({
        images: data.changes[k], limit: change || 1, heading: `Added since update ${iterations[k - 1]}, against the hypergradient`,
        says: `${classes} differences, of size ${number(change, 2)} at most`,
      });
    const losses = model.get("losses").map((loss, i) => [iterations[i], loss]);
    const span = [Math.min(...iterations), Math.max(...iterations, Math.min(...iterations) + 1)];
    fall.draw({
      x: { label: "updates", range: span },
      y: { label: "validation loss", range: [0, 1.05 * Math.max(...losses.map(([, loss]) => loss))] },
      marks: [
        { kind: "line", points: losses, colour: 1, name: "validation loss, nats" },
        { kind: "dots", points: [losses[k]], colour: 2, size: 6, name: `after ${updatesOf(iterations[k])}` },
      ],
    });
    const words = [
      `After ${updatesOf(iterations[k])} the pixels lie between ${number(low, 2)} and ${number(high, 2)}, and the validation loss is ${number(losses[k][1])}.`,
      k > 0 ? `Since update ${iterations[k - 1]} no pixel moved by more than ${number(change, 2)}.` : "",
    ];
    if (labels.length) words.push(train(k));
    say(words.filter(Boolean).join(" "));
  }

  /** Train on the images, draw how it goes, and say it. */
  function train(k) {
    const curve = learn({
      images: data.snapshots[k], digits: data.digits, labels, penalty: model.get("penalties")[k], rate: model.get("rate"),
    });
    const steps = model.get("steps");
    const best = curve.reduce((top, { loss }, t) => (loss < curve[top].loss ? t : top), 0);
    test.draw({
      x: { label: "step of training", range: [0, LENGTH] },
      y: { label: "loss; share wrong", range: [0, 2.5] },
      marks: [
        { kind: "position", points: [[steps, 0]], colour: 5, dash: "2 3", name: `${steps} steps, which the images are learned for` },
        { kind: "line", points: curve.map(({ loss }, t) => [t, loss]), colour: 3, name: `loss on ${labels.length} digits, nats` },
        { kind: "line", points: curve.map(({ right }, t) => [t, 1 - right / labels.length]), colour: 4, dash: "7 4", name: "share of them wrong" },
      ],
    });
    return `Trained on them for ${steps} steps at rate ${number(model.get("rate"), 2)}, softmax regression has `
      + `${curve[steps].right} of ${labels.length} digits right, at a loss of ${number(curve[steps].loss)}; `
      + `the lowest loss in ${LENGTH} steps is ${number(curve[best].loss)}, at step ${best}.`;
  }
  return update;
}

export default { render: explorable(["snapshot", "rate", "steps"], build) };
