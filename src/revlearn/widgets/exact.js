// The exact arithmetic of revlearn in BigInt: fixed point, the information buffer, the step of SGD.
// It agrees with Python word for word; the golden file that both are tested against is rewind.json.

const UNIT = 2 ** 52; // integers in one unit
const SHIFT = 16n;
export const DENOMINATOR = 1n << SHIFT; // of the momentum
const SPILLED_BITS = 32n;

/** The numbers left the range of fixed point, ±2048. */
export class FixedPointOverflow extends RangeError {
  name = "FixedPointOverflow";
}

/** Round to the nearest integer, halves to even: beside 2^52 a float has no place for fractions. */
function rint(x) {
  const size = Math.abs(x);
  return size < UNIT ? Math.sign(x) * (size + UNIT - UNIT) : x;
}

/** Add rint(factor · values) to fixed-point numbers in place; with −factor it is undone exactly. */
function add(target, values, factor) {
  const sums = target.map((whole, k) => {
    const scaled = Number(values[k]) * factor;
    const sum = Number.isFinite(scaled) ? whole + BigInt(rint(scaled)) : undefined;
    if (sum === undefined || BigInt.asIntN(64, sum) !== sum)
      throw new FixedPointOverflow("a number does not fit the range ±2048: try a smaller learning rate");
    return sum;
  });
  sums.forEach((sum, k) => (target[k] = sum));
}

/** Real numbers as fixed-point integers. */
export function toFixed(values) {
  const fixed = values.map(() => 0n);
  add(fixed, values, UNIT);
  return fixed;
}

/** Fixed-point integers as floats. */
export const fromFixed = (fixed) => fixed.map((whole) => Number(whole) / UNIT);

/** The numerator n of the ratio n / 2^16 nearest to a momentum. */
export const numerator = (momentum) => BigInt(Math.max(1, rint(momentum * Number(DENOMINATOR))));

/** What multiplication by n / d discards: a 64-bit word per number, and older words below. */
export class InformationBuffer {
  constructor(size) {
    this.words = Array(size).fill(0n);
    this.spilled = []; // { depth, words: the low 32 bits of all words }, the oldest first
    // No word exceeds the last of these. Those of earlier steps are kept, so that a run which is taken
    // back and run again spills at the same steps as before and is the same run.
    this.bounds = [0n];
  }

  /** Multiply integers by n / d in place, keeping what is lost. */
  multiply(values, n) {
    let bound = this.bounds.at(-1);
    const afterwards = () => (bound << SHIFT) + DENOMINATOR - 1n; // before it is divided by n
    while (afterwards() >= 1n << 64n) {
      this.#spill();
      bound >>= SPILLED_BITS;
    }
    for (const [k, value] of values.entries()) {
      const word = (this.words[k] << SHIFT) | (value & (DENOMINATOR - 1n));
      values[k] = (value >> SHIFT) * n + (word % n);
      this.words[k] = word / n;
    }
    this.bounds.push(afterwards() / n);
  }

  /** Undo the latest product. */
  divide(values, n) {
    if (this.bounds.length === 1) throw new RangeError("the information buffer is empty: nothing is left to undo");
    for (const [k, value] of values.entries()) {
      const digit = ((value % n) + n) % n; // % takes the sign of the value, a digit has none
      const word = this.words[k] * n + digit;
      values[k] = (((value - digit) / n) << SHIFT) | (word & (DENOMINATOR - 1n));
      this.words[k] = word >> SHIFT;
    }
    this.bounds.pop();
    while (this.spilled.at(-1)?.depth === this.bounds.length) this.#unspill();
  }

  /** Set all bits to zero, to see what they were good for. */
  forget() {
    this.words.fill(0n);
    for (const { words } of this.spilled) words.fill(0n);
  }

  /** The content of one number's buffer as a string of 0 and 1, the lowest and oldest bit first. */
  bits(k) {
    const lowestFirst = (word, length) => [...word.toString(2).padStart(length, "0")].reverse().join("");
    const top = this.words[k] === 0n ? "" : lowestFirst(this.words[k], 0);
    return this.spilled.map(({ words }) => lowestFirst(words[k], Number(SPILLED_BITS))).join("") + top;
  }

  copy() {
    const other = new InformationBuffer(0);
    return Object.assign(other, {
      words: [...this.words],
      bounds: [...this.bounds],
      spilled: this.spilled.map(({ depth, words }) => ({ depth, words: [...words] })),
    });
  }

  #spill() {
    const low = this.words.map((word) => BigInt.asUintN(Number(SPILLED_BITS), word));
    this.spilled.push({ depth: this.bounds.length, words: low });
    this.words = this.words.map((word) => word >> SPILLED_BITS);
  }

  #unspill() {
    const { words: low } = this.spilled.pop();
    this.words = this.words.map((word, k) => (word << SPILLED_BITS) | low[k]);
  }
}

/** A run of gradient descent with momentum, in integers, that steps forwards and backwards. */
export class ExactSGD {
  constructor({ start, learningRate, momentum, gradient }) {
    Object.assign(this, { learningRate, gradient, steps: 0 });
    this.numerator = numerator(momentum);
    this.force = (1 - Number(this.numerator) / Number(DENOMINATOR)) * UNIT;
    this.weights = toFixed(start);
    this.velocity = start.map(() => 0n);
    this.buffer = new InformationBuffer(start.length);
  }

  /** v ← γ v − (1 − γ) g, then w ← w + α v. */
  step() {
    const gradient = this.gradient(fromFixed(this.weights));
    this.buffer.multiply(this.velocity, this.numerator);
    add(this.velocity, gradient, -this.force);
    add(this.weights, this.velocity, this.learningRate);
    this.steps += 1;
  }

  /** The same lines in the opposite order, each undone. */
  unstep() {
    add(this.weights, this.velocity, -this.learningRate);
    add(this.velocity, this.gradient(fromFixed(this.weights)), this.force);
    this.buffer.divide(this.velocity, this.numerator);
    this.steps -= 1;
  }

  copy() {
    const other = Object.assign(Object.create(ExactSGD.prototype), this);
    return Object.assign(other, {
      weights: [...this.weights], velocity: [...this.velocity], buffer: this.buffer.copy(),
    });
  }
}
