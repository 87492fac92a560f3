// Widgets in a published page, where no Python runs.
//
// Jupyter's own loader for static pages weighs 3.6 MB. This one knows two kinds of output: an
// anywidget brings its front end along and is mounted as it is; of anything else, which needs
// Python to react, the stored picture and sentence are shown, and where to get Python.

const STATE = 'script[type="application/vnd.jupyter.widget-state+json"]';
const VIEW = 'script[type="application/vnd.jupyter.widget-view+json"]';

/** The part of Jupyter's widget model that a front end uses, without a kernel behind it. */
class Model {
  #state;
  #listeners = new Map();

  constructor(state) {
    this.#state = { ...state };
  }
  get(name) {
    return this.#state[name];
  }
  set(name, value) {
    if (JSON.stringify(value) === JSON.stringify(this.#state[name])) return;
    this.#state[name] = value;
    for (const listener of this.#listeners.get(`change:${name}`) ?? []) listener();
  }
  on(name, listener) {
    this.#listeners.set(name, [...(this.#listeners.get(name) ?? []), listener]);
  }
  off(name, listener) {
    this.#listeners.set(name, (this.#listeners.get(name) ?? []).filter((other) => other !== listener));
  }
  // There is no kernel to tell.
  save_changes() {}
}

async function mount(model, place) {
  const address = URL.createObjectURL(new Blob([model.get("_esm")], { type: "text/javascript" }));
  const id = model.get("_anywidget_id");
  try {
    const module = await import(address);
    if (!document.querySelector(`style[data-widget="${id}"]`)) {
      const style = document.createElement("style");
      style.dataset.widget = id;
      style.textContent = model.get("_css");
      document.head.append(style);
    }
    module.default.render({ model, el: place });
  } catch (error) {
    console.error(error);
    const note = document.createElement("p");
    note.setAttribute("role", "alert");
    note.append(`This control does not run in this browser, a newer one may do better. ${error}`);
    place.append(note);
  } finally {
    URL.revokeObjectURL(address);
  }
}

/** Show what the HTML parts of a box of ordinary widgets held when the page was stored. */
function freeze(id, models, place) {
  const { model_name: kind, state } = models[id];
  if (kind === "HTMLModel") place.insertAdjacentHTML("beforeend", state.value);
  for (const child of state.children ?? []) freeze(child.replace("IPY_MODEL_", ""), models, place);
}

function needsPython(place) {
  const live = document.querySelector("a.revlearn-live");
  const note = document.createElement("p");
  note.className = "revlearn-frozen";
  note.append("The controls of this figure need Python. ");
  if (live) {
    const link = document.createElement("a");
    link.href = live.href;
    link.textContent = "Run this page live.";
    note.append(link);
  }
  place.prepend(note);
}

async function start() {
  const state = document.querySelector(STATE);
  if (!state) return;
  const models = JSON.parse(state.textContent).state;
  const shared = new Map(); // a widget that is shown twice has one state
  for (const view of document.querySelectorAll(VIEW)) {
    const id = JSON.parse(view.textContent).model_id;
    const place = document.createElement("div");
    view.after(place);
    if (!models[id]) continue;
    if (models[id].model_module === "anywidget") {
      if (!shared.has(id)) shared.set(id, new Model(models[id].state));
      await mount(shared.get(id), place);
    } else {
      freeze(id, models, place);
      needsPython(place);
    }
  }
}

await start();
document.documentElement.dataset.widgets = "ready";
