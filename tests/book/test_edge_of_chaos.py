import json
import re
from pathlib import Path

import autograd.numpy as np
import pytest
from autograd import jacobian, value_and_grad

import revlearn as rl
from revlearn import results, widgets
from revlearn.widgets.explorable import bundle

GOLDEN = Path(__file__).parent / "golden/edge_of_chaos.json"
RATES = (0.0, 1.0, 2.0, 2.5, 2.7)  # below the edge; above it the last bits decide
STEPS = (20, 50)

INPUTS = np.linspace(-2.0, 2.0, 8)
LABELS = np.where(np.abs(INPUTS) < 1.0, 1.0, -1.0)
START = np.array([1.6, -0.6, -0.5, -1.1, 0.9, -2.3, 1.7, -0.8, 0.3, -0.2])


def loss(weights, hyper=None, t=0):
    into, out, bias = weights[:3], weights[3:6], weights[6:9]
    output = np.dot(np.tanh(np.outer(INPUTS, into) + bias), out) + weights[9]
    return np.mean(np.logaddexp(0.0, -LABELS * output))


def trained(log_rate, start, steps):
    return rl.train(loss, start, None, rl.SGD(np.exp(log_rate), 0.9), steps)


def by_reversal(log_rate, steps):
    value, slope = value_and_grad(lambda x: loss(trained(x, START, steps)))(log_rate)
    halfway, end = (
        np.linalg.norm(jacobian(lambda w: trained(log_rate, w, T))(START) @ np.ones(10))
        for T in (steps // 2, steps)
    )
    growth = np.log(end / halfway) / (steps - steps // 2)
    return {"loss": value, "slope": slope, "growth": growth}


def golden():
    return [
        {"log_rate": rate, "steps": steps} | by_reversal(rate, steps)
        for rate in RATES
        for steps in STEPS
    ]


def numbers(text):
    return [
        float(mantissa)
        * 10.0 ** int(power.translate(str.maketrans("⁻⁰¹²³⁴⁵⁶⁷⁸⁹", "-0123456789")) or 0)
        for mantissa, power in re.findall(
            r"(-?\d+(?:\.\d+)?)(?:·10([⁻⁰¹²³⁴⁵⁶⁷⁸⁹]+))?", text.replace("−", "-")
        )
    ]


def said(page):
    """Log rate, loss, hypergradient, width, slope across it, 10 (percent), reach, growth."""
    return numbers(page.locator(".revlearn-sentence").inner_text())


def test_the_golden_file_is_what_reversed_training_gives():
    stored = json.loads(GOLDEN.read_text(encoding="utf-8"))
    for old, new in zip(stored, golden(), strict=True):
        assert old == pytest.approx(new, rel=1e-8, abs=1e-10)


def test_javascript_gives_the_same_hypergradients(page):
    cases = json.loads(GOLDEN.read_text(encoding="utf-8"))
    found = page.evaluate(
        """async ([text, cases]) => {
          const address = URL.createObjectURL(new Blob([text], { type: "text/javascript" }));
          const { train } = await import(address);
          return cases.map(({ log_rate, steps }) => ({
            ...train(log_rate, steps),
            growth: train(log_rate, steps, { source: 0, apart: 1 }).growth,
          }));
        }""",
        [bundle("edge_of_chaos.js") + "\nexport { train };", cases],
    )
    for case, here in zip(cases, found, strict=True):
        for name in ("loss", "slope"):
            assert here[name] == pytest.approx(case[name], rel=1e-8)
        assert here["growth"] == pytest.approx(case["growth"], abs=1e-7)


def test_the_sentence_tells_loss_tangent_and_secant(bench):
    page = bench(widgets.EdgeOfChaos(log_rate=2.0, width=0.1))
    rate, value, slope, width, across, _, reach, growth = said(page)
    expected = by_reversal(2.0, 50)
    assert (rate, width) == (2.0, 0.1)
    assert (value, slope) == pytest.approx((expected["loss"], expected["slope"]), rel=5e-3)
    assert growth == pytest.approx(np.exp(expected["growth"]), rel=5e-3)
    ends = [loss(trained(2.0 + d, START, 50)) for d in (-0.05, 0.05)]
    assert across == pytest.approx((ends[1] - ends[0]) / 0.1, rel=5e-3)
    assert reach > 0.5


def test_beyond_the_edge_only_a_narrow_window_agrees(bench):
    page = bench(widgets.EdgeOfChaos(log_rate=3.8, width=0.1))
    *_, slope, _, across, _, reach, _ = said(page)
    assert abs(slope) > 100 * abs(across)
    assert reach < 1e-3
    page.get_by_label("width of the window").focus()
    page.keyboard.press("Home")
    *_, slope, width, across, _, _, _ = said(page)
    assert width == 1e-8
    assert across == pytest.approx(slope, rel=0.02)


def test_the_grip_is_dragged_along_the_curve_and_moved_by_keys(bench):
    page = bench(widgets.EdgeOfChaos())
    grip = page.get_by_role("slider", name="learning rate, on the curve")
    box = grip.bounding_box()
    page.mouse.move(box["x"] + 9, box["y"] + 9)
    page.mouse.down()
    page.mouse.move(box["x"] - 250, box["y"] + 9, steps=4)
    page.mouse.up()
    dragged = said(page)[0]
    assert 1.0 < dragged < 2.5
    page.keyboard.press("ArrowRight")
    assert said(page)[0] == pytest.approx(dragged + 0.01, abs=1e-3)
    assert said(page)[1] == pytest.approx(loss(trained(said(page)[0], START, 50)), rel=5e-3)


def test_more_steps_are_other_runs(bench):
    page = bench(widgets.EdgeOfChaos(log_rate=2.0))
    page.get_by_label("training steps").focus()
    page.keyboard.press("ArrowRight")
    assert said(page)[1] == pytest.approx(loss(trained(2.0, START, 60)), rel=5e-3)


def test_a_stored_experiment_can_be_chosen(bench):
    paper = results.load(Path(__file__).parents[2] / "book/results/chaos").arrays
    page = bench(
        widgets.EdgeOfChaos(paper["log_rate"], paper["loss"], paper["slope"], log_rate=1.0)
    )
    page.get_by_label("data").select_option("stored")
    assert not page.get_by_label("training steps").is_visible()
    point = np.abs(paper["log_rate"] - 1.0).argmin()
    rate, value, slope, *_ = said(page)
    assert rate == pytest.approx(paper["log_rate"][point], abs=1e-3)
    assert value == pytest.approx(paper["loss"][point], rel=5e-3)
    assert slope == pytest.approx(paper["slope"][point], rel=5e-3)


def test_numbers_that_are_not_finite_are_said_to_be(bench):
    runs = ([0.0, 1.0, 2.0], [1.0, np.nan, 3.0], [1.0, np.inf, 1.0])
    page = bench(widgets.EdgeOfChaos(*runs, source="stored", log_rate=1.0))
    assert "not finite" in page.locator(".revlearn-sentence").inner_text()


@pytest.mark.parametrize(
    ("runs", "complaint"),
    [
        (([0.0, 1.0, 2.0], [1.0, 2.0], [1.0, 2.0, 3.0]), r"shape \(n,\)"),
        (([0.0, 1.0], [1.0, 2.0], [1.0, 2.0]), "at least 3"),
        (([0.0, 2.0, 1.0], [1.0, 2.0, 3.0], [1.0, 2.0, 3.0]), "increase"),
    ],
)
def test_wrong_arrays_are_refused(runs, complaint):
    with pytest.raises(ValueError, match=complaint):
        widgets.EdgeOfChaos(*runs)


def test_what_is_not_there_cannot_be_shown():
    with pytest.raises(ValueError, match="nothing is stored"):
        widgets.EdgeOfChaos(source="stored")
