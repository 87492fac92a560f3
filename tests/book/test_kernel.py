"""Explorables in JupyterLab, with Python behind them."""

import json
import os
import re
import subprocess
import sys
import time

import pytest

pytestmark = pytest.mark.xdist_group("kernel")
SECONDS = 1000

PHASE = [
    "from revlearn import widgets\nphase = widgets.PhaseSpace(momentum=0.9)\nphase",
    "print('Python has', phase.momentum, 'and reads:', phase.sentence)",
    "phase.momentum = 1.0",
]
EDITOR = [
    """\
import autograd.numpy as np
from autograd import value_and_grad
import revlearn as rl
from revlearn import widgets

def final_loss(schedules):
    rates, momenta = schedules
    optimizer = rl.SGD([rates[0]], [momenta[0]])
    final = rl.train(lambda w, hyper, t: np.sum(w[0] ** 2), [np.ones(2)], None, optimizer, 20)
    return np.sum(final[0] ** 2)

def train(rates, momenta):
    if rates[0].max() > 3.0:
        raise ValueError("such a rate is too large")
    loss, slopes = value_and_grad(final_loss)((rates, momenta))
    return [2.0, loss], loss, slopes

editor = widgets.ScheduleEditor(train, steps=20, layers=["weights"], learning_rate=0.1)
editor""",
    "print('Python has', editor.learning_rate[0, 0], 'error', repr(editor.error))",
    "editor.points = editor.points | {'learning_rate': [[[0, 3.5], [19, 3.5]]]}",
]


@pytest.fixture(scope="module")
def lab(browser, tmp_path_factory):
    """Return a function that opens cells in JupyterLab; it returns the page."""
    folder = tmp_path_factory.mktemp("lab")
    command = ["-m", "jupyter", "lab", "--no-browser", "--allow-root", "--ServerApp.token=secret"]
    options = ["--ServerApp.port=0", f"--ServerApp.root_dir={folder}", "--LabApp.news_url=None"]
    log = folder / "server.log"
    with log.open("w") as lines:
        server = subprocess.Popen(
            [sys.executable, *command, *options],
            stderr=lines,
            env=os.environ | {"JUPYTER_CONFIG_DIR": str(folder / ".jupyter")},
        )
    try:
        while not (found := re.search(r"(http://\S+:\d+/)lab", log.read_text("utf-8"))):
            assert server.poll() is None, log.read_text("utf-8")
            time.sleep(0.1)
        address = found[1]
        context = browser.new_context(viewport={"width": 1000, "height": 1000})

        def open_cells(cells):
            notebook = {
                "nbformat": 4,
                "nbformat_minor": 5,
                "metadata": {"kernelspec": {"name": "python3", "display_name": "Python 3"}},
                "cells": [
                    {
                        "cell_type": "code",
                        "id": f"cell-{number}",
                        "metadata": {},
                        "outputs": [],
                        "execution_count": None,
                        "source": source,
                    }
                    for number, source in enumerate(cells)
                ],
            }
            # A file of its own for each: JupyterLab joins a name to the kernel it had.
            name = f"cells-{time.monotonic_ns()}.ipynb"
            (folder / name).write_text(json.dumps(notebook), encoding="utf-8")
            page = context.new_page()
            page.goto(f"{address}doc/tree/{name}?token=secret")
            idle = page.locator(".jp-Notebook-ExecutionIndicator[data-status=idle]")
            idle.wait_for(timeout=120 * SECONDS)  # the kernel has started
            return page

        yield open_cells
        context.close()
    finally:
        server.terminate()
        server.wait()


def run_cell(page, number):
    """Run a cell as a reader does; return it.

    While JupyterLab still builds the page, it loses keys, and cells that wait for the kernel:
    press again until the cell has been run.
    """
    cell = page.locator(".jp-Notebook .jp-CodeCell").nth(number)
    prompt = cell.locator(".jp-InputPrompt")
    give_up = time.monotonic() + 120
    while not re.match(r"\[\d+\]", prompt.inner_text()):
        assert time.monotonic() < give_up, "the cell does not run"
        if prompt.inner_text() == "[ ]:":
            cell.locator(".cm-content").click()
            page.keyboard.press("Shift+Enter")
        page.wait_for_timeout(1 * SECONDS)
    return cell


def test_what_the_reader_moves_python_knows_and_the_other_way_round(lab):
    page = lab(PHASE)
    widget = run_cell(page, 0).locator(".revlearn")
    widget.get_by_label("momentum γ").press("ArrowLeft", timeout=60 * SECONDS)
    assert "0.160 bits" in widget.locator(".revlearn-sentence").inner_text()
    printed = run_cell(page, 1).locator(".jp-OutputArea-output").inner_text()
    assert printed.startswith("Python has 0.895 and reads: After 60 steps")
    run_cell(page, 2)
    widget.get_by_text("No bit is discarded").wait_for(timeout=20 * SECONDS)
    page.close()


def test_the_schedule_editor_runs_the_readers_own_training(lab):
    page = lab(EDITOR)
    widget = run_cell(page, 0).locator(".revlearn")
    sentence = widget.locator(".revlearn-sentence")
    sentence.wait_for(timeout=60 * SECONDS)
    before = sentence.inner_text()
    widget.get_by_role("button", name="take a hypergradient step").click()
    page.wait_for_function(
        "([p, before]) => p.textContent !== before", arg=[sentence.element_handle(), before]
    )
    printed = run_cell(page, 1).locator(".jp-OutputArea-output").inner_text()
    rate = float(re.search(r"Python has ([\d.]+) error ''", printed)[1])
    assert rate > 0.1  # this loss falls faster at a larger rate
    run_cell(page, 2)
    widget.get_by_role("alert").get_by_text("such a rate is too large").wait_for()
    page.close()
