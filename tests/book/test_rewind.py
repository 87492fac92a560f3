import itertools
import json
import math
import re
from pathlib import Path

import autograd.numpy as anp
import numpy as np
import pytest
from autograd import grad
from autograd.extend import defvjp, primitive

import revlearn as rl
from revlearn import widgets
from revlearn.stores import InMemory
from revlearn.widgets.explorable import bundle

GOLDEN = Path(__file__).parent / "golden/rewind.json"
DEFAULTS = {"start": (-1.6, 2.2), "learning_rate": 0.6, "momentum": 0.8, "steps": 300}
CASES = {
    "default": DEFAULTS,
    "momentum 0.9": {**DEFAULTS, "momentum": 0.9, "steps": 400},
    "momentum 0.5": {**DEFAULTS, "momentum": 0.5, "steps": 500, "learning_rate": 1.0},
    "other start": {"start": (0.3, -0.45), "learning_rate": 0.25, "momentum": 0.99, "steps": 350},
}
EVERY = 50  # steps between those that the golden file holds


def gradient(w):
    across = w[1] - 0.5 * w[0] * w[0]
    return np.array([0.05 * (w[0] - 1) - across * w[0], across])


def formula(w):
    return (w[1] - w[0] ** 2 / 2) ** 2 / 2 + (w[0] - 1) ** 2 / 40


# The gradient is given, so that its operations come in the order in which the browser takes them.
@primitive
def loss(w, hyper, t):
    return formula(w)


defvjp(loss, lambda value, w, hyper, t: lambda g: g * gradient(w))


def record(start, learning_rate, momentum, steps):
    return rl.record(loss, np.array(start), None, rl.SGD(learning_rate, momentum), steps)


def state(run):
    """All integers of a run, as strings."""
    (part,) = run._parts
    (buffer,) = part.buffers["velocity"]
    return {
        "weights": [str(whole) for whole in run.integers["weights"]],
        "velocity": [str(whole) for whole in run.integers["velocity"]],
        "words": [str(word) for word in buffer._words],
        "spilled": [[str(word) for word in low.get()] for _, low, _ in buffer._spilled],
    }


def fold(total, found):
    """Fold the integers of a state into 64 bits, so that the file pins every step."""
    lists = found["weights"], found["velocity"], found["words"], *found["spilled"]
    for whole in itertools.chain(*lists):
        total = (total * 1_000_003 + int(whole)) % 2**64
    return total


def golden():
    found = {}
    for name, case in CASES.items():
        run = record(**case)._run.copy()
        states, there, total = {}, [], 0
        for t in range(case["steps"])[::-1]:
            there.append((t + 1, state(run)))
            run.unstep(t, gradient)
        there.append((0, state(run)))
        for t, at in there[::-1]:
            total = fold(total, at)
            if t % EVERY == 0:
                states[str(t)] = at
        found[name] = {**case, "start": list(case["start"]), "states": states, "fold": str(total)}
    return found


def said(page):
    return page.locator(".revlearn-sentence").inner_text().replace("−", "-")


def numbers(text):
    plain = re.sub(r"·10([⁻⁰¹²³⁴⁵⁶⁷⁸⁹]+)", lambda power: "e" + superscript(power[1]), text)
    return [float(x) for x in re.findall(r"-?\d+(?:\.\d+)?(?:e-?\d+)?", plain)]


def superscript(text):
    return text.translate(str.maketrans("⁻⁰¹²³⁴⁵⁶⁷⁸⁹", "-0123456789"))


def scrub(page, to):
    page.get_by_label("step t").evaluate(
        "(input, to) => { input.value = to; input.dispatchEvent(new Event('input')); }", str(to)
    )


def float_errors(start, learning_rate, momentum, steps):
    """Distance of the weights from the run, by step, when it is reversed in floats."""
    ratio = round(momentum * 2**16) / 2**16
    w, v = np.array(start), np.zeros(2)
    run = [w]
    for _ in range(steps):
        v = ratio * v - (1 - ratio) * gradient(w)
        w = w + learning_rate * v
        run.append(w)
    errors = np.zeros(steps + 1)
    with np.errstate(all="ignore"):
        for t in range(steps)[::-1]:
            w = w - learning_rate * v
            v = (v + (1 - ratio) * gradient(w)) / ratio
            errors[t] = np.linalg.norm(w - run[t])
    return errors


def test_the_gradient_is_that_of_the_loss():
    for point in np.random.RandomState(0).uniform(-2, 2, size=(20, 2)):
        expected = grad(lambda w: formula(anp.array(w)))(point)
        np.testing.assert_allclose(gradient(point), expected, rtol=1e-12, atol=1e-14)


def test_python_finds_the_integers_of_the_golden_file():
    stored = json.loads(GOLDEN.read_text(encoding="utf-8"))
    assert stored == golden()
    assert len(stored["momentum 0.9"]["states"]["400"]["spilled"]) == 1  # past the first spill
    assert len(stored["momentum 0.5"]["states"]["500"]["spilled"]) > 10
    for case in stored.values():
        assert set(case["states"]["0"]["velocity"] + case["states"]["0"]["words"]) == {"0"}


def test_the_browser_finds_the_same_integers_word_for_word(page):
    module = bundle("rewind.js") + "\nexport { ExactSGD, gradient };\n"
    found = page.evaluate(
        """async ([text, cases, every]) => {
          const blob = new Blob([text], { type: "text/javascript" });
          const { ExactSGD, gradient } = await import(URL.createObjectURL(blob));
          const strings = (wholes) => wholes.map(String);
          const state = ({ weights, velocity, buffer }) => ({
            weights: strings(weights), velocity: strings(velocity), words: strings(buffer.words),
            spilled: buffer.spilled.map(({ words }) => strings(words)),
          });
          const fold = (total, { weights, velocity, words, spilled }) =>
            [...weights, ...velocity, ...words, ...spilled.flat()].reduce(
              (sum, whole) => BigInt.asUintN(64, sum * 1000003n + BigInt(whole)), total);
          const found = {};
          for (const [name, { start, learning_rate, momentum, steps }] of Object.entries(cases)) {
            const run = new ExactSGD({ start, learningRate: learning_rate, momentum, gradient });
            const there = [state(run)];
            while (run.steps < steps) { run.step(); there.push(state(run)); }
            const states = {};
            there.forEach((at, t) => { if (t % every === 0) states[t] = at; });
            let differing = 0;
            const text = (at) => JSON.stringify(at);
            const compare = () => (differing += text(state(run)) !== text(there[run.steps]));
            while (run.steps > 0) { run.unstep(); compare(); }
            while (run.steps < steps) { run.step(); compare(); }
            found[name] = {
              start, learning_rate, momentum, steps, states,
              fold: String(there.reduce(fold, 0n)), differing,
            };
          }
          return found;
        }""",
        [module, CASES, EVERY],
    )
    for case in found.values():
        assert case.pop("differing") == 0  # on the way back, and on the way there again
    assert found == json.loads(GOLDEN.read_text(encoding="utf-8"))


def test_scrubbing_meets_the_start_bit_for_bit(bench):
    page = bench(widgets.Rewind())
    at_the_end = said(page)
    tape = record(**DEFAULTS)
    np.testing.assert_allclose(numbers(at_the_end)[2:4], tape.weights, rtol=5e-3)
    np.testing.assert_allclose(numbers(at_the_end)[4:6], tape.velocity, rtol=5e-3)
    assert "97 and 97 bits" in at_the_end  # 300 log2(1/0.8) = 96.6
    whole = int(tape._run.integers["weights"][0])
    assert f"{whole:016x}" in page.locator("table").inner_text().replace(" ", "")

    scrub(page, 0)
    assert "the start is met bit for bit" in said(page)
    assert "buffer 1: 0 bits" in page.locator(".revlearn-bits").inner_text()
    assert "-1.600000000" in page.locator("table").inner_text().replace("−", "-")
    scrub(page, 300)  # forwards again: the same run, bit for bit
    assert said(page) == at_the_end


def test_the_bits_drawn_are_those_of_the_buffer(bench):
    page = bench(widgets.Rewind(position=250))
    assert "t log₂(d/n) is 80.5" in said(page)  # 250 log2(65536/52429)
    stored = json.loads(GOLDEN.read_text(encoding="utf-8"))["default"]["states"]["250"]
    for k in (0, 1):
        whole = "".join(f"{int(low[k]):032b}"[::-1] for low in stored["spilled"])
        whole += f"{int(stored['words'][k]):b}"[::-1]
        drawing = page.locator(".revlearn-bits svg").nth(k)
        boxes = [
            drawing.locator("path").nth(kind).get_attribute("d").count("M") for kind in (0, 1, 2)
        ]
        assert boxes == [whole.count("0"), whole.count("1"), len(stored["spilled"])]
        assert f"buffer {k + 1}: {len(whole)} bits" in page.locator(".revlearn-bits").inner_text()


def test_floats_miss_and_by_how_much(bench):
    page = bench(widgets.Rewind())
    page.get_by_label("taken back").select_option("float")
    scrub(page, 120)
    errors = float_errors(**DEFAULTS)
    missed = re.search(r"is missed by ([^:]+):", said(page))[1]
    assert math.isclose(numbers(missed)[0], errors[120], rel_tol=5e-3)
    beyond = max(np.flatnonzero(~(errors < 0.01)))
    assert f"at step {beyond}, after {300 - beyond} steps back" in said(page)
    assert "floats keep no digit" in page.locator(".revlearn-bits").inner_text()
    scrub(page, 0)
    assert "nothing is left at step 0" in said(page)


def test_with_enough_momentum_floats_come_close(bench):
    page = bench(widgets.Rewind(momentum=0.95, arithmetic="float", position=0))
    errors = float_errors(**{**DEFAULTS, "momentum": 0.95})
    assert "stays within 0.01" in said(page)
    missed = re.search(r"the start is missed by ([^:]+):", said(page))[1]
    assert math.isclose(numbers(missed)[0], errors[0], rel_tol=5e-3)


def test_without_the_buffers_bits_integers_miss_as_well(bench):
    page = bench(widgets.Rewind(arithmetic="forgetful", position=240))
    run = record(**DEFAULTS)._run.copy()
    (part,) = run._parts
    (buffer,) = part.buffers["velocity"]
    buffer._words[:] = 0
    zeros = InMemory().put(np.zeros(buffer.size, dtype=np.uint32))
    buffer._spilled = [(depth, zeros, None) for depth, *_ in buffer._spilled]
    for t in range(240, 300)[::-1]:
        run.unstep(t, gradient)
    right = record(**{**DEFAULTS, "steps": 240}).weights
    missed = re.search(r"is missed by ([^:]+):", said(page))[1]
    off = np.linalg.norm(run.values("weights") - right)
    assert math.isclose(numbers(missed)[0], off, rel_tol=5e-3)
    assert off > 1e-9  # floats are 1e-16 off here
    ones = page.locator(".revlearn-bits .revlearn-bar")
    assert [ones.nth(k).get_attribute("d") for k in (0, 1)] == ["", ""]


def test_it_is_driven_by_keyboard_and_by_mouse(bench):
    page = bench(widgets.Rewind())
    page.get_by_label("step t").focus()
    page.keyboard.press("ArrowLeft")
    assert "Step 299 of 300" in said(page)
    page.get_by_role("button", name="play backwards").click()  # a single step: motion is reduced
    assert "Step 298 of 300" in said(page)
    page.get_by_label("momentum γ").focus()
    page.keyboard.press("ArrowRight")
    assert f"t log₂(d/n) is {-298 * math.log2(round(0.81 * 2**16) / 2**16):.1f}" in said(page)
    page.get_by_role("button", name="to the end").click()
    page.get_by_label("steps of training").focus()
    page.keyboard.press("ArrowRight")
    assert "Step 310 of 310" in said(page)


def test_the_start_is_dragged_and_met_again(bench):
    page = bench(widgets.Rewind())
    grip = page.get_by_role("slider", name="where training starts")
    before = said(page)
    box = grip.bounding_box()
    page.mouse.move(box["x"] + 9, box["y"] + 9)
    page.mouse.down()
    page.mouse.move(box["x"] + 100, box["y"] + 40, steps=4)
    page.mouse.up()
    dragged = grip.get_attribute("aria-valuetext")
    page.keyboard.press("ArrowDown")
    assert "first weight -1.6" not in dragged.replace("−", "-")
    assert grip.get_attribute("aria-valuetext") != dragged
    assert said(page) != before
    scrub(page, 0)
    assert "met bit for bit" in said(page)


def test_a_run_that_leaves_the_range_says_so(bench):
    page = bench(widgets.Rewind(start=(900.0, 0.0)))
    assert "does not fit the range" in page.get_by_role("alert").inner_text()
    with pytest.raises(rl.FixedPointOverflowError):
        record(**{**DEFAULTS, "start": (900.0, 0.0)})


if __name__ == "__main__":
    GOLDEN.write_text(json.dumps(golden(), indent=1) + "\n", encoding="utf-8")
