"""Figures that chapters share."""

import numpy as np
import pytest
from matplotlib.figure import Figure

from revlearn import plotting

SCHEDULES = [
    {"weights": 10.0 * layer + np.arange(5.0), "biases": -np.arange(5.0)} for layer in range(3)
]


def test_each_layer_has_its_line_in_order():
    axes = Figure().add_subplot()
    lines = plotting.schedules_by_leaf(axes, SCHEDULES)
    assert lines == list(axes.lines)
    assert [line.get_label() for line in lines] == ["layer 1", "layer 2", "layer 3"]
    for layer, line in enumerate(lines):
        assert line.get_xdata().tolist() == [0, 1, 2, 3, 4]
        assert line.get_ydata().tolist() == (10.0 * layer + np.arange(5.0)).tolist()
    assert axes.get_xlabel() == "step $t$"
    assert axes.get_legend() is None


def test_biases_are_another_leaf():
    lines = plotting.schedules_by_leaf(Figure().add_subplot(), SCHEDULES, "biases")
    assert all(line.get_ydata().tolist() == [0, -1, -2, -3, -4] for line in lines)


def test_an_unknown_leaf_is_an_error():
    with pytest.raises(KeyError, match="scales"):
        plotting.schedules_by_leaf(Figure().add_subplot(), SCHEDULES, "scales")


def test_the_style_tells_lines_apart_without_colour():
    plotting.use_style()
    axes = Figure().add_subplot()
    lines = plotting.schedules_by_leaf(axes, SCHEDULES)
    assert len({line.get_color() for line in lines}) == 3
    assert len({line.get_linestyle() for line in lines}) == 3


def test_learning_curves_start_at_zero_on_a_logarithmic_axis_with_labels():
    axes = Figure().add_subplot()
    curves = {"train": [2.0, 1.0, 0.5], "test": np.array([3.0, 2.0, 1.0])}
    lines = plotting.learning_curves(axes, curves, ticks=[0.5, 2.0])
    assert [line.get_label() for line in lines] == ["train", "test"]
    assert [line.get_xdata().tolist() for line in lines] == [[0, 1, 2]] * 2
    assert lines[1].get_ydata().tolist() == [3.0, 2.0, 1.0]
    assert axes.get_yscale() == "log"
    assert axes.get_xlabel() == "meta-iteration"
    assert axes.get_ylabel() == "loss [nats]"
    assert axes.get_yticks().tolist() == [0.5, 2.0]
    assert [text.get_text() for text in axes.get_legend().get_texts()] == ["train", "test"]


def test_images_share_one_scale_and_are_row_major():
    figure = Figure()
    pixels = np.arange(12.0).reshape(3, 4) - 6.0
    drawn = plotting.images(figure, pixels, ["a", "b", "c"], columns=2, unit="ink")
    assert drawn[0].get_array().tolist() == [[-6.0, -5.0], [-4.0, -3.0]]
    assert {image.get_clim() for image in drawn} == {(-6.0, 6.0)}
    assert [image.axes.get_title() for image in drawn] == ["a", "b", "c"]
    assert figure.axes[-1].get_ylabel() == "ink"
    clipped = plotting.images(Figure(), pixels, ["a", "b", "c"], limit=2.0)
    assert clipped[0].get_clim() == (-2.0, 2.0)


def test_images_refuse_what_is_not_square_or_not_named():
    with pytest.raises(ValueError, match="5 pixels do not make a square"):
        plotting.images(Figure(), np.ones((1, 5)), ["a"])
    with pytest.raises(ValueError, match="2 images need as many titles, not 1"):
        plotting.images(Figure(), np.ones((2, 4)), ["a"])


def test_correlations_are_drawn_with_their_numbers():
    axes = Figure().add_subplot()
    image = plotting.correlations(axes, [[1.0, -0.66], [-0.66, 1.0]], ["Greek", "Latin"])
    assert image.get_array().tolist() == [[1.0, -0.66], [-0.66, 1.0]]
    assert image.get_clim() == (-1.0, 1.0)
    assert [text.get_text() for text in axes.texts] == ["1", "-.7", "-.7", "1"]
    assert [tick.get_text() for tick in axes.get_yticklabels()] == ["Greek", "Latin"]
