import base64
import json
import re
import zlib
from pathlib import Path

import numpy as np
import pytest

import revlearn as rl
from revlearn import results, widgets
from revlearn.losses import accuracy, l2, nll
from revlearn.models import mlp
from revlearn.widgets.explorable import bundle

GOLDEN = Path(__file__).parent / "golden/trained_pixels.json"
RATES = (0.3, 1.0, 10.0)
LENGTH = 100


def curve(images, digits, labels, penalty, rate, steps):
    """Loss and number right on the digits before each step and after the last, by revlearn."""
    images, digits = images.reshape(len(images), -1), digits.reshape(len(digits), -1)
    targets, found = np.eye(len(images)), []
    blank = [{"weights": np.zeros(images.T.shape), "biases": np.zeros(len(images))}]

    def loss(weights, hyper, t):
        return nll(mlp(weights, images), targets) + l2(weights, penalty)

    def look(weights):
        out = mlp(weights, digits)
        found.append(
            [float(nll(out, targets[labels])), round(accuracy(out, targets[labels]) * len(labels))]
        )

    optimizer = rl.SGD(rate, 0.9)
    tape = rl.record(loss, blank, None, optimizer, steps, callback=lambda t, w, v, g: look(w))
    look(tape.weights)
    return found


def random_problem():
    random = np.random.RandomState(0)
    return {
        "images": 0.3 * np.cumsum(random.randn(3, 10, 6, 6), axis=0),
        "losses": [2.0, 1.5, 1.0],
        "penalties": [0.01, 0.02, 0.05],
        "digits": random.randn(40, 6, 6),
        "labels": random.randint(10, size=40),
    }


def unpacked(text, rows):
    data = np.frombuffer(zlib.decompress(base64.b64decode(text)), np.int8)
    return data.reshape(-1, rows).T.astype(float)


def stored_images(widget):
    steps = np.array(widget.scales)[:, None] * unpacked(widget.packed, widget.shape[0])
    return np.cumsum(steps, axis=0).reshape(*widget.shape[:3], widget.shape[2])


def golden():
    problem = random_problem()
    widget = widgets.TrainedPixels(**problem)
    images = stored_images(widget)
    digits = widget.digit_scale * unpacked(widget.digits, 40)
    return [
        curve(images[k], digits, problem["labels"], problem["penalties"][k], rate, 40)
        for k in range(3)
        for rate in RATES
    ]


@pytest.fixture(scope="module")
def learned():
    """Return three snapshots of the stored run, and 100 digits."""
    arrays = results.load(Path(__file__).parents[2] / "book/results/training_set").arrays
    digits = rl.datasets.mnist_subset()
    kept = [0, 10, 40]
    return {
        "images": arrays["paper_hyper"][kept, :7840].reshape(3, 10, 28, 28),
        "losses": arrays["paper_values"][kept],
        "iterations": kept,
        "penalties": np.exp(arrays["paper_log_l2"][kept]),
        "digits": (digits.images - digits.images.mean(axis=0))[1000:1100].reshape(-1, 28, 28),
        "labels": digits.targets[1000:1100].argmax(axis=1),
    }


def said(page):
    sentence = page.locator(".revlearn-sentence")
    sentence.filter(has_text="After").wait_for()
    return sentence.inner_text().replace("−", "-")


def test_rounding_does_not_add_up(learned):
    widget = widgets.TrainedPixels(**learned)
    for scale, stored, image in zip(
        widget.scales, stored_images(widget), learned["images"], strict=True
    ):
        assert np.abs(stored - image).max() < 0.51 * scale
    assert widget.scales[-1] < 0.01


def test_the_golden_file_is_what_revlearn_learns():
    stored = json.loads(GOLDEN.read_text(encoding="utf-8"))
    np.testing.assert_allclose(stored, golden(), rtol=1e-9)


def test_javascript_learns_the_same(page):
    widget = widgets.TrainedPixels(**random_problem())
    names = ("shape", "scales", "packed", "digits", "digit_scale", "labels", "penalties")
    images, curves = page.evaluate(
        """async ([text, traits, rates]) => {
          const address = URL.createObjectURL(new Blob([text], { type: "text/javascript" }));
          const { load, learn } = await import(address);
          const { snapshots, digits } = await load({ get: (name) => traits[name] });
          const curves = snapshots.flatMap((images, k) => rates.map((rate) => learn({
            images, digits, labels: traits.labels, penalty: traits.penalties[k], rate, steps: 40,
          }).map(({ loss, right }) => [loss, right])));
          return [snapshots.map((images) => images.map((image) => [...image])), curves];
        }""",
        [
            bundle("trained_pixels.js") + "\nexport { load, learn };",
            {name: getattr(widget, name) for name in names},
            RATES,
        ],
    )
    np.testing.assert_allclose(np.array(images).reshape(3, 10, 6, 6), stored_images(widget))
    expected = np.array(json.loads(GOLDEN.read_text(encoding="utf-8")))
    np.testing.assert_allclose(np.array(curves)[..., 0], expected[..., 0], rtol=1e-9)
    np.testing.assert_array_equal(np.array(curves)[..., 1], expected[..., 1])


def test_the_sentence_tells_pixels_losses_and_what_is_learned(bench, learned):
    page = bench(widgets.TrainedPixels(**learned))
    text = said(page)
    images = learned["images"][-1]
    low, high = (float(x) for x in re.search(r"between (\S+) and ([\d.]+),", text).groups())
    assert (low, high) == pytest.approx((images.min(), images.max()), abs=0.01)
    assert f"validation loss is {learned['losses'][-1]:.3f}" in text
    moved = np.abs(learned["images"][2] - learned["images"][1]).max()
    assert float(re.search(r"more than ([\d.]+\d)", text)[1]) == pytest.approx(moved, rel=0.05)
    expected = curve(
        images, learned["digits"], learned["labels"], learned["penalties"][-1], 1.0, LENGTH
    )
    right, loss = re.search(
        r"has (\d+) of 100 digits right, at a loss of ([\d.]+\d)", text
    ).groups()
    assert int(right) == pytest.approx(expected[20][1], abs=1)  # images and digits are rounded
    assert float(loss) == pytest.approx(expected[20][0], rel=0.01)
    best = min(range(LENGTH + 1), key=lambda t: expected[t][0])
    assert abs(int(re.search(r"at step (\d+)", text)[1]) - best) <= 2


def test_updates_and_rate_move_by_keyboard_and_by_mouse(bench, learned):
    page = bench(widgets.TrainedPixels(**learned))
    assert "After 40 updates" in said(page)
    updates = page.get_by_label("updates of the images")
    updates.focus()
    page.keyboard.press("ArrowLeft")
    assert "After 10 updates" in said(page)
    assert "Since update 0 " in said(page)
    box = updates.bounding_box()
    page.mouse.click(box["x"] + 5, box["y"] + box["height"] / 2)
    assert "After 0 updates" in said(page)
    assert "Since" not in said(page)
    page.get_by_label("rate of the training").focus()
    page.keyboard.press("End")
    assert "at rate 100," in said(page)


def test_with_reduced_motion_play_takes_one_step(bench, learned):
    page = bench(widgets.TrainedPixels(**learned))
    said(page)
    page.get_by_role("button", name="play").click()
    assert "After 0 updates" in said(page)
    page.get_by_role("button", name="play").click()
    assert "After 10 updates" in said(page)


def test_orange_is_above_zero_and_purple_below(bench, learned):
    page = bench(widgets.TrainedPixels(**learned))
    said(page)
    image = learned["images"][-1, 1]
    high, low = (np.unravel_index(find(image), image.shape) for find in (np.argmax, np.argmin))
    pixels = page.evaluate(
        """() => [...document.querySelectorAll(".revlearn-images canvas")[1]
          .getContext("2d").getImageData(0, 0, 28, 28).data]"""
    )
    pixels = np.array(pixels).reshape(28, 28, 4)
    red, _, blue, opaque = pixels[high]
    assert red > blue + 50
    assert opaque == 255
    red, _, blue, _ = pixels[low]
    assert blue > red + 30
    label = page.get_by_role("img", name="10 images").get_attribute("aria-label")
    assert re.search(r"between −0\.\d+ and 0\.\d+", label)


def test_without_digits_nothing_is_trained(bench):
    page = bench(widgets.TrainedPixels(np.zeros((2, 3, 4, 4)), [1.0, 0.5]))
    assert "digits" not in said(page)
    assert page.get_by_label("rate of the training").count() == 0


def test_broken_data_are_reported(bench, learned):
    widget = widgets.TrainedPixels(**learned)
    widget.packed = widget.packed[:400]
    page = bench(widget)
    page.get_by_role("alert").wait_for()
    assert "Error" in page.get_by_role("alert").inner_text()


@pytest.mark.parametrize(
    ("changed", "complaint"),
    [
        ({"images": np.zeros((3, 10, 784))}, r"\(snapshots, classes, side, side\)"),
        ({"losses": [1.0, 2.0]}, r"losses of shape \(3,\)"),
        ({"losses": [1.0, np.nan, 2.0]}, "losses must be finite"),
        ({"iterations": [0, 1]}, r"iterations of shape \(3,\)"),
        ({"labels": None}, "together"),
        ({"digits": np.zeros((40, 36))}, r"digits of shape \(n, 6, 6\)"),
        ({"labels": np.full(40, 10)}, "from 0 to 9"),
    ],
)
def test_wrong_arrays_are_refused(changed, complaint):
    with pytest.raises(ValueError, match=complaint):
        widgets.TrainedPixels(**(random_problem() | changed))
