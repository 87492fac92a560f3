// The final loss of a small network over the learning rate: the tangent that the exact hypergradient
// gives against the secant that the eye reads off the curve, and where the two part.

import { Plot, choice, element, explorable, nearestRatio, number, slider } from "./common.js";

// Eight numbers in two classes, those near zero and the others. The momentum is 0.9, rounded down to
// a ratio as the package does it.
const INPUTS = [-7, -5, -3, -1, 1, 3, 5, 7].map((odd) => (2 * odd) / 7);
const LABELS = INPUTS.map((input) => (Math.abs(input) < 1 ? 1 : -1));
const UNITS = 3;
const START = [1.6, -0.6, -0.5, -1.1, 0.9, -2.3, 1.7, -0.8, 0.3, -0.2]; // in, out, bias of each; bias
const MOMENTUM = nearestRatio(0.9);

/**
 * The loss, mean log(1 + exp(−label · output)), its gradient, and how the gradient changes when the
 * weights change by `dw`: the Hessian times `dw`.
 */
function lossAt(w, dw) {
  const gradient = Array(w.length).fill(0);
  const change = Array(w.length).fill(0);
  const last = w.length - 1;
  const h = Array(UNITS).fill(0);
  const dh = Array(UNITS).fill(0);
  let loss = 0;
  INPUTS.forEach((x, i) => {
    let output = w[last];
    let dOutput = dw[last];
    for (let j = 0; j < UNITS; j += 1) {
      h[j] = Math.tanh(w[j] * x + w[2 * UNITS + j]);
      dh[j] = (1 - h[j] * h[j]) * (dw[j] * x + dw[2 * UNITS + j]);
      output += w[UNITS + j] * h[j];
      dOutput += dw[UNITS + j] * h[j] + w[UNITS + j] * dh[j];
    }
    const margin = LABELS[i] * output;
    const doubt = 1 / (1 + Math.exp(margin));
    loss += (Math.max(0, -margin) + Math.log1p(Math.exp(-Math.abs(margin)))) / INPUTS.length;
    const s = (-LABELS[i] * doubt) / INPUTS.length;
    const ds = (doubt * (1 - doubt) * dOutput) / INPUTS.length;
    for (let j = 0; j < UNITS; j += 1) {
      const out = w[UNITS + j];
      const flat = 1 - h[j] * h[j];
      const e = s * out * flat;
      const de = (ds * out + s * dw[UNITS + j]) * flat - 2 * s * out * h[j] * dh[j];
      gradient[j] += e * x;
      change[j] += de * x;
      gradient[UNITS + j] += s * h[j];
      change[UNITS + j] += ds * h[j] + s * dh[j];
      gradient[2 * UNITS + j] += e;
      change[2 * UNITS + j] += de;
    }
    gradient[last] += s;
    change[last] += ds;
  });
  return { loss, gradient, change };
}

/**
 * Train, and carry along how weights and velocity change with log α (`source` 1), or when the start
 * is moved by `apart` in each weight (`source` 0). Returns the final loss, its derivative, and by
 * which factor the change of the weights grew per step in the second half, as a logarithm.
 */
export function train(logRate, steps, { source = 1, apart = 0 } = {}) {
  const rate = Math.exp(logRate);
  const w = [...START];
  const v = Array(w.length).fill(0);
  const dw = Array(w.length).fill(apart);
  const dv = Array(w.length).fill(0);
  const half = Math.floor(steps / 2);
  let halfway = 0;
  for (let t = 0; t < steps; t += 1) {
    if (t === half) halfway = Math.hypot(...dw);
    const { gradient, change } = lossAt(w, dw);
    for (let k = 0; k < w.length; k += 1) {
      v[k] = MOMENTUM * v[k] - (1 - MOMENTUM) * gradient[k];
      dv[k] = MOMENTUM * dv[k] - (1 - MOMENTUM) * change[k];
      w[k] += rate * v[k];
      dw[k] += rate * (dv[k] + source * v[k]);
    }
  }
  const { loss, gradient } = lossAt(w, dw);
  const slope = gradient.reduce((sum, g, k) => sum + g * dw[k], 0);
  return { loss, slope, growth: Math.log(Math.hypot(...dw) / halfway) / (steps - half) };
}

/** What there is to look at: a curve of [log rate, loss, slope], and any point and window of it. */
function liveNetwork(steps) {
  const point = (logRate) => {
    const { loss, slope } = train(logRate, steps);
    return [logRate, loss, slope];
  };
  const spread = (from, to, count) =>
    Array.from({ length: count }, (_, k) => point(from + ((to - from) * k) / (count - 1)));
  return {
    range: [0, 5],
    curve: spread(0, 5, 401),
    at: point,
    window: (logRate, width, count) => spread(logRate - width / 2, logRate + width / 2, count),
    growth: (logRate) => train(logRate, steps, { source: 0, apart: 1 }).growth,
  };
}

function storedRuns(stored) {
  const rows = JSON.parse(stored).map((row) => row.map((value) => value ?? NaN));
  const nearest = (logRate) =>
    rows.reduce((best, row, k) => (Math.abs(row[0] - logRate) < Math.abs(rows[best][0] - logRate) ? k : best), 0);
  return {
    range: [rows[0][0], rows.at(-1)[0]],
    curve: rows,
    at: (logRate) => rows[nearest(logRate)],
    window(logRate, width) {
      const middle = Math.min(Math.max(nearest(logRate), 1), rows.length - 2); // at least its neighbours
      return rows.filter((row, k) => Math.abs(row[0] - logRate) <= width / 2 || Math.abs(k - middle) <= 1);
    },
  };
}

const secant = (points) => (points.at(-1)[1] - points[0][1]) / (points.at(-1)[0] - points[0][0]);
const agree = (slope, other) => Math.abs(other - slope) <= 0.1 * Math.abs(slope);

/** The widest window over which, and over all narrower ones, the secant is within 10 % of the tangent. */
function reach(view, logRate, slope) {
  let widest = 0;
  for (let fifths = -40; fifths <= 0; fifths += 1) {
    const points = view.window(logRate, 10 ** (fifths / 5), 2);
    if (!agree(slope, secant(points))) break;
    widest = Math.max(10 ** (fifths / 5), points.at(-1)[0] - points[0][0]);
  }
  return widest;
}

const decades = (values) => {
  const sizes = values.map(Math.abs).filter((size) => size > 0 && Number.isFinite(size));
  if (sizes.length === 0) return [0.1, 1];
  return [10 ** Math.floor(Math.log10(Math.min(...sizes))), 10 ** (Math.floor(Math.log10(Math.max(...sizes))) + 1)];
};

function build({ root, model, set, say }) {
  const sources = { network: "a small network, trained here", stored: "the stored experiment" };
  const source = choice({
    label: "data", options: sources, value: model.get("source"), change: (value) => set("source", value),
  });
  const rate = slider({
    label: "log learning rate log α", min: 0, max: 5, step: 0.01, value: model.get("log_rate"),
    show: (value) => value.toFixed(2), change: (value) => set("log_rate", value),
  });
  const width = slider({
    label: "width of the window", min: -8, max: 0, step: 0.1, value: Math.log10(model.get("width")),
    show: (value) => number(10 ** value, 2), change: (value) => set("width", 10 ** value),
  });
  const steps = slider({
    label: "training steps", min: 10, max: 120, step: 10, value: model.get("steps"),
    change: (value) => set("steps", value),
  });
  const losses = new Plot({ label: "final loss over the learning rate", height: 190 });
  const glass = new Plot({ label: "the window, with tangent and secant", height: 240 });
  const sizes = new Plot({ label: "sizes of the slopes over the learning rate", height: 190 });
  if (model.get("stored") !== "[]") root.append(element("div", { class: "revlearn-controls" }, source));
  root.append(rate, width, steps, losses.element, glass.element, sizes.element);

  let made = {};
  function view() {
    const stored = model.get("source") === "stored";
    const key = model.get(stored ? "stored" : "steps");
    if (made.key !== key) made = { key, view: stored ? storedRuns(key) : liveNetwork(key) };
    return made.view;
  }

  function update() {
    const shown = view();
    const [from, to] = shown.range;
    const [logRate, loss, slope] = shown.at(Math.min(Math.max(model.get("log_rate"), from), to));
    const points = shown.window(logRate, model.get("width"), 121);
    const cut = secant(points);
    source.move(model.get("source"));
    rate.range(from, to);
    rate.move(logRate);
    width.move(Math.log10(model.get("width")));
    steps.move(model.get("steps"));
    steps.hidden = model.get("source") === "stored";
    const across = { label: "log learning rate log α", range: shown.range };
    const ends = [points[0], points.at(-1)];
    const [low, high] = decades(shown.curve.map((row) => row[1]));
    losses.draw({
      x: across,
      y: { label: "final loss, nats", range: [low, high], log: true },
      marks: [
        { kind: "position", points: ends, colour: 5, dash: "2 3", name: "the window" },
        { kind: "line", points: shown.curve, colour: 1, name: "loss after training" },
      ],
    });
    losses.handle("rate", {
      x: logRate, y: Math.max(low, Math.min(high, Number.isFinite(loss) ? loss : high)), step: [0.01, 1], colour: 2, label: "learning rate, on the curve",
      says: `log learning rate ${number(logRate)}, loss ${number(loss)}`,
      move: (x) => set("log_rate", Math.round(x * 1000) / 1000),
    });
    magnify(glass, { points, logRate, loss, slope, cut });
    const visible = shown.curve.slice(1, -1).map(([x], k) => [x, Math.abs(secant([shown.curve[k], shown.curve[k + 2]]))]);
    sizes.draw({
      x: across,
      y: { label: "size of the slope", range: decades(shown.curve.map((row) => row[2])), log: true },
      marks: [
        { kind: "position", points: [[logRate, 0]], colour: 5, dash: "2 3" },
        { kind: "line", points: visible, colour: 3, name: "between neighbours on the curve" },
        { kind: "dots", points: shown.curve.map(([x, , g]) => [x, Math.abs(g)]), colour: 2, size: 2, name: "hypergradient" },
      ],
    });
    say(sentence({ logRate, loss, slope, cut, ends, reach: reach(shown, logRate, slope), growth: shown.growth?.(logRate) }));
  }
  return update;
}

/** Draw the window in units that fit it, measured from its middle. */
function magnify(plot, { points, logRate, loss, slope, cut }) {
  const half = Math.max(...points.map(([x]) => Math.abs(x - logRate)));
  const rise = Math.max(0, ...points.map(([, y]) => Math.abs(y - loss)).filter(Number.isFinite)) || 1;
  const [unitX, unitY] = [half, rise].map((size) => 10 ** Math.floor(Math.log10(size)));
  const line = (through, steepness) => {
    const reach = Math.min(half, (1.2 * rise) / Math.abs(steepness)); // to the edge of the frame
    return [-reach, reach].map((x) => [x / unitX, (through + x * steepness) / unitY]);
  };
  const middle = cut * (logRate - points[0][0]) + points[0][1] - loss;
  const unit = (size) => (size === 1 ? "" : `, in units of ${number(size, 1).replace("1·", "")}`);
  plot.draw({
    x: { label: `log α minus ${number(logRate)}${unit(unitX)}`, range: [-half / unitX, half / unitX] },
    y: { label: `change of loss${unit(unitY)}`, range: [(-1.2 * rise) / unitY, (1.2 * rise) / unitY] },
    marks: [
      { kind: "line", points: points.map(([x, y]) => [(x - logRate) / unitX, (y - loss) / unitY]), colour: 1, name: "loss" },
      { kind: "line", points: line(middle, cut), colour: 3, dash: "7 4", name: "secant across the window" },
      { kind: "line", points: line(0, slope), colour: 2, dash: "2 3", name: "tangent, by the hypergradient" },
      { kind: "dots", points: [[0, 0]], colour: 2, size: 5 },
    ],
  });
}

/** Say how fast two close runs part, from the logarithm of the factor per step. */
function apart(growth) {
  if (Math.abs(growth) < 0.005) return "neither part nor approach";
  return `${growth > 0 ? "part" : "approach"} by a factor of ${number(Math.exp(growth))} per step`;
}

function sentence({ logRate, loss, slope, cut, ends, reach, growth }) {
  if (!Number.isFinite(slope) || !Number.isFinite(loss))
    return `At log learning rate ${number(logRate)} the loss or its derivative is not finite.`;
  const spread = ends[1][0] - ends[0][0];
  return [
    `At log learning rate ${number(logRate, 4)} the loss is ${number(loss)} and the hypergradient ${number(slope)};`,
    `the slope across the window of width ${number(spread, 2)} is ${number(cut)}.`,
    reach > 0
      ? `The two agree within 10 % up to a width of ${number(reach, 2)}.`
      : "At no width that can be shown do they agree within 10 %.",
    growth === undefined ? "" : `In the second half of training two close runs ${apart(growth)}.`,
  ].filter(Boolean).join(" ");
}

export default {
  render: explorable(["log_rate", "width", "steps", "source", "stored"], build),
};
