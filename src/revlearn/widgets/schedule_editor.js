// Schedules as points to drag, draw or type; the run they lead to; and which way each should move.

import { Plot, button, choice, element, entry, explorable, number, player, slider } from "./common.js";
import { WARPS, gather, interpolate, parsed, written } from "./schedule_points.js";
import { hypergradient, train, unpack, validate } from "./training.js";

const KINDS = { learning_rate: "learning rate", momentum: "momentum" };
const VARIABLE = { learning_rate: "log α", momentum: "logit γ" };
const MOMENTA = [0.5, 0.7, 0.9, 0.97, 0.99].map((at) => ({ at, text: String(at) }));
const FARTHEST = 2; // how far the last plot looks along the hypergradient
const RANGE = 2048; // of revlearn's fixed-point weights

function build({ root, model, set, say, guard }) {
  const steps = model.get("steps");
  const layers = model.get("layers");
  const limits = model.get("limits");
  const presets = model.get("presets");
  const problem = model.get("problem").sizes ? unpack(model.get("problem")) : null;
  const kinds = Object.keys(KINDS);
  const each = (make) => Object.fromEntries(kinds.map((kind) => [kind, make(kind)]));

  let origin = model.get("points"); // what "reset" goes back to
  let present = null; // the outcome of the points now
  const history = [];
  let last = null; // the gesture of the last change
  let ours = origin; // the points as last set here, and not by Python or by another view
  let looking = null; // the timer of the last plot
  let typed = null; // what the text field was last filled from

  /** Change the points. Changes of one gesture, such as a drag, are one change to "undo". */
  function edit(points, gesture, promised) {
    if (promised === undefined) play.stop(); // the reader takes over
    if (same(points, model.get("points"))) return;
    if (!gesture || gesture !== last) history.push({ points: model.get("points"), outcome: present, promised });
    last = gesture;
    set("points", (ours = points));
  }

  function put(kind, layer, schedule, gesture) {
    const points = structuredClone(model.get("points"));
    points[kind][layer] = schedule;
    edit(points, gesture);
  }

  const ends = Object.fromEntries(
    kinds.flatMap((kind) => layers.map((name, layer) => [`${kind} ${layer}`, `${KINDS[kind]}, ${name}`])));
  const edited = choice({
    label: "edit", options: ends, value: model.get("edited").join(" "),
    change: (value) => set("edited", [value.split(" ")[0], Number(value.split(" ")[1])]),
  });
  const preset = choice({
    label: "start from", options: Object.fromEntries(Object.keys(presets).map((name) => [name, name])),
    value: Object.keys(presets)[0],
    change: (name) => edit((origin = presets[name])),
  });
  const text = entry({
    label: "points", value: "",
    change: guard((value) => {
      const [kind, layer] = model.get("edited");
      put(kind, layer, parsed(value, steps, limits[kind]));
    }),
  });
  const length = slider({
    label: "length of a step", min: 0.05, max: FARTHEST, step: 0.05, value: model.get("step_length"),
    show: (value) => `${value.toFixed(2)} (×${Math.exp(value).toFixed(2)})`,
    change: (value) => set("step_length", value),
  });
  const follow = () => {
    const reach = model.get("step_length");
    const promised = present.slopes ? -reach * slopeOf(present) : 0;
    edit(along(model.get("points"), present, reach), undefined, promised);
  };
  const step = button("take a hypergradient step", guard(follow));
  const play = player({
    label: "step until it rises", interval: 250,
    step: guard(() => {
      const before = present.value;
      follow();
      return present.value < before;
    }),
  });
  const undo = button("undo", () => {
    play.stop();
    const { points } = history.pop();
    last = null;
    const named = Object.keys(presets).find((name) => same(presets[name], points));
    if (named) {
      origin = presets[named];
      preset.move(named);
    }
    set("points", (ours = points));
  });
  const reset = button("reset", () => edit(origin));
  const result = element("p", { class: "revlearn-controls" });
  const plan = new Plot({ label: "schedules: step across, value up", height: 260 });
  const slopes = new Plot({ label: "hypergradient at each step", height: 180 });
  const curves = new Plot({ label: "loss at each step of training", height: 220 });
  const ahead = new Plot({ label: "final loss against the distance along the hypergradient", height: 220 });
  root.append(
    element("div", { class: "revlearn-controls" }, edited, preset),
    plan.element, text, length,
    element("div", { class: "revlearn-controls" }, step, ...(problem ? [play] : []), undo, reset),
    result,
    slopes.element,
    element("div", { class: "revlearn-plots" }, curves.element, ...(problem ? [ahead.element] : [])),
  );

  const same = (a, b) => kinds.every((kind) => JSON.stringify(a[kind]) === JSON.stringify(b[kind]));
  const valuesOf = (kind, schedule) => interpolate(schedule, steps, WARPS[kind]);
  const byStep = (points) => each((kind) => points[kind].map((schedule) => valuesOf(kind, schedule)));

  /** Train in the browser with these points. */
  function compute(points) {
    const schedules = byStep(points);
    const run = train(problem, schedules.learning_rate, schedules.momentum);
    const validation = []; // every third step is enough for the eye
    for (let t = steps % 3; t <= steps; t += 3) validation.push([t, validate(problem, run.weights[t]).loss]);
    const found = hypergradient(problem, run, schedules.learning_rate, schedules.momentum);
    return {
      value: validation.at(-1)[1], validation, slopes: { learning_rate: found.rates, momentum: found.momenta },
      training: run.seen.map(({ loss }, t) => [t, loss]),
      left: run.weights.findIndex((w) => !w.every((weight) => Math.abs(weight) < RANGE)),
    };
  }

  /** What Python last computed; its hypergradient is of use for its own points only. */
  function stored(points) {
    const answer = model.get("answer");
    if (!answer.points) return { value: NaN, training: [], slopes: null, left: -1, stale: true };
    const stale = !same(answer.points, points);
    return {
      value: answer.value, points: answer.points, stale, left: -1,
      training: answer.losses.map((loss, t) => [t, loss]),
      slopes: stale ? null : { learning_rate: answer.learning_rate, momentum: answer.momentum },
    };
  }

  /** Add derivatives by log α and logit γ, at each step and at each point. */
  function complete(outcome, points) {
    if (!outcome.slopes) return outcome;
    const warped = each((kind) => points[kind].map((schedule, layer) =>
      valuesOf(kind, schedule).map((value, t) => WARPS[kind].slope(value) * outcome.slopes[kind][layer][t])));
    const atPoints = each((kind) => points[kind].map((schedule, layer) => gather(schedule, warped[kind][layer])));
    const largest = Math.max(...kinds.flatMap((kind) => atPoints[kind].flat().map(Math.abs)));
    const usable = Number.isFinite(largest) && largest > 0;
    return { ...outcome, slopes: usable ? warped : null, atPoints, largest };
  }

  /** The fall of the loss that a hypergradient promises for each unit of a step's length. */
  const slopeOf = ({ atPoints, largest }) =>
    kinds.flatMap((kind) => atPoints[kind].flat()).reduce((sum, slope) => sum + slope ** 2, 0) / largest;

  /** The points moved against the hypergradient: the farthest by `reach`, none beyond the limits. */
  function along(points, { atPoints, largest }, reach) {
    return each((kind) => points[kind].map((schedule, layer) => schedule.map(([t, value], k) => {
      const { to, back } = WARPS[kind];
      const moved = back(to(value) - (reach * atPoints[kind][layer][k]) / largest);
      return [t, Number(Math.min(Math.max(moved, limits[kind][0]), limits[kind][1]).toPrecision(5))];
    })));
  }

  let seen = null; // the points that `present` belongs to
  function update() {
    const points = model.get("points");
    if (present && !same(points, ours)) history.push({ points: ours, outcome: present });
    ours = points;
    const [kind, layer] = model.get("edited");
    edited.move(`${kind} ${layer}`);
    length.move(model.get("step_length"));
    if (!problem || seen !== points) {
      present = complete(problem ? compute(points) : stored(points), points);
      seen = points;
    }
    const before = history.at(-1);
    const can = present.slopes !== null;
    [step.disabled, play.disabled, undo.disabled] = [!can, !can, !before];
    const fill = `${kind} ${layer} ${written(points[kind][layer])}`;
    if (fill !== typed) text.move(written(points[kind][layer]), `points of the ${ends[`${kind} ${layer}`]}`);
    typed = fill;
    drawPlan(points, kind, layer, before);
    drawSlopes(kind);
    drawCurves(before);
    const earlier = before ? ` (before ${shown(before.outcome.value)})` : "";
    result.textContent = `final loss ${shown(present.value)}${earlier}`;
    const sentence = describe(before);
    say(sentence);
    clearTimeout(looking);
    if (problem) lookAhead(points, sentence);
    if (model.get("error")) throw Object.assign(new Error(model.get("error")), { name: "Your training raised" });
  }

  function drawPlan(points, kind, layer, before) {
    const { to, back } = WARPS[kind];
    const across = Array.from({ length: steps }, (_, t) => t);
    const curve = (schedule) => valuesOf(kind, schedule).map((value, t) => [t, value]);
    const within = ([t, value]) => [t, Math.min(Math.max(value, limits[kind][0]), limits[kind][1])];
    // Arrows stand beside the grips, 11 pixels to the left and to the right with two layers.
    const beside = (22 * (steps + 4)) / Math.max(166, (plan.element.clientWidth || 600) - 74);
    const marks = [];
    const faint = before?.points ?? (present.stale ? present.points : null);
    faint?.[kind].forEach((schedule, k) => {
      const name = k === 0 && "before the last change";
      marks.push({ kind: "line", points: curve(schedule), colour: 5, dash: "1 4", name });
    });
    layers.forEach((name, k) => {
      marks.push({ kind: "line", points: curve(points[kind][k]), colour: k + 1, dash: k ? "7 4" : undefined, name });
      if (k !== layer) marks.push({ kind: "dots", points: points[kind][k], colour: k + 1, size: 4 });
      if (present.slopes)
        points[kind][k].forEach(([t, value], j) => {
          const aside = t + beside * (k - (layers.length - 1) / 2);
          const end = back(to(value) - (model.get("step_length") * present.atPoints[kind][k][j]) / present.largest);
          marks.push({ kind: "arrow", points: [[aside, value], within([aside, end])], colour: k + 1 });
        });
    });
    plan.draw({
      x: { label: "step t", range: [-3, steps + 1] },
      y: {
        label: KINDS[kind], range: limits[kind],
        ...(kind === "momentum" ? { warp: WARPS.momentum, ticks: MOMENTA } : { log: true }),
      },
      marks,
    });
    const own = points[kind][layer];
    plan.drop((key) => key.startsWith(`${kind} ${layer} `) && Number(key.split(" ")[2]) < own.length);
    own.forEach(([t, value], k) => {
      plan.handle(`${kind} ${layer} ${k}`, {
        x: t, y: value, colour: layer + 1, step: [1, kind === "momentum" ? 0.1 : 1.1],
        label: `point ${k + 1} of the ${ends[`${kind} ${layer}`]}`,
        says: `step ${t}, ${number(value)}`,
        move: (x, y) => {
          const low = k === 0 ? 0 : own[k - 1][0] + 1;
          const high = k === own.length - 1 ? steps - 1 : own[k + 1][0] - 1;
          const at = Math.min(Math.max(Math.round(x), low), high);
          const moved = [at, Number(y.toPrecision(3))];
          put(kind, layer, own.map((point, j) => (j === k ? moved : point)), `${kind} ${layer} ${k}`);
        },
      });
    });
  }

  for (const begins of ["pointerdown", "focusin"]) plan.svg.addEventListener(begins, () => (last = null));

  // A pen on the plot: points take its height where it passes their step.
  let pen = null;
  plan.svg.classList.add("revlearn-canvas");
  plan.svg.addEventListener("pointerdown", (event) => {
    if (event.target.closest("[role=slider]")) return;
    plan.svg.setPointerCapture(event.pointerId);
    pen = plan.place(event);
  });
  plan.svg.addEventListener("pointermove", (event) => {
    if (!pen || !plan.svg.hasPointerCapture(event.pointerId)) return;
    const [kind, layer] = model.get("edited");
    const [from, to] = [pen, plan.place(event)];
    const [low, high] = [Math.min(from[0], to[0]), Math.max(from[0], to[0])];
    pen = to;
    const value = Number(Math.min(Math.max(to[1], limits[kind][0]), limits[kind][1]).toPrecision(3));
    const own = model.get("points")[kind][layer];
    const drawn = own.map(([t, old]) => [t, t >= low - 0.5 && t <= high + 0.5 ? value : old]);
    if (drawn.some(([, now], k) => now !== own[k][1])) put(kind, layer, drawn, "pen");
  });
  plan.svg.addEventListener("pointerup", () => (pen = null));
  plan.svg.addEventListener("pointercancel", () => (pen = null));

  function drawSlopes(kind) {
    const values = present.slopes?.[kind] ?? [];
    const most = 1.1 * Math.max(1e-9, ...values.flat().map(Math.abs));
    const tick = Number((0.8 * most).toPrecision(1));
    const shift = (k) => (k - (layers.length - 1) / 2) * 0.4;
    slopes.draw({
      x: { label: "step t", range: [-3, steps + 1] },
      y: {
        label: "hypergradient", range: [-most, most],
        ticks: [-tick, 0, tick].map((at) => ({ at, text: number(at, 1) })),
      },
      marks: values.map((layer, k) => ({
        kind: k ? "dots" : "bars", size: k ? 2.5 : 4, colour: k + 1,
        points: layer.map((slope, t) => [t + shift(k), slope]),
        name: `d loss / d ${VARIABLE[kind]}, ${layers[k]}`,
      })),
    });
  }

  function drawCurves(before) {
    const judged = problem ? "validation" : "training";
    // The first loss is the highest of a run that works, so that the axis keeps still.
    const first = (problem ? present.validation[0] : present.training[0])?.[1] ?? 1;
    const marks = [{ kind: "line", points: present[judged], colour: 1, name: judged }];
    if (problem)
      marks.unshift({ kind: "dots", points: present.training, colour: 2, size: 1.5, name: "training, minibatch" });
    if (before)
      marks.unshift({ kind: "line", points: before.outcome[judged], colour: 5, dash: "1 4", name: `${judged}, before` });
    curves.draw({
      x: { label: "step t", range: [0, steps] },
      y: { label: "loss in nats", range: [0, 1.15 * first] },
      marks,
    });
  }

  /** Follow the hypergradient farther and farther, a run at a time, so that the page stays responsive. */
  function lookAhead(points, sentence) {
    if (!present.slopes) return void ahead.draw(frame([]));
    const { value } = present;
    const reached = model.get("step_length");
    const found = [[0, value]];
    const slope = slopeOf(present);
    const promise = [[0, value], [Math.min(FARTHEST, value / slope), Math.max(0, value - FARTHEST * slope)]];
    const show = () =>
      ahead.draw(frame([
        { kind: "line", points: promise, colour: 2, dash: "6 4", name: "promised by the hypergradient" },
        { kind: "line", points: found, colour: 1, name: "found by training" },
        { kind: "dots", points: found, colour: 1 },
        { kind: "position", points: [[reached, 0]], colour: 3, dash: "2 3", name: "length of a step" },
      ]));
    const look = () => {
      if (!root.isConnected) return;
      const reach = found.length * 0.2;
      const schedules = byStep(along(points, present, reach));
      const run = train(problem, schedules.learning_rate, schedules.momentum);
      found.push([reach, validate(problem, run.weights.at(-1)).loss]);
      show();
      if (reach < FARTHEST - 0.1) looking = setTimeout(look, 0);
      else {
        const [best, lowest] = found.reduce((a, b) => (b[1] < a[1] ? b : a));
        const farther = best
          ? `Along the hypergradient the loss falls to ${shown(lowest)} at a length of about ${best.toFixed(1)}.`
          : "No step of 0.2 or more along the hypergradient lowers the loss.";
        say(`${sentence} ${farther}`);
      }
    };
    show();
    looking = setTimeout(look, 200);
  }

  const frame = (marks) => ({
    x: { label: "length of a step", range: [0, FARTHEST] },
    y: { label: "final loss", range: [0, 1.15 * Math.min(present.validation[0][1], 2 * present.value || Infinity)] },
    marks,
  });

  function describe(before) {
    if (present.stale)
      return [
        model.get("error")
          ? "Your own training stopped with an error."
          : "This schedule waits for Python, which trains with it.",
        "Where no Python runs, the curve stays that of the last schedule it was trained with.",
      ].join(" ");
    const parts = [`After ${steps} steps the ${problem ? "validation " : ""}loss is ${shown(present.value)}.`];
    if (present.left !== -1)
      parts.push(`The run diverges: at step ${present.left} a weight leaves ±${RANGE}, the range of the exact arithmetic.`);
    else if (problem && !(present.value < present.validation[0][1]))
      parts.push(`The run diverges: it began with ${shown(present.validation[0][1])}.`);
    if (before) {
      const change = present.value - before.outcome.value;
      parts.push(`The last change ${change < 0 ? "lowered" : "raised"} it by ${shown(Math.abs(change))}.`);
      if (before.promised) parts.push(`The hypergradient promised a fall of ${shown(-before.promised)}.`);
    }
    if (!present.slopes) return [...parts, "There is no hypergradient to follow."].join(" ");
    for (const kind of kinds) {
      const all = present.atPoints[kind].flat();
      const up = all.filter((slope) => slope < 0).length;
      parts.push(`Of ${all.length} points of the ${KINDS[kind]}, ${up} should move up and ${all.length - up} down.`);
    }
    return parts.join(" ");
  }
  return update;
}

const shown = (loss) => (Math.abs(loss) < 10 ? loss.toFixed(3).replace("-", "−") : number(loss));

export default {
  render: explorable(["points", "edited", "step_length", "answer", "error"], build),
};
