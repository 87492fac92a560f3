// A perceptron with one hidden layer, trained with momentum, and the hypergradient of its schedules.
//
// The run is short, so that every state is stored in 64-bit floats; nothing is reversed here.
// Weights are one flat array: weights of layer 1 (row by row), biases 1, weights 2, biases 2.

import { nearestRatio } from "./common.js";

const bytes = (text) => Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));

/** Unpack what Python packed: images as bytes, labels, and the initial weights as 64-bit floats. */
export function unpack({ images, labels, weights, sizes, training, batch }) {
  const start = new Float64Array(bytes(weights).buffer);
  const cut = (sizes[0] + 1) * sizes[1]; // where layer 2 begins
  return {
    images: Float64Array.from(bytes(images), (pixel) => pixel / 255),
    labels, sizes, training, batch, start, layers: [[0, cut], [cut, start.length]],
  };
}

/** The mean negative log-likelihood of the examples from…to, with the activations that explain it. */
export function evaluate({ images, labels, sizes: [inputs, hidden, classes] }, w, from, to) {
  const n = to - from;
  const [bias1, weights2] = [inputs * hidden, (inputs + 1) * hidden];
  const bias2 = weights2 + hidden * classes;
  const activations = new Float64Array(n * hidden);
  const errors = new Float64Array(n * classes); // of the loss with respect to the scores
  const scores = new Float64Array(classes);
  let loss = 0;
  for (let e = 0; e < n; e += 1) {
    const row = activations.subarray(e * hidden, (e + 1) * hidden);
    for (let j = 0; j < hidden; j += 1) row[j] = w[bias1 + j];
    for (let i = 0; i < inputs; i += 1) {
      const pixel = images[(from + e) * inputs + i];
      if (pixel !== 0) for (let j = 0, at = i * hidden; j < hidden; j += 1) row[j] += pixel * w[at + j];
    }
    for (let k = 0; k < classes; k += 1) scores[k] = w[bias2 + k];
    for (let j = 0; j < hidden; j += 1) {
      row[j] = Math.tanh(row[j]);
      for (let k = 0, at = weights2 + j * classes; k < classes; k += 1) scores[k] += row[j] * w[at + k];
    }
    const largest = Math.max(...scores);
    let total = 0;
    for (let k = 0; k < classes; k += 1) total += errors[e * classes + k] = Math.exp(scores[k] - largest);
    for (let k = 0; k < classes; k += 1) errors[e * classes + k] /= total * n;
    const label = labels[from + e];
    errors[e * classes + label] -= 1 / n;
    loss += (largest + Math.log(total) - scores[label]) / n;
  }
  return { loss, activations, errors, from, n };
}

/** The gradient of the loss whose activations are given. */
export function gradient(problem, w, { activations, errors, from, n }) {
  const [, hidden, classes] = problem.sizes;
  const g = new Float64Array(w.length);
  const weights2 = problem.layers[1][0];
  const inner = new Float64Array(n * hidden); // errors of the hidden units, before their tanh
  for (let e = 0; e < n; e += 1)
    for (let j = 0; j < hidden; j += 1) {
      let sum = 0;
      for (let k = 0, at = weights2 + j * classes; k < classes; k += 1) sum += errors[e * classes + k] * w[at + k];
      inner[e * hidden + j] = sum * (1 - activations[e * hidden + j] ** 2);
    }
  addInputLayer(problem, g, inner, from, n);
  addOutputLayer(problem, g, activations, errors, n);
  addBiases(problem, g, errors, n);
  return g;
}

/**
 * The Hessian of the same loss times `u`: the derivative of everything above along `u`, by hand.
 * Names that begin with d are such derivatives.
 */
export function hessianTimes(problem, w, { activations, errors, from, n }, u) {
  const { images, sizes: [inputs, hidden, classes] } = problem;
  const [bias1, weights2] = [inputs * hidden, problem.layers[1][0]];
  const bias2 = weights2 + hidden * classes;
  const product = new Float64Array(w.length);
  const dActivations = new Float64Array(n * hidden);
  const dErrors = new Float64Array(n * classes);
  const dInner = new Float64Array(n * hidden);
  for (let e = 0; e < n; e += 1) {
    const row = activations.subarray(e * hidden, (e + 1) * hidden);
    const dRow = dActivations.subarray(e * hidden, (e + 1) * hidden);
    const error = errors.subarray(e * classes, (e + 1) * classes);
    const dError = dErrors.subarray(e * classes, (e + 1) * classes);
    for (let j = 0; j < hidden; j += 1) dRow[j] = u[bias1 + j];
    for (let i = 0; i < inputs; i += 1) {
      const pixel = images[(from + e) * inputs + i];
      if (pixel !== 0) for (let j = 0, at = i * hidden; j < hidden; j += 1) dRow[j] += pixel * u[at + j];
    }
    for (let k = 0; k < classes; k += 1) dError[k] = u[bias2 + k]; // first the scores
    for (let j = 0; j < hidden; j += 1) {
      dRow[j] *= 1 - row[j] ** 2;
      for (let k = 0, at = weights2 + j * classes; k < classes; k += 1)
        dError[k] += dRow[j] * w[at + k] + row[j] * u[at + k];
    }
    const label = problem.labels[from + e];
    const probability = (k) => error[k] + (k === label ? 1 / n : 0); // over n
    let mean = 0;
    for (let k = 0; k < classes; k += 1) mean += n * probability(k) * dError[k];
    for (let k = 0; k < classes; k += 1) dError[k] = probability(k) * (dError[k] - mean);
    for (let j = 0; j < hidden; j += 1) {
      let [sum, dSum] = [0, 0];
      for (let k = 0, at = weights2 + j * classes; k < classes; k += 1) {
        sum += error[k] * w[at + k];
        dSum += dError[k] * w[at + k] + error[k] * u[at + k];
      }
      dInner[e * hidden + j] = dSum * (1 - row[j] ** 2) - 2 * sum * row[j] * dRow[j];
    }
  }
  addInputLayer(problem, product, dInner, from, n);
  addOutputLayer(problem, product, dActivations, errors, n);
  addOutputLayer(problem, product, activations, dErrors, n);
  addBiases(problem, product, dErrors, n);
  return product;
}

function addInputLayer({ images, sizes: [inputs, hidden] }, g, inner, from, n) {
  for (let e = 0; e < n; e += 1) {
    for (let i = 0; i < inputs; i += 1) {
      const pixel = images[(from + e) * inputs + i];
      if (pixel !== 0) for (let j = 0; j < hidden; j += 1) g[i * hidden + j] += pixel * inner[e * hidden + j];
    }
    for (let j = 0; j < hidden; j += 1) g[inputs * hidden + j] += inner[e * hidden + j];
  }
}

function addOutputLayer({ sizes: [, hidden, classes], layers }, g, activations, errors, n) {
  for (let e = 0; e < n; e += 1)
    for (let j = 0; j < hidden; j += 1)
      for (let k = 0, at = layers[1][0] + j * classes; k < classes; k += 1)
        g[at + k] += activations[e * hidden + j] * errors[e * classes + k];
}

function addBiases({ sizes: [, , classes] }, g, errors, n) {
  for (let e = 0; e < n; e += 1)
    for (let k = 0; k < classes; k += 1) g[g.length - classes + k] += errors[e * classes + k];
}


/**
 * Train: v ← γ v − (1 − γ) g, then w ← w + α v, with a rate and a momentum for each layer and step.
 * `rates` and `momenta` hold one array for each layer. Returns all weights, velocities, gradients,
 * and what `evaluate` said of the minibatch at each step.
 */
export function train(problem, rates, momenta) {
  const { start, batch, training, layers } = problem;
  const run = { weights: [start], velocities: [new Float64Array(start.length)], gradients: [], seen: [] };
  for (let t = 0; t < rates[0].length; t += 1) {
    const from = (t * batch) % training;
    const [w, v] = [run.weights[t].slice(), run.velocities[t].slice()];
    const seen = evaluate(problem, w, from, from + batch);
    const g = gradient(problem, w, seen);
    layers.forEach(([first, end], layer) => {
      const [alpha, gamma] = [rates[layer][t], nearestRatio(momenta[layer][t])];
      for (let i = first; i < end; i += 1) {
        v[i] = gamma * v[i] - (1 - gamma) * g[i];
        w[i] += alpha * v[i];
      }
    });
    run.seen.push(seen);
    run.gradients.push(g);
    run.weights.push(w);
    run.velocities.push(v);
  }
  return run;
}

/** The loss on the validation examples, which stand after the training examples. */
export function validate(problem, w) {
  return evaluate(problem, w, problem.training, problem.labels.length);
}

/** d validation loss / d α and d γ for each layer and step: back through the stored run. */
export function hypergradient(problem, run, rates, momenta) {
  const final = run.weights.at(-1);
  const dw = gradient(problem, final, validate(problem, final));
  const dv = new Float64Array(dw.length);
  const u = new Float64Array(dw.length);
  const dRates = rates.map((layer) => new Array(layer.length).fill(0));
  const dMomenta = momenta.map((layer) => new Array(layer.length).fill(0));
  for (let t = rates[0].length - 1; t >= 0; t -= 1) {
    const [before, after, g] = [run.velocities[t], run.velocities[t + 1], run.gradients[t]];
    problem.layers.forEach(([first, end], layer) => {
      const [alpha, gamma] = [rates[layer][t], nearestRatio(momenta[layer][t])];
      for (let i = first; i < end; i += 1) {
        dRates[layer][t] += dw[i] * after[i];
        dv[i] += alpha * dw[i];
        dMomenta[layer][t] += dv[i] * (before[i] + g[i]);
        u[i] = -(1 - gamma) * dv[i];
        dv[i] *= gamma;
      }
    });
    const product = hessianTimes(problem, run.weights[t], run.seen[t], u);
    for (let i = 0; i < dw.length; i += 1) dw[i] += product[i];
  }
  return { rates: dRates, momenta: dMomenta };
}
