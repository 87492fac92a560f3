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
