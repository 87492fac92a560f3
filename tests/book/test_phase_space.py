import re

import numpy as np

from revlearn import widgets


def said(page):
    return page.locator(".revlearn-sentence").inner_text().replace("−", "-")


def expected(learning_rate, momentum, curvature, kappa, steps=60, w=1.5, v=0.0):
    for _ in range(steps):
        v = momentum * v - kappa * curvature * w
        w = w + learning_rate * v
    return w, v


def test_it_follows_the_rule_and_counts_the_bits(bench):
    page = bench(widgets.PhaseSpace(learning_rate=0.3, momentum=0.9))
    w, v = (float(x) for x in re.findall(r"(?:weight|velocity)\D*?(-?[\d.]+\d)", said(page)))
    assert np.allclose((w, v), expected(0.3, 0.9, 1.0, 1.0), rtol=1e-2)
    assert "0.152 bits per parameter" in said(page)  # log2(1 / 0.9)


def test_sliders_move_by_keyboard(bench):
    page = bench(widgets.PhaseSpace(learning_rate=0.3, momentum=0.9))
    before = said(page)
    page.get_by_label("momentum γ").focus()
    page.keyboard.press("ArrowLeft")
    assert "0.160 bits per parameter" in said(page)  # log2(1 / 0.895)
    assert said(page) != before


def test_the_start_is_dragged_by_mouse_and_by_keyboard(bench):
    page = bench(widgets.PhaseSpace())
    grip = page.get_by_role("slider", name="where the run starts")
    box = grip.bounding_box()
    page.mouse.move(box["x"] + 9, box["y"] + 9)
    page.mouse.down()
    page.mouse.move(box["x"] - 100, box["y"] - 40, steps=4)
    page.mouse.up()
    dragged = grip.get_attribute("aria-valuetext")
    assert dragged != "weight 1.5, velocity 0"
    page.keyboard.press("ArrowUp")
    assert grip.get_attribute("aria-valuetext") != dragged


def test_the_reversible_limit_discards_nothing(bench):
    page = bench(widgets.PhaseSpace())
    page.get_by_role("button", name="γ = 1").click()
    assert "It wobbles and does not drift. No bit is discarded" in said(page)
    page.get_by_label("form of the rule").select_option("paper")
    assert "shuts the gradient out" in said(page)
    assert "wobbles" not in said(page)  # nothing turns the particle around


def test_beyond_the_limit_of_stability_nothing_wobbles(bench):
    page = bench(widgets.PhaseSpace(learning_rate=3.0, curvature=2.0, momentum=1.0))  # αh > 4
    assert "The energy has grown by a factor of" in said(page)
    assert "wobbles" not in said(page)


def test_with_reduced_motion_play_takes_one_step(bench):
    page = bench(widgets.PhaseSpace())
    page.get_by_role("button", name="play").click()
    assert "After 0 steps" in said(page)
    page.get_by_role("button", name="play").click()
    assert "After 1 step " in said(page)
