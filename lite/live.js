// First script of a live page: how the start of Python goes, and what to do if it does not.

const KERNEL = "@jupyterlite/pyodide-kernel-extension:kernel";
const PATIENCE = 90; // seconds
const ROOT = new URL("./", import.meta.url);
const CHAPTER = new URLSearchParams(location.search).get("path") ?? "";

const bar = document.createElement("aside");
bar.id = "revlearn-start";
bar.setAttribute("role", "status");
bar.setAttribute("aria-label", "Python in this page");
const style = document.createElement("style");
style.textContent = `
  #revlearn-start {
    position: fixed; inset: auto 0 0 0; z-index: 10000; padding: 0.6rem 1rem;
    background: #fff; color: #111; border-top: 3px solid #0072b2;
    font: 1rem/1.4 system-ui, sans-serif;
  }
  #revlearn-start p { margin: 0 0 0.3rem; }
  #revlearn-start a { color: #00558c; }
  #revlearn-start button { font: inherit; margin-right: 0.6rem; padding: 0.2rem 0.8rem; }
  #revlearn-start.failed { border-color: #d55e00; }
`;
document.head.append(style);
document.body ? document.body.append(bar) : addEventListener("DOMContentLoaded", () => document.body.append(bar));

function say(state, ...parts) {
  bar.dataset.state = state;
  bar.classList.toggle("failed", state === "failed" || state === "slow");
  bar.replaceChildren(...parts);
}

function paragraph(...parts) {
  const p = document.createElement("p");
  p.append(...parts);
  return p;
}

function link(href, text) {
  const a = document.createElement("a");
  a.href = new URL(href, ROOT);
  a.textContent = text;
  return a;
}

function button(text, action) {
  const b = document.createElement("button");
  b.type = "button";
  b.textContent = text;
  b.addEventListener("click", action);
  return b;
}

function instead(reason, state = "failed") {
  const page = CHAPTER.replace(/\.ipynb$/, ".html");
  say(
    state,
    paragraph(reason),
    paragraph(
      "Instead you can ",
      link(`../book/${page}`, "read the chapter with its stored figures and numbers"),
      ", or ",
      link("../book/how_to_use.html#run", "run it on your own machine"),
      ".",
    ),
    button("Try again", () => location.reload()),
    button("Close", () => bar.remove()),
  );
}

say(
  "starting",
  paragraph(
    "Python is starting in this page. The first time, about 35 MB are loaded. ",
    "Until it is ready, figures and numbers are the stored ones.",
  ),
);

/** Tell the kernel where our wheels are: a lock knows addresses relative to Pyodide's only. */
async function prepare() {
  if (typeof WebAssembly !== "object") throw new Error("This browser has no WebAssembly.");
  const configuration = await (await fetch(new URL("jupyter-lite.json", ROOT))).json();
  const settings = configuration["jupyter-config-data"].litePluginSettings[KERNEL];
  const pyodide = new URL("pyodide.asm.wasm", new URL(settings.pyodideUrl, ROOT));
  const found = await fetch(pyodide, { method: "HEAD" }).catch(() => null);
  if (!found?.ok) throw new Error(`Python cannot be loaded from ${pyodide.host}.`);

  const options = settings.loadPyodideOptions;
  const address = new URL(options.lockFileURL, ROOT);
  const lock = await (await fetch(address)).json();
  for (const entry of Object.values(lock.packages))
    if (entry.file_name.startsWith("./")) entry.file_name = new URL(entry.file_name, address).href;
  const blob = new Blob([JSON.stringify(lock)], { type: "application/json" });
  options.lockFileURL = URL.createObjectURL(blob);
  return options;
}

// Jupyter uses the arrow keys itself. Controls in outputs need them.
document.addEventListener("focusin", ({ target }) => {
  if (target.closest(".jp-OutputArea")) target.setAttribute("data-lm-suppress-shortcuts", "true");
});

// Jupyter would open a link to another chapter in its file browser, which is not here.
document.addEventListener(
  "click",
  (event) => {
    const chapter = event.target.closest?.(".jp-RenderedMarkdown a")?.href.match(/\w+\/\w+\.ipynb$/);
    if (!chapter) return;
    event.preventDefault();
    event.stopPropagation();
    location.search = `?path=${chapter[0]}`;
  },
  true,
);

const until = async (condition) => {
  for (;;) {
    const value = condition();
    if (value) return value;
    await new Promise((resolve) => setTimeout(resolve, 200));
  }
};

/** Wait until the kernel has answered, and has loaded what every chapter imports. */
async function watch() {
  const late = setTimeout(
    () => instead(`Python has not started after ${PATIENCE} seconds. It may still come.`, "slow"),
    1000 * PATIENCE,
  );
  let reply;
  try {
    const panel = await until(() => window.jupyterapp?.shell?.currentWidget);
    await panel.context.ready;
    const kernel = await until(() => panel.sessionContext.session?.kernel);
    // Each module looked for in the folder of the chapters would cost a request: look there last.
    const code = "import sys; sys.path.sort(key=lambda p: p == '')\nimport revlearn.widgets, matplotlib.pyplot";
    reply = await kernel.requestExecute({ code, silent: true, store_history: false }).done;
  } finally {
    clearTimeout(late);
  }
  if (reply.content.status !== "ok") throw new Error(`Python did not start: ${reply.content.evalue}.`);
  const run = async () => {
    say("running", paragraph("All cells run, one after the other. [*] stands beside those that wait."));
    const panel = window.jupyterapp.shell.currentWidget;
    panel.content.activeCellIndex = 0;
    await window.jupyterapp.commands.execute("notebook:run-all-cells");
    say("done", paragraph("All cells have run."), button("Close", () => bar.remove()));
    panel.content.activeCellIndex = 0;
    panel.content.node.scrollTo(0, 0);
  };
  say(
    "ready",
    paragraph("Python is ready. Shift and Enter, or ▶ above, run the cell that is chosen."),
    button("Run all cells", run),
    button("Close", () => bar.remove()),
  );
}

try {
  const options = await prepare();
  await import("./config-utils.js");
  // It has put its settings together, and JupyterLite is only now being fetched.
  const script = document.getElementById("jupyter-config-data");
  const settings = JSON.parse(script.textContent);
  settings.litePluginSettings[KERNEL].loadPyodideOptions = options;
  script.textContent = JSON.stringify(settings);
  await watch();
} catch (error) {
  instead(error.message);
}
