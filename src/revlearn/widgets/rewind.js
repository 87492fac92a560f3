// A run of training, taken back step by step: in integers with the information buffer, which meets
// the start bit for bit, and in floats, which miss it.

import { Plot, button, choice, element, explorable, number, player, reducedMotion, slider } from "./common.js";
import { DENOMINATOR, ExactSGD, FixedPointOverflow, fromFixed, numerator } from "./exact.js";

// The loss (w₂ − w₁²/2)²/2 + (w₁ − 1)²/40, a curved valley with its minimum at (1, 1/2).
// Its gradient takes only sums and products, which every machine rounds alike.
function gradient([w1, w2]) {
  const across = w2 - 0.5 * w1 * w1;
  return [0.05 * (w1 - 1) - across * w1, across];
}

const ACROSS = [-2.6, 2];
const UP = [-0.5, 2.6];
const WAYS = {
  exact: { text: "in integers, with the buffer", short: "with the buffer: 0 at every step", colour: 1 },
  forgetful: { text: "in integers, the buffer's bits set to 0", short: "buffer set to 0", colour: 4, dash: "8 3" },
  float: { text: "in floating point, divided by γ", short: "floats", colour: 2 },
};
const FLOOR = 1e-18; // where the axis of distances ends

/** Curves of equal loss inside the frame, from its equation solved for w₂. */
function levels() {
  const curves = [];
  for (const level of [0.005, 0.03, 0.12, 0.4, 1.2, 3])
    for (const side of [-1, 1]) {
      const reach = Math.sqrt(40 * level);
      const [from, to] = [Math.max(ACROSS[0], 1 - reach), Math.min(ACROSS[1], 1 + reach)];
      let curve = [];
      for (let k = 0; k <= 120; k += 1) {
        const w1 = from + ((to - from) * k) / 120;
        const w2 = 0.5 * w1 * w1 + side * Math.sqrt(Math.max(0, 2 * level - (w1 - 1) ** 2 / 20));
        if (w2 > UP[0] && w2 < UP[1]) curve.push([w1, w2]);
        else if (curve.length) curve = void curves.push(curve) ?? [];
      }
      curves.push(curve);
    }
  const name = (k) => (k === 0 ? "equal loss" : undefined);
  return curves.map((points, k) => ({ kind: "line", points, colour: 5, thin: true, name: name(k) }));
}

/** The state of a run, as numbers and as it is. */
const read = ({ weights, velocity }) => ({
  weights: fromFixed(weights), velocity: fromFixed(velocity), integers: { weights: [...weights], velocity: [...velocity] },
});

/** Train in integers; returns the run at its end, and what it was at every step. */
function train(settings, steps) {
  const run = new ExactSGD({ ...settings, gradient });
  const states = [read(run)];
  while (run.steps < steps) {
    run.step();
    states.push(read(run));
  }
  return { run, states };
}

/** Take a copy of a run back without its buffer. The states by step, as far as they fit the range. */
function takeBackForgetful(run) {
  const back = run.copy();
  back.buffer.forget();
  const states = { [back.steps]: read(back) };
  try {
    while (back.steps > 0) {
      back.unstep();
      states[back.steps] = read(back);
    }
  } catch (error) {
    if (!(error instanceof FixedPointOverflow)) throw error;
  }
  return states;
}

/** Train in floats and take it back in floats: the states by step, on both ways. */
function inFloats({ start, learningRate, momentum }, steps) {
  const ratio = Number(numerator(momentum)) / Number(DENOMINATOR);
  let [weights, velocity] = [start, start.map(() => 0)];
  const states = [{ weights, velocity }];
  const move = (way) => (weights = weights.map((w, k) => w + way * learningRate * velocity[k]));
  for (let t = 0; t < steps; t += 1) {
    const slope = gradient(weights);
    velocity = velocity.map((v, k) => ratio * v - (1 - ratio) * slope[k]);
    move(1);
    states.push({ weights, velocity });
  }
  const reversed = { [steps]: states[steps] };
  for (let t = steps - 1; t >= 0; t -= 1) {
    move(-1);
    const slope = gradient(weights);
    velocity = velocity.map((v, k) => (v + (1 - ratio) * slope[k]) / ratio);
    if (![...weights, ...velocity].every(Number.isFinite)) break;
    reversed[t] = { weights, velocity };
  }
  return { states, reversed };
}

const distance = (one, other) => Math.hypot(...one.weights.map((w, k) => w - other.weights[k]));
const same = (one, other) => ["weights", "velocity"].every((slot) => one[slot].every((whole, k) => whole === other[slot][k]));
const decimals = (value) => (Math.abs(value) < 1e4 ? value.toFixed(9) : value.toExponential(6)).replaceAll("-", "−");
const hexadecimal = (whole) => BigInt.asUintN(64, whole).toString(16).padStart(16, "0").replace(/^.{8}/, "$& ");

function build({ root, model, set, say, guard }) {
  const changes = (trait) => (value) => set(trait, value);
  const position = slider({
    label: "step t (scrub)", min: 0, max: model.get("steps"), step: 1, value: model.get("position"),
    show: (value) => `${value} of ${model.get("steps")}`, change: changes("position"),
  });
  const momentum = slider({
    label: "momentum γ", min: 0.5, max: 0.99, step: 0.01, value: model.get("momentum"),
    show: (value) => value.toFixed(2), change: changes("momentum"),
  });
  const rate = slider({
    label: "learning rate α", min: 0.05, max: 1, step: 0.05, value: model.get("learning_rate"),
    show: (value) => value.toFixed(2), change: changes("learning_rate"),
  });
  const length = slider({
    label: "steps of training", min: 10, max: 500, step: 10, value: model.get("steps"),
    change: (steps) => {
      const atEnd = now() === model.get("steps");
      set("steps", steps);
      if (atEnd) set("position", steps);
    },
  });
  const way = choice({
    label: "taken back", value: model.get("arithmetic"), change: changes("arithmetic"),
    options: Object.fromEntries(Object.entries(WAYS).map(([name, { text }]) => [name, text])),
  });
  const play = player({
    label: "play backwards", interval: 40,
    step: guard(() => {
      const stride = reducedMotion() ? 1 : Math.ceil(model.get("steps") / 200);
      set("position", now() === 0 ? model.get("steps") : Math.max(0, now() - stride));
      return now() > 0; // it stops where the start must be met
    }),
  });
  const plane = new Plot({ label: "loss landscape: first weight across, second weight up", height: 300 });
  const course = new Plot({ label: "distance of the way back from the run, at each step", height: 200 });
  const table = element("table", { class: "revlearn-table" });
  const buffers = element("div", { class: "revlearn-bits" });
  root.append(
    position, momentum, rate, length,
    element("div", { class: "revlearn-controls" }, way, play, button("to the end", () => set("position", model.get("steps")))),
    plane.element, course.element, element("div", { class: "revlearn-scroll" }, table), buffers,
  );
  const now = () => Math.min(model.get("position"), model.get("steps"));
  const contours = levels();
  let made; // the run that is scrubbed, and what it is compared with
  let madeFrom;

  function renew() {
    const settings = { start: model.get("start"), learningRate: model.get("learning_rate"), momentum: model.get("momentum") };
    const steps = model.get("steps");
    const key = JSON.stringify([settings, steps]);
    if (key === madeFrom) return;
    const { run, states } = train(settings, steps);
    const floats = inFloats(settings, steps);
    const there = { exact: states, forgetful: states, float: floats.states };
    const back = { forgetful: takeBackForgetful(run), float: floats.reversed };
    const errors = { exact: states.map(() => 0) };
    for (const name of ["forgetful", "float"])
      errors[name] = there[name].map((state, t) => (back[name][t] ? distance(back[name][t], state) : Infinity));
    const loss = -Math.log2(Number(run.numerator) / Number(DENOMINATOR)); // bits, a step and weight
    made = { run, steps, there, back, errors, loss };
    madeFrom = key;
  }

  function update() {
    renew();
    const { run, steps, loss } = made;
    const t = now();
    while (run.steps > t) run.unstep();
    while (run.steps < t) run.step();
    const arithmetic = model.get("arithmetic");
    const there = made.there[arithmetic];
    const back = arithmetic === "exact" ? { [t]: read(run) } : made.back[arithmetic];
    position.range(0, steps);
    position.move(t);
    momentum.move(model.get("momentum"));
    rate.move(model.get("learning_rate"));
    length.move(steps);
    way.move(arithmetic);
    drawPlane(t, there, back, arithmetic);
    drawErrors(t, arithmetic);
    table.replaceChildren(...rows(back[t]));
    const buffer = { exact: run.buffer, forgetful: forgotten(run.buffer) }[arithmetic];
    const most = Math.ceil(steps * loss) + 4;
    buffers.replaceChildren(...[0, 1].flatMap((k) => bitRows(buffer, k, most, root.clientWidth || 600)));
    say(arithmetic === "exact" ? tellExact(t, back[t], there[t]) : tellMiss(t, there, back, arithmetic));
  }

  function drawPlane(t, there, back, arithmetic) {
    const places = there.map(({ weights }) => weights);
    const inside = ([w1, w2]) => w1 > ACROSS[0] && w1 < ACROSS[1] && w2 > UP[0] && w2 < UP[1];
    const marks = [...contours];
    let here = back[t]?.weights;
    if (arithmetic === "exact")
      marks.push(
        { kind: "line", points: places.slice(t), colour: 5, dash: "2 4", name: "steps undone" },
        { kind: "line", points: places.slice(0, t + 1), colour: 1, name: "steps not yet undone" },
      );
    else {
      const way = [];
      for (let step = made.steps; step >= t && back[step] && inside(back[step].weights); step -= 1) way.push(back[step].weights);
      marks.push(
        { kind: "line", points: places, colour: 1, dash: "2 4", name: "the run" },
        { kind: "dots", points: [places[t]], colour: 1, size: 5, name: `the run at step ${t}` },
        { kind: "line", points: way, colour: WAYS[arithmetic].colour, name: "taken back" },
      );
      if (here && !inside(here)) here = undefined;
    }
    if (here) marks.push({ kind: "dots", points: [here], colour: WAYS[arithmetic].colour, size: 7, name: `where it is at step ${t}` });
    plane.draw({ x: { label: "first weight", range: ACROSS }, y: { label: "second weight", range: UP }, marks });
    const [w1, w2] = model.get("start");
    plane.handle("start", {
      x: w1, y: w2, step: [0.1, 0.1], colour: 3, label: "where training starts",
      says: `first weight ${number(w1, 2)}, second weight ${number(w2, 2)}`,
      move: (x, y) => set("start", [Math.round(x * 20) / 20, Math.round(y * 20) / 20]),
    });
  }

  function drawErrors(t, arithmetic) {
    const back = (step) => made.steps - step;
    const grown = made.errors.float.map((_, step) => [step, 2 ** (made.loss * back(step) - 53)]);
    course.draw({
      x: { label: "step t: the way back goes from right to left", range: [0, made.steps] },
      y: { label: "distance from the run", range: [FLOOR, 1e6], log: true },
      marks: [
        { kind: "line", points: grown.filter(([, size]) => size < 1e6), colour: 5, dash: "2 4", name: "2⁻⁵³, times 1/γ at each step" },
        ...Object.entries(WAYS).map(([name, { short, colour, dash }]) => ({
          kind: "line", colour, dash, name: short,
          // A distance of 0 has no place on this axis; the buffer's line runs along its lower end.
          points: made.errors[name].map((error, step) => [step, name === "exact" ? FLOOR : error || NaN]).filter(([, error]) => error < 1e9),
        })),
        { kind: "position", points: [[t, 1]], colour: 3, dash: "8 3", name: `step ${t}` },
        { kind: "dots", points: [[t, Math.max(FLOOR, made.errors[arithmetic][t])]], colour: WAYS[arithmetic].colour, size: 6 },
      ],
    });
  }

  function tellExact(t, state, before) {
    const where = `The weights are ${pair(state.weights)}, the velocity ${pair(state.velocity)}.`;
    if (!same(state.integers, before.integers)) throw new Error(`at step ${t} the integers are not those of the way there`);
    if (t === 0) return `Step 0: the start is met bit for bit. All four integers are those that training began with, and both buffers are empty. ${where}`;
    const [one, two] = [0, 1].map((k) => made.run.buffer.bits(k).length);
    const undone = t === made.steps ? "No step is undone yet." : `Undone: ${made.steps - t} steps. All four integers are those of the way there.`;
    return `Step ${t} of ${made.steps}. ${where} The buffers hold ${one} and ${two} bits; t log₂(d/n) is ${(t * made.loss).toFixed(1)}. ${undone}`;
  }

  function tellMiss(t, there, back, arithmetic) {
    const medium = arithmetic === "float" ? "In floating point" : "Without the buffer's bits";
    const errors = made.errors[arithmetic];
    const off = errors.findLastIndex((error) => error > 0.01);
    const whole = off < 0
      ? `The whole way back stays within 0.01 of the run; at the start it is ${number(errors[0])} off.`
      : `The distance first exceeds 0.01 at step ${off}, after ${made.steps - off} steps back.`;
    if (!back[t]) return `${medium} nothing is left at step ${t}: from step ${Math.min(...Object.keys(back)) - 1} on the numbers leave the range. ${whole}`;
    const what = t === 0 ? "the start" : `step ${t} of ${made.steps}`;
    return `${medium} ${what} is missed by ${number(errors[t])}: the weights are ${pair(back[t].weights)}, those of the run ${pair(there[t].weights)}. ${whole}`;
  }
  return update;
}

const pair = (values) => `(${values.map((value) => number(value)).join(", ")})`;

function forgotten(buffer) {
  const other = buffer.copy();
  other.forget();
  return other;
}

/** The state as a table. Floats have no integers to show. */
function rows(state) {
  const line = (name, cells) => element("tr", {}, element("th", { scope: "row" }, name), ...cells.map((cell) => element("td", {}, cell)));
  const head = ["", "first", "second"].map((name) => element("th", { scope: "col" }, name));
  const of = (slot) => (state ? state[slot].map(decimals) : ["out of range", "out of range"]);
  const whole = (slot) => state?.integers?.[slot].map(hexadecimal) ?? ["–", "–"];
  return [
    element("tr", {}, ...head),
    line("weight", of("weights")), line("as integer, hex", whole("weights")),
    line("velocity", of("velocity")), line("as integer, hex", whole("velocity")),
  ];
}

/** One buffer, bit by bit: filled boxes are ones, and a bar runs under each word that is spilled. */
function bitRows(buffer, k, most, width) {
  const name = `buffer ${k + 1}: `;
  if (!buffer) return [element("p", {}, `${name}none, floats keep no digit that a product loses`)];
  const bits = buffer.bits(k);
  const spilled = buffer.spilled.length;
  const perRow = width < 500 ? 32 : 64;
  const [cell, high] = [(width - 4) / perRow, 18];
  const parts = { 0: "", 1: "", bar: "" };
  const side = Math.min(cell - 2, 10);
  [...bits].forEach((bit, at) => {
    const [x, y] = [2 + (at % perRow) * cell, 2 + Math.floor(at / perRow) * high];
    parts[bit] += `M${x.toFixed(1)} ${y}h${side.toFixed(1)}v10h${(-side).toFixed(1)}z`;
    if (at % 32 === 0 && at < 32 * spilled) parts.bar += `M${x.toFixed(1)} ${y + 13}h${(32 * cell - 3).toFixed(1)}`;
  });
  const height = Math.ceil(Math.max(most, bits.length, 1) / perRow) * high + 2;
  const words = spilled ? `, ${spilled} × 32 of them spilled (underlined), ${bits.length - 32 * spilled} in the word` : "";
  return [
    element("p", {}, `${name}${bits.length} bits${words}`),
    element("svg", { width, height, "aria-hidden": "true" },
      element("path", { class: "revlearn-colour-1 revlearn-bit", d: parts[0] }),
      element("path", { class: "revlearn-colour-1 revlearn-bit revlearn-bar", d: parts[1] }),
      element("path", { class: "revlearn-colour-5", d: parts.bar })),
  ];
}

export default {
  render: explorable(["learning_rate", "momentum", "steps", "position", "arithmetic", "start"], build),
};
