"""Run every live chapter to its end in Chromium, as a reader does who presses "Run all cells".

    python tools/check_live.py            # all of them: 15 minutes or more
    python tools/check_live.py paper/toy  # one

`make book` builds them. The tests of the book run one chapter; this is for all, before a release.
"""

from __future__ import annotations

import sys
import time

from chromium import open_browser, served
from lite import FOLDERS, OUTPUT

# Returns what went wrong: errors, what stands on stderr, cells that did not run.
RUN_ALL = """async () => {
  await jupyterapp.commands.execute("notebook:run-all-cells");
  const { widgets } = jupyterapp.shell.currentWidget.content;
  const models = widgets.map((widget) => widget.model).filter((model) => model.type === "code");
  return models.flatMap((model, number) => {
    const wrong = model.outputs.toJSON().flatMap((output) => {
      if (output.output_type === "error") return output.traceback.join("\\n");
      return output.name === "stderr" ? output.text : [];
    });
    if (!model.executionCount) wrong.push("did not run");
    return wrong.map((text) => `cell ${number}: ${text}`);
  });
}"""


def main(chapters: list[str]) -> int:
    files = OUTPUT / "files"
    if not files.exists():
        print("there are no live pages: make book", file=sys.stderr)
        return 1
    written = sorted(path for folder in FOLDERS for path in (files / folder).glob("*.ipynb"))
    failed = False
    with served(OUTPUT.parent) as site, open_browser() as browser:
        for chapter in chapters or [
            str(path.relative_to(files).with_suffix("")) for path in written
        ]:
            page = browser.new_page()
            page.goto(f"{site}{OUTPUT.name}/notebooks/index.html?path={chapter}.ipynb")
            page.wait_for_selector("#revlearn-start[data-state=ready]", timeout=300_000)
            started = time.monotonic()
            complaints = page.evaluate(RUN_ALL)
            seconds = time.monotonic() - started
            print(f"{seconds:6.0f} s  {chapter}", *complaints, sep="\n", flush=True)
            failed |= complaints != []
            page.close()
    return int(failed)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
