// What all explorables share: elements, controls, plots, and errors that are shown.

const SVG = "http://www.w3.org/2000/svg";
const SVG_TAGS = new Set(["svg", "g", "path", "circle", "rect", "line", "text", "title"]);

const FOCUSABLE = new Set(["input", "select", "button", "summary"]);

/** Make an HTML or SVG element. A function as an attribute `onsomething` is a listener. */
export function element(tag, attributes = {}, ...children) {
  const made = SVG_TAGS.has(tag) ? document.createElementNS(SVG, tag) : document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (typeof value === "function") made.addEventListener(name.slice(2), value);
    else if (value === true) made.setAttribute(name, "");
    else if (value !== false && value !== undefined) made.setAttribute(name, value);
  }
  // JupyterLab would take arrow keys and Enter for its own.
  if (FOCUSABLE.has(tag) || "tabindex" in attributes)
    made.setAttribute("data-lm-suppress-shortcuts", "true");
  made.append(...children);
  return made;
}

/**
 * Make the `render` function of an explorable.
 *
 * `build({ root, model, set, say, guard })` puts controls and plots into `root` and returns the one
 * function that computes and draws everything from the present settings. It is called when the
 * widget gets its width or changes it, and when one of the model's `traits` changes, whoever changed
 * it: a control calls `set(trait, value)` and nothing else. `say` sets the sentence that tells in
 * words what is drawn. An error anywhere in there is shown to the reader; listeners of other events
 * are wrapped in `guard`, which returns false where there was an error.
 */
export function explorable(traits, build) {
  return ({ model, el }) => {
    const root = element("section", { class: "revlearn", "aria-label": model.get("title") });
    const sentence = element("p", { class: "revlearn-sentence", "aria-live": "polite" });
    const alert = element("p", { class: "revlearn-alert", role: "alert", hidden: true });
    const set = (trait, value) => {
      model.set(trait, value);
      model.save_changes();
    };
    const say = (text) => {
      sentence.textContent = text;
      if (model.get("sentence") !== text) set("sentence", text);
    };
    const guard = (work) => (...parameters) => {
      alert.hidden = true; // before the work: `set` calls `update`, whose error must stay
      try {
        return work(...parameters);
      } catch (error) {
        console.warn(error);
        alert.textContent = error instanceof RangeError ? error.message : `${error.name}: ${error.message}`;
        alert.hidden = false;
        return false;
      }
    };
    el.append(root);
    const update = guard(build)({ root, model, set, say, guard });
    root.append(sentence, alert);
    if (!update) return undefined; // there is the error, and nothing to draw
    const changed = guard(update);
    for (const trait of traits) model.on(`change:${trait}`, changed);
    let width = 0;
    const observer = new ResizeObserver(() => {
      if (root.clientWidth === width) return;
      width = root.clientWidth;
      changed();
    });
    observer.observe(root);
    return () => {
      observer.disconnect();
      for (const trait of traits) model.off(`change:${trait}`, changed);
    };
  };
}

/** The ratio n / 2^16 nearest to a momentum, which is what the package calculates with. */
export const nearestRatio = (momentum) => Math.max(1, Math.round(momentum * 65536)) / 65536;

/** Whether the reader asked the system for less motion. */
export const reducedMotion = () => matchMedia("(prefers-reduced-motion: reduce)").matches;

let controls = 0;

/** A labelled slider that shows its value. `show` writes the value; moved, it calls `change(value)`. */
export function slider({ label, min, max, step, value, show = String, change }) {
  const id = `revlearn-control-${++controls}`;
  const output = element("output", { for: id }, show(value));
  const input = element("input", { id, type: "range", min, max, step });
  input.value = value;
  // Set from code, a value may lie between two places of the slider: the value itself is shown.
  let shown;
  const tell = (exact) => {
    shown = exact;
    output.textContent = show(exact);
    input.setAttribute("aria-valuetext", show(exact));
  };
  tell(value);
  input.addEventListener("input", () => {
    tell(input.valueAsNumber);
    change(input.valueAsNumber);
  });
  // A finger that scrolls the page first lands on the slider: when the browser finds out that it
  // scrolls, what it has moved goes back.
  let before;
  input.addEventListener("pointerdown", () => (before = shown));
  input.addEventListener("pointercancel", () => change(before));
  return Object.assign(
    element("div", { class: "revlearn-slider" }, element("label", { for: id }, label), input, output),
    {
      /** Move the slider from code, without a call of `change`. */
      move(to) {
        input.value = to;
        tell(to);
      },
      /** Change the range, say when a run gets longer; `move` follows. */
      range(from, to) {
        input.min = from;
        input.max = to;
      },
    },
  );
}

/** A labelled choice among `options`, an object of names and what is shown for them. */
export function choice({ label, options, value, change }) {
  const id = `revlearn-control-${++controls}`;
  const select = element("select", { id });
  for (const [name, shown] of Object.entries(options))
    select.append(element("option", { value: name }, shown));
  select.value = value;
  select.addEventListener("change", () => change(select.value));
  return Object.assign(
    element("div", { class: "revlearn-choice" }, element("label", { for: id }, label), select),
    {
      /** Choose from code, without a call of `change`. */
      move(to) {
        select.value = to;
      },
    },
  );
}

/** A labelled line of text; what is written is handed to `change` at Enter, or when the field is left. */
export function entry({ label, value, change }) {
  const id = `revlearn-control-${++controls}`;
  const input = element("input", { id, type: "text", autocomplete: "off", spellcheck: "false" });
  input.value = value;
  input.addEventListener("change", () => change(input.value));
  const name = element("label", { for: id }, label);
  return Object.assign(element("div", { class: "revlearn-entry" }, name, input), {
    /** Write from code, without a call of `change`. */
    move(to, called = label) {
      input.value = to;
      name.textContent = called;
    },
  });
}

/** A button. */
export function button(label, press) {
  return element("button", { type: "button", class: "revlearn-button", onclick: press }, label);
}

/**
 * A button that plays: calls `step()` again and again until that returns false.
 * With reduced motion each press takes a single step, and the button says so.
 */
export function player({ label: full = "play", step, interval = 60 }) {
  let timer = null;
  const label = reducedMotion() ? `${full}: one step` : full;
  const made = button(label, () => (timer ? stop() : start()));
  const stop = () => {
    clearInterval(timer);
    timer = null;
    made.textContent = label;
  };
  const start = () => {
    if (reducedMotion()) return void step();
    made.textContent = "pause";
    timer = setInterval(() => {
      if (!made.isConnected || step() === false) stop();
    }, interval);
  };
  return Object.assign(made, { stop });
}

const DIGITS = { "-": "⁻", 0: "⁰", 1: "¹", 2: "²", 3: "³", 4: "⁴", 5: "⁵", 6: "⁶", 7: "⁷", 8: "⁸", 9: "⁹" };
const raised = (power) => [...String(power)].map((digit) => DIGITS[digit]).join("");

/** Write a number for a reader, with so many significant digits. */
export function number(value, digits = 3) {
  if (!Number.isFinite(value)) return value > 0 ? "∞" : value < 0 ? "−∞" : "not a number";
  if (value === 0) return "0";
  const power = Number(value.toExponential(digits - 1).split("e")[1]); // after rounding
  const text =
    power < -3 || power > 5
      ? `${(value / 10 ** power).toPrecision(digits)}·10${raised(power)}`
      : value.toPrecision(Math.max(digits, Math.min(power + 1, 15)));
  return text.replace("-", "−");
}

/** Round ticks of a linear axis, or powers of ten of a logarithmic one. */
export function ticks([from, to], log, count) {
  if (log) {
    const [low, high] = [Math.ceil(Math.log10(from) - 1e-9), Math.floor(Math.log10(to) + 1e-9)];
    const every = Math.max(1, Math.ceil((high - low + 1) / count));
    const powers = [];
    for (let power = low; power <= high; power += every) powers.push(power);
    return powers.map((power) => ({ at: 10 ** power, text: `10${raised(power)}` }));
  }
  const rough = (to - from) / count;
  const unit = 10 ** Math.floor(Math.log10(rough));
  const step = unit * [1, 2, 5, 10].find((factor) => factor * unit >= rough);
  const decimals = Math.max(0, -Math.floor(Math.log10(step) + 1e-9));
  const made = [];
  for (let k = Math.ceil(from / step - 1e-9); k * step <= to + 1e-9 * step; k += 1)
    made.push({ at: k * step, text: (k * step + 0).toFixed(decimals).replace(/^-(?=0*\.?0*$)/, "").replace("-", "−") });
  return made;
}

/**
 * A plot with axes, redrawn whole by `draw`.
 *
 * `draw({ x, y, marks })`: an axis is `{ label, range: [from, to], log }`, or has its own
 * `warp: { to, back }` and `ticks` in place of `log`; a mark is
 * `{ kind: "line" | "dots" | "bars" | "arrow" | "level" | "position", points: [[x, y], …], colour: 1…5, dash, name, size, thin }`.
 * Named marks stand in the legend. Points that are not finite are left out, others are clipped;
 * a position outside the axis is not drawn.
 * `handle(key, …)` is a point that the reader drags, or moves with the arrow keys.
 */
export class Plot {
  constructor({ label, height = 220 }) {
    this.height = height;
    this.drawing = element("g");
    this.handles = new Map();
    this.grips = element("g");
    this.svg = element("svg", { role: "group", "aria-label": label, height }, this.drawing, this.grips);
    this.legend = element("p", { class: "revlearn-legend" });
    this.element = element("div", { class: "revlearn-plot" }, this.svg, this.legend);
  }

  draw({ x, y, marks }) {
    const width = Math.max(240, this.element.clientWidth || 600);
    this.svg.setAttribute("width", width);
    this.svg.setAttribute("viewBox", `0 0 ${width} ${this.height}`);
    this.frame = { left: 62, right: width - 12, top: 10, bottom: this.height - 40 };
    const { left, right, top, bottom } = this.frame;
    this.x = scale(x, [left, right]);
    this.y = scale(y, [bottom, top]);
    const parts = [];
    for (const { at, text } of ticks(x.range, x.log, Math.floor((right - left) / 70)))
      parts.push(
        element("line", { class: "revlearn-grid", x1: this.x(at), x2: this.x(at), y1: top, y2: bottom }),
        element("text", { x: this.x(at), y: bottom + 16, "text-anchor": "middle" }, text),
      );
    for (const { at, text } of y.ticks ?? ticks(y.range, y.log, Math.max(2, Math.floor((bottom - top) / 40))))
      parts.push(
        element("line", { class: "revlearn-grid", x1: left, x2: right, y1: this.y(at), y2: this.y(at) }),
        element("text", { x: left - 6, y: this.y(at) + 4, "text-anchor": "end" }, text),
      );
    const middle = (top + bottom) / 2;
    parts.push(
      element("rect", { class: "revlearn-frame", x: left, y: top, width: right - left, height: bottom - top }),
      element("text", { x: (left + right) / 2, y: this.height - 6, "text-anchor": "middle" }, x.label),
      element("text", { x: 13, y: middle, "text-anchor": "middle", transform: `rotate(-90 13 ${middle})` }, y.label),
    );
    // An inner drawing clips what leaves the frame; whole dots on its edge stay.
    const box = { x: left - 6, y: top - 6, width: right - left + 12, height: bottom - top + 12 };
    const inside = element("svg", { ...box, viewBox: Object.values(box).join(" ") });
    inside.append(...marks.flatMap((mark) => this.#mark(mark)));
    this.drawing.replaceChildren(...parts, inside);
    this.legend.replaceChildren(...marks.filter((mark) => mark.name).map(legendEntry));
  }

  #mark({ kind, points, colour = 1, dash, size = 3, thin }) {
    const { left, right, top, bottom } = this.frame;
    // Far beyond the frame an SVG cannot count any more.
    const far = 4 * (right - left);
    const place = ([x, y]) => [within(this.x(x), [left - far, right + far]), within(this.y(y), [top - far, bottom + far])];
    const finite = (point) => point.every(Number.isFinite);
    const places = points.filter(finite).map(place).filter(finite); // a logarithm may not be finite
    const look = { class: `revlearn-colour-${colour}${thin ? " revlearn-thin" : ""}`, "stroke-dasharray": dash };
    if (kind === "dots")
      return places.map(([cx, cy]) => element("circle", { ...look, class: `${look.class} revlearn-dot`, cx, cy, r: size }));
    if (kind === "bars") {
      const zero = within(this.y(0), [top, bottom]);
      return places.map(([cx, cy]) =>
        element("rect", { class: `${look.class} revlearn-bar`, x: cx - size / 2, width: size, y: Math.min(cy, zero), height: Math.abs(cy - zero) }));
    }
    if (kind === "arrow") {
      const [[x1, y1], [x2, y2]] = points.map(place);
      const angle = Math.atan2(y2 - y1, x2 - x1);
      const wing = (turn) => `${x2 - 7 * Math.cos(angle + turn)} ${y2 - 7 * Math.sin(angle + turn)}`;
      return Math.hypot(x2 - x1, y2 - y1) < 1
        ? []
        : [element("path", { ...look, d: `M${x1} ${y1}L${x2} ${y2}M${wing(0.45)}L${x2} ${y2}L${wing(-0.45)}` })];
    }
    if (kind === "level") return points.map(([, y]) => this.y(y)).map((at) => element("line", { ...look, x1: left, x2: right, y1: at, y2: at }));
    if (kind === "position") return points.map(([x]) => this.x(x)).filter((at) => at > left - 1 && at < right + 1).map((at) => element("line", { ...look, x1: at, x2: at, y1: top, y2: bottom }));
    const path = places.map(([px, py]) => `${px.toFixed(1)} ${py.toFixed(1)}`);
    return path.length ? [element("path", { ...look, d: `M${path.join("L")}` })] : [];
  }

  /**
   * Put a grip at (x, y), or move the one of the same `key` there. `move(x, y)` gets where the
   * reader dragged it, within the axes; arrow keys move it by `step` = [dx, dy], a factor on a
   * logarithmic axis. `says` is what a screen reader hears.
   */
  handle(key, { x, y, label, says, step, move, colour = 1 }) {
    let grip = this.handles.get(key);
    if (!grip) {
      grip = element("circle", { r: 9, tabindex: 0, role: "slider" });
      this.#listen(grip);
      this.grips.append(grip);
      this.handles.set(key, grip);
    }
    grip.now = { x, y, step, move };
    grip.setAttribute("class", `revlearn-grip revlearn-colour-${colour}`);
    const { left, right, top, bottom } = this.frame;
    grip.setAttribute("cx", within(this.x(x), [left, right])); // else it could not be fetched back
    grip.setAttribute("cy", within(this.y(y), [top, bottom]));
    grip.setAttribute("aria-label", label);
    grip.setAttribute("aria-valuetext", says);
    grip.setAttribute("aria-valuenow", y);
    grip.setAttribute("aria-valuemin", this.y.axis.range[0]);
    grip.setAttribute("aria-valuemax", this.y.axis.range[1]);
  }

  /** Take away the grips that `keep(key)` is false for. */
  drop(keep) {
    for (const [key, grip] of this.handles)
      if (!keep(key)) {
        grip.remove();
        this.handles.delete(key);
      }
  }

  /** Where a pointer is, in the units of the axes. */
  place(event) {
    const box = this.svg.getBoundingClientRect();
    const factor = this.svg.viewBox.baseVal.width / box.width;
    return [this.x.inverse((event.clientX - box.left) * factor), this.y.inverse((event.clientY - box.top) * factor)];
  }

  #listen(grip) {
    const go = (x, y) => grip.now.move(within(x, this.x.axis.range), within(y, this.y.axis.range));
    grip.addEventListener("pointerdown", (event) => {
      grip.setPointerCapture(event.pointerId);
      grip.focus();
      event.preventDefault();
    });
    // A finger would scroll: Chromium does not heed `touch-action` on a part of a drawing.
    grip.addEventListener("touchstart", (event) => event.preventDefault(), { passive: false });
    grip.addEventListener("pointermove", (event) => {
      if (grip.hasPointerCapture(event.pointerId)) go(...this.place(event));
    });
    grip.addEventListener("keydown", (event) => {
      const way = MOVES[event.key];
      if (!way) return;
      event.preventDefault();
      const { x, y, step } = grip.now;
      go(moved(x, way[0], step[0], this.x.axis), moved(y, way[1], step[1], this.y.axis));
    });
  }
}

const MOVES = {
  ArrowUp: [0, 1], ArrowDown: [0, -1], ArrowLeft: [-1, 0], ArrowRight: [1, 0],
  PageUp: [0, 5], PageDown: [0, -5], Home: [0, -Infinity], End: [0, Infinity],
};
const within = (value, [from, to]) => Math.min(Math.max(value, from), to);
const moved = (value, way, step, { log, warp }) =>
  way === 0 ? value : log ? value * step ** way : warp ? warp.back(warp.to(value) + way * step) : value + way * step;

const LINEAR = { to: (value) => value, back: (value) => value };
const LOGARITHMIC = { to: Math.log10, back: (value) => 10 ** value };

function scale(axis, [start, end]) {
  const { to: warp, back } = axis.warp ?? (axis.log ? LOGARITHMIC : LINEAR);
  const [from, to] = axis.range.map(warp);
  const map = (value) => start + ((warp(value) - from) / (to - from)) * (end - start);
  return Object.assign(map, { axis, inverse: (place) => back(from + ((place - start) / (end - start)) * (to - from)) });
}

function legendEntry({ kind, colour = 1, dash, name }) {
  const look = { class: `revlearn-colour-${colour}`, "stroke-dasharray": dash };
  const sample =
    kind === "dots" ? element("circle", { ...look, class: `${look.class} revlearn-dot`, cx: 12, cy: 6, r: 3 })
    : kind === "bars" ? element("rect", { class: `${look.class} revlearn-bar`, x: 6, y: 1, width: 12, height: 10 })
    : element("path", { ...look, d: "M1 6L23 6" });
  return element("span", {}, element("svg", { width: 24, height: 12, "aria-hidden": "true" }, sample), ` ${name}`);
}
