// Momentum on a quadratic: the particle in phase space, the energy that friction takes, and the
// bits that go with it.

import { Plot, button, choice, element, explorable, number, player, slider } from "./common.js";

/**
 * Run v ← γ v − (1 − γ or 1) h w, w ← w + α v from (w, v), `steps` times.
 * Returns the states and the energies h w² / 2 + v² / (2 c), c the factor before the gradient over α.
 */
export function trajectory({ learningRate, momentum, curvature, steps, w, v, dampened }) {
  const factor = dampened ? 1 - momentum : 1;
  const states = [[w, v]];
  const energies = [];
  const mass = factor > 0 ? learningRate / factor : 0;
  const energy = () => energies.push((curvature * w * w + mass * v * v) / 2);
  energy();
  for (let t = 0; t < steps; t += 1) {
    v = momentum * v - factor * curvature * w;
    w = w + learningRate * v;
    states.push([w, v]);
    energy();
  }
  return { states, energies };
}

const STEPS = 60;
const FASTEST = 2; // start: a faster one would stretch the axis along which it is dragged
const FORMS = { classical: "classical, κ = 1", paper: "paper, κ = 1 − γ" };

function build({ root, model, set, say, guard }) {
  let shown = STEPS;
  const changes = (trait) => (value) => set(trait, value);
  const rate = slider({
    label: "learning rate α", min: 0.01, max: 4, step: 0.01, value: model.get("learning_rate"),
    show: (value) => value.toFixed(2), change: changes("learning_rate"),
  });
  const momentum = slider({
    label: "momentum γ", min: 0, max: 1, step: 0.005, value: model.get("momentum"),
    show: (value) => value.toFixed(3), change: changes("momentum"),
  });
  const curvature = slider({
    label: "curvature h", min: 0.1, max: 4, step: 0.1, value: model.get("curvature"),
    show: (value) => value.toFixed(1), change: changes("curvature"),
  });
  const form = choice({
    label: "form of the rule", options: FORMS, value: model.get("form"), change: changes("form"),
  });
  const until = slider({
    label: "steps shown", min: 0, max: STEPS, step: 1, value: shown, change: guard(show),
  });
  const play = player({ interval: 80, step: guard(() => {
    show(shown >= STEPS ? 0 : shown + 1);
    return shown < STEPS;
  }) });
  const limit = button("γ = 1: the reversible limit", () => set("momentum", 1));
  const plane = new Plot({ label: "phase space: weight across, velocity up", height: 260 });
  const fall = new Plot({ label: "share of the energy that is left at each step", height: 190 });
  root.append(
    rate, momentum, curvature, until,
    element("div", { class: "revlearn-controls" }, form, play, limit),
    plane.element, fall.element,
  );

  function show(steps) {
    shown = steps;
    until.move(steps);
    update();
  }

  function update() {
    rate.move(model.get("learning_rate"));
    momentum.move(model.get("momentum"));
    curvature.move(model.get("curvature"));
    form.move(model.get("form"));
    const gamma = model.get("momentum");
    const [w, v] = model.get("start");
    const { states, energies } = trajectory({
      learningRate: model.get("learning_rate"), momentum: gamma, curvature: model.get("curvature"),
      dampened: model.get("form") === "paper", w, v, steps: STEPS,
    });
    const seen = states.slice(0, shown + 1);
    const speeds = states.map((state) => Math.abs(state[1])).filter((speed) => speed < 8);
    const fastest = 1.2 * Math.max(1, ...speeds); // a run that diverges leaves the frame
    plane.draw({
      x: { label: "weight w", range: [-2, 2] },
      y: { label: "velocity v", range: [-fastest, fastest] },
      marks: [
        { kind: "line", points: seen, colour: 1, dash: "2 3" },
        { kind: "dots", points: seen, colour: 1, name: "state (w, v) at each step" },
        { kind: "dots", points: seen.slice(-1), colour: 2, size: 6, name: `step ${shown}` },
      ],
    });
    plane.handle("start", {
      x: w, y: v, step: [0.1, 0.1], colour: 3, label: "where the run starts",
      says: `weight ${number(w, 2)}, velocity ${number(v, 2)}`,
      move: (x, y) => {
        const speed = Math.min(Math.max(y, -FASTEST), FASTEST);
        set("start", [Math.round(x * 20) / 20, Math.round(speed * 20) / 20]);
      },
    });
    const share = energies.map((energy, t) => [t, energy / energies[0]]);
    fall.draw({
      x: { label: "step t", range: [0, STEPS] },
      y: { label: "share left", range: [1e-9, 1e2], log: true },
      marks: [
        { kind: "line", points: share.slice(0, shown + 1), colour: 1, name: "energy" },
        { kind: "line", points: share.map(([t]) => [t, gamma ** t]), colour: 2, dash: "6 4", name: "area in phase space, γ to the power t" },
      ],
    });
    const dampened = model.get("form") === "paper";
    const stable = !dampened && model.get("learning_rate") * model.get("curvature") < 4; // at γ = 1
    say(sentence({ gamma, state: states[shown], share: share[shown][1], steps: shown, dampened, stable }));
  }
  return update;
}

function sentence({ gamma, state: [w, v], share, steps, dampened, stable }) {
  const bits = -Math.log2(gamma);
  const discarded =
    gamma === 1 ? "No bit is discarded, so that each step can be undone for nothing."
    : gamma === 0 ? "All of the velocity is discarded, so that no step can be undone cheaply."
    : `Each step discards ${bits.toFixed(3)} bits per parameter, ${(bits * steps).toFixed(1)} in ${steps} steps.`;
  return [
    `After ${steps} ${steps === 1 ? "step" : "steps"} the weight is ${number(w)}, the velocity ${number(v)}.`,
    share > 1 ? `The energy has grown by a factor of ${number(share)}.` : "",
    share <= 1 ? `Of the energy ${number(100 * share)} % is left.` : "",
    gamma === 1 && stable ? "It wobbles and does not drift." : "",
    discarded,
    dampened && gamma === 1 ? "In the paper's form κ = 0 shuts the gradient out." : "",
  ].filter(Boolean).join(" ");
}

export default {
  render: explorable(["learning_rate", "momentum", "curvature", "form", "start"], build),
};
