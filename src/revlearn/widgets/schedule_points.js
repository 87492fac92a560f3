// Schedules as a few points [step, value] with interpolation between them, straight in the logarithm
// of a learning rate and in the logit of a momentum, and constant before the first and after the last.

export const WARPS = {
  learning_rate: { to: Math.log, back: Math.exp, slope: (rate) => rate },
  momentum: {
    to: (momentum) => Math.log(momentum / (1 - momentum)),
    back: (x) => 1 / (1 + Math.exp(-x)),
    slope: (momentum) => momentum * (1 - momentum),
  },
};

/** The two points around step t, and the share of the second: [[index, share], …]. */
function shares(points, t) {
  const next = points.findIndex(([step]) => step >= t);
  if (next === -1) return [[points.length - 1, 1]];
  if (next === 0 || points[next][0] === t) return [[next, 1]];
  const share = (t - points[next - 1][0]) / (points[next][0] - points[next - 1][0]);
  return [[next - 1, 1 - share], [next, share]];
}

/** The value at each step. */
export function interpolate(points, steps, { to, back }) {
  return Array.from({ length: steps }, (_, t) =>
    back(shares(points, t).reduce((sum, [k, share]) => sum + share * to(points[k][1]), 0)));
}

/** From derivatives at each step to derivatives at the points: the chain rule through `interpolate`. */
export function gather(points, slopes) {
  const made = points.map(() => 0);
  slopes.forEach((slope, t) => shares(points, t).forEach(([k, share]) => (made[k] += share * slope)));
  return made;
}

/** Write points as "0: 0.5, 30: 1". */
export const written = (points) =>
  points.map(([step, value]) => `${step}: ${Number(value.toPrecision(4))}`).join(", ");

/** Read what `written` writes; an error says what is wrong with it. */
export function parsed(text, steps, [lowest, highest]) {
  const points = text.split(",").map((part) => {
    const [step, value] = part.split(":").map((piece) => (piece.trim() === "" ? NaN : Number(piece)));
    if (!Number.isFinite(step) || !Number.isFinite(value))
      throw new RangeError(`“${part.trim()}” is not a step and a value, such as 30: 0.5`);
    if (!Number.isInteger(step) || step < 0) throw new RangeError(`step ${step} is not one of 0, 1, 2, …`);
    if (step > steps - 1) throw new RangeError(`step ${step} is beyond the last step, ${steps - 1}`);
    if (value < lowest || value > highest)
      throw new RangeError(`${value} at step ${step} is not between ${lowest} and ${highest}`);
    return [step, value];
  });
  points.forEach(([step], k) => {
    if (k > 0 && step <= points[k - 1][0])
      throw new RangeError(`step ${step} must come after step ${points[k - 1][0]}`);
  });
  return points;
}
