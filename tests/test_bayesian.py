"""Bayesian optimisation with gradients: the process, expected improvement, ask and tell."""

import numpy as np
import pytest
from autograd import grad, jacobian
from hypothesis import given, settings
from hypothesis import strategies as st

from revlearn.bayesian import BayesianSearch, cleaned, log_expected_improvement
from revlearn.gaussian_process import GaussianProcess, covariance, value_covariance

LENGTH_SCALES = np.array([0.4, 0.9, 0.6])
QUIET = np.log([0.4, 0.9, 0.6, 1.3, 1e-3, 1e-3])


def kernel(x, y):
    """The Matérn 5/2 kernel of two points as textbooks have it."""
    import autograd.numpy as anp

    r = anp.sqrt(anp.sum(((x - y) / LENGTH_SCALES) ** 2))
    return (1.0 + 5.0**0.5 * r + 5.0 / 3.0 * r**2) * anp.exp(-(5.0**0.5) * r)


def test_the_blocks_are_the_derivatives_of_the_kernel():
    random = np.random.RandomState(0)
    a, b = random.rand(4, 3), random.rand(5, 3)
    blocks = covariance(a, b, LENGTH_SCALES).reshape(4, 4, 5, 4)
    for i, x in enumerate(a):
        for j, y in enumerate(b):
            block = blocks[i, :, j]
            assert np.allclose(block[0, 0], kernel(x, y), rtol=1e-12)
            assert np.allclose(block[1:, 0], grad(kernel, 0)(x, y), rtol=1e-10)
            assert np.allclose(block[0, 1:], grad(kernel, 1)(x, y), rtol=1e-10)
            mixed = jacobian(grad(kernel, 0), 1)(x, y)
            assert np.allclose(block[1:, 1:], mixed, rtol=1e-10, atol=1e-12)
    of_values = value_covariance(a, b, LENGTH_SCALES)
    assert np.allclose(of_values, blocks[:, 0].reshape(4, -1), rtol=1e-14)


def test_at_one_point_value_and_gradient_are_independent():
    block = covariance(np.ones((1, 3)), np.ones((1, 3)), LENGTH_SCALES)
    assert np.allclose(block, np.diag([1.0, *(5.0 / 3.0 / LENGTH_SCALES**2)]), atol=1e-12)


@given(st.integers(1, 6), st.integers(1, 4), st.integers(0, 10**6))
@settings(max_examples=30, deadline=None)
def test_a_covariance_is_symmetric_and_not_negative(n, dimensions, seed):
    random = np.random.RandomState(seed)
    matrix = covariance(*[random.rand(n, dimensions)] * 2, 0.1 + random.rand(dimensions))
    assert np.allclose(matrix, matrix.T, atol=1e-9 * abs(matrix).max())
    assert np.linalg.eigvalsh(matrix).min() > -1e-9 * abs(matrix).max()


def function(x):
    return np.sin(3.0 * x[..., 0]) + x[..., 1] ** 2 - x[..., 0] * x[..., 2]


def gradient(x):
    parts = [3.0 * np.cos(3.0 * x[..., 0]) - x[..., 2], 2.0 * x[..., 1], -x[..., 0]]
    return np.stack(parts, axis=-1)


def observed_at(points, with_gradients=True):
    observations = np.column_stack([function(points), gradient(points)])
    observed = np.ones(observations.shape, bool)
    observed[:, 1:] = with_gradients
    return observations, observed


def test_gradients_say_what_values_close_by_would_say():
    """The same posterior from values at distances of 1e-4, in place of the gradients."""
    points, elsewhere = np.random.RandomState(1).rand(2, 5, 3)
    step = 1e-4
    parameters = np.log([0.4, 0.9, 0.6, 1.3, 1e-8, 1e-6])
    by_gradients = GaussianProcess(points, *observed_at(points), parameters)
    close = (points[:, None] + step * np.vstack([np.zeros(3), np.eye(3)])).reshape(-1, 3)
    by_values = GaussianProcess(close, *observed_at(close, False), parameters)
    for ours, theirs in zip(
        by_gradients.predict(elsewhere), by_values.predict(elsewhere), strict=True
    ):
        assert np.allclose(ours, theirs, atol=2e-3)
    without = GaussianProcess(points, *observed_at(points, False), parameters)
    assert np.abs(without.predict(elsewhere)[0] - by_values.predict(elsewhere)[0]).max() > 0.05


def test_prediction_is_the_textbook_formula():
    points, elsewhere = np.random.RandomState(2).rand(2, 4, 3)
    observations, observed = observed_at(points)
    observed[1, 1:] = False
    observed[2, 0] = False
    parameters = np.log([0.4, 0.9, 0.6, 1.3, 0.1, 0.3])
    mean, deviation = GaussianProcess(points, observations, observed, parameters).predict(elsewhere)
    rows = observed.ravel()
    noise = np.tile([0.1**2, 0.3**2, 0.3**2, 0.3**2], 4)
    matrix = 1.3**2 * covariance(points, points, LENGTH_SCALES) + np.diag(noise)
    across = 1.3**2 * value_covariance(elsewhere, points, LENGTH_SCALES)[:, rows]
    weights = np.linalg.solve(matrix[rows][:, rows], across.T)
    assert np.allclose(mean, observations.ravel()[rows] @ weights, rtol=1e-9)
    variance = 1.3**2 - np.sum(across.T * weights, axis=0)
    assert np.allclose(deviation, np.sqrt(variance), rtol=1e-7)


def test_a_point_without_observations_says_nothing():
    points, elsewhere = np.random.RandomState(2).rand(2, 4, 3)
    for with_gradients in (True, False):
        observations, observed = observed_at(points, with_gradients)
        observed[3] = False
        all_four = GaussianProcess(points, observations, observed, QUIET).predict(elsewhere)
        three = GaussianProcess(points[:3], observations[:3], observed[:3], QUIET)
        assert np.allclose(all_four, three.predict(elsewhere), rtol=1e-9)


def test_it_goes_through_what_it_was_told_with_the_slope_it_was_told():
    points = np.random.RandomState(3).rand(6, 3)
    observations, observed = observed_at(points)
    process = GaussianProcess(points, observations, observed, QUIET)
    mean, deviation = process.predict(points)
    assert np.allclose(mean, observations[:, 0], atol=1e-3)
    assert deviation.max() < 2e-3
    slope = grad(lambda x: process.predict(x[None])[0][0])
    for point, told in zip(points, observations[:, 1:], strict=True):
        assert np.allclose(slope(point), told, atol=1e-2)
    far = process.predict(np.full((1, 3), 50.0))
    assert np.allclose(far, [[0.0], [1.3]], atol=1e-6)


@pytest.mark.parametrize("with_gradients", [True, False])
def test_the_likelihood_and_its_gradient(with_gradients):
    points = np.random.RandomState(4).rand(5, 3)
    observations, observed = observed_at(points, with_gradients)
    process = GaussianProcess(points, observations, observed, QUIET)
    parameters = np.log([0.5, 0.7, 0.6, 1.1, 0.1, 0.2])
    value, slope = process.negative_log_likelihood(parameters)
    rows = observed.ravel()
    noise = np.tile([0.1**2, 0.2**2, 0.2**2, 0.2**2], 5)
    matrix = 1.1**2 * covariance(points, points, np.array([0.5, 0.7, 0.6])) + np.diag(noise)
    matrix, targets = matrix[rows][:, rows], observations.ravel()[rows]
    density = targets @ np.linalg.solve(matrix, targets) + np.linalg.slogdet(2 * np.pi * matrix)[1]
    assert np.allclose(value, 0.5 * density, rtol=1e-9)
    for i in range(6):
        step = 1e-5 * (np.arange(6) == i)
        above, below = (process.negative_log_likelihood(parameters + s * step)[0] for s in (1, -1))
        assert np.isclose(slope[i], (above - below) / 2e-5, rtol=1e-5, atol=1e-5)


def test_length_scales_find_the_dimension_that_matters():
    points = np.random.RandomState(5).rand(12, 3)
    observations = np.zeros((12, 4))
    observations[:, 0] = np.sin(9.0 * points[:, 1])
    observations[:, 2] = 9.0 * np.cos(9.0 * points[:, 1])
    process = GaussianProcess(points, observations, np.ones((12, 4), bool), QUIET).fitted()
    assert process.length_scales[1] < 0.7
    assert process.length_scales[[0, 2]].min() > 3.0


def test_arrays_that_do_not_fit_are_named():
    points = np.zeros((2, 3))
    with pytest.raises(ValueError, match=r"observations has shape \(2, 3\), expected \(2, 4\)"):
        GaussianProcess(points, np.zeros((2, 3)), np.ones((2, 4), bool), QUIET)
    with pytest.raises(ValueError, match=r"parameters has shape \(3,\), expected \(6,\)"):
        GaussianProcess(points, np.zeros((2, 4)), np.ones((2, 4), bool), QUIET[:3])


def test_expected_improvement_is_the_mean_improvement():
    samples = np.random.RandomState(6).randn(400_000)
    for mean, deviation, best in ((0.3, 0.5, 0.1), (-1.0, 0.2, 0.0), (1.0, 0.4, 0.2)):
        gains = np.maximum(best - (mean + deviation * samples), 0.0)
        formula = np.exp(log_expected_improvement(mean, deviation, best))
        assert abs(gains.mean() - formula) < 4.0 * gains.std() / np.sqrt(len(samples))


def test_its_gradient_is_that_of_finite_differences_near_and_far_out():
    for z in (-5000.0, -1001.0, -999.0, -60.0, -8.0, -1.0, -1e-6, 0.0, 1e-6, 1.0, 8.0, 60.0):

        def of(x):
            return log_expected_improvement(x[0], x[1], 0.0)

        x, step = np.array([-2.0 * z, 2.0]), 1e-6
        for i, slope in enumerate(grad(of)(x)):
            move = step * np.maximum(abs(x[i]), 1.0) * (np.arange(2) == i)
            numeric = (of(x + move) - of(x - move)) / (2.0 * move[i])
            assert np.isfinite(slope)
            assert np.isclose(slope, numeric, rtol=1e-4, atol=1e-6), (z, i)


def test_far_out_it_is_the_known_asymptote():
    """log EI → log φ(z) − 2 log|z| as z → −∞ (Mills' ratio)."""
    for z in (-50.0, -500.0, -5000.0, -1e8):
        asymptote = -0.5 * z**2 - 0.5 * np.log(2.0 * np.pi) - 2.0 * np.log(-z)
        assert np.isclose(log_expected_improvement(-z, 1.0, 0.0), asymptote, rtol=1e-5)


def test_standardised_gradients_are_gradients_of_standardised_values():
    points = np.linspace(0.0, 1.0, 7)[:, None]
    values, slopes = 5.0 + 2.0 * points[:, 0] + points[:, 0] ** 2, 2.0 + 2.0 * points
    observations, observed = cleaned(values, slopes, first=7)
    assert observed.all()
    assert np.isclose(observations[:, 0].mean(), 0.0)
    assert np.isclose(observations[:, 0].std(), 1.0)
    # a quadratic's difference is its mean slope times the distance
    between = 0.5 * (observations[1:, 1] + observations[:-1, 1]) * np.diff(points[:, 0])
    assert np.allclose(np.diff(observations[:, 0]), between)


def test_what_is_far_off_does_not_ruin_the_model():
    values = np.array([1.0, 2.0, 4.0, 1e30, np.inf, np.nan])
    slopes = np.array([[1.0], [2.0], [1e9], [1e40], [np.nan], [3.0]])
    observations, observed = cleaned(values, slopes, first=3)
    spacing = observations[1, 0] - observations[0, 0]
    assert np.allclose(np.diff(observations[:, 0]), spacing * np.array([1, 2, 0, 0, 0]))
    assert observed[:, 0].all()
    assert observed[:, 1].tolist() == [True, True, False, False, False, False]
    assert np.isfinite(observations).all()


@pytest.mark.parametrize("values", [[np.inf], [np.nan, np.inf], [2.0], [2.0, 2.0], [1.0, np.inf]])
def test_a_model_can_be_made_of_very_little(values):
    search = BayesianSearch([0.0, 0.0], [1.0, 1.0], first=1)
    for i, value in enumerate(values):
        search.tell([0.3 + 0.2 * i, 0.5], value)
    x = search.ask()
    assert np.isfinite(x).all()
    assert x.min() >= 0.0
    assert x.max() <= 1.0


def bowl(x):
    """A quadratic in 6 dimensions, minimum 0 at 0.3; and its gradient."""
    curvature = np.array([1.0, 2.0, 4.0, 1.0, 3.0, 2.0])
    return 0.5 * np.sum(curvature * (x - 0.3) ** 2), curvature * (x - 0.3)


def test_on_a_quadratic_gradients_save_evaluations():
    values = {}
    for with_gradients in (True, False):
        search = BayesianSearch(-np.ones(6), np.ones(6), first=2)
        for _ in range(12):
            x = search.ask()
            value, slope = bowl(x)
            search.tell(x, value, slope if with_gradients else None)
        values[with_gradients] = search.best[1]
    assert bowl(np.zeros(6))[0] > 0.5
    assert values[True] < 0.01
    assert values[True] < 0.2 * values[False]


def test_it_depends_on_its_seed_and_history_alone():
    def asked(search, count):
        points = []
        for _ in range(count):
            x = search.ask()
            assert np.array_equal(x, search.ask())  # nothing was told in between
            points.append(x)
            value, slope = bowl(x)
            search.tell(x, value if len(search.values) != 4 else np.nan, slope)
        return points

    def new(seed):
        return BayesianSearch(-np.ones(6), np.ones(6), seed=seed, first=3, refit_every=3)

    whole = new(1)
    points = asked(whole, 10)
    resumed = new(1)
    for told in zip(whole.points[:7], whole.values[:7], whole.gradients[:7], strict=True):
        resumed.tell(*told)
    assert np.array_equal(asked(resumed, 3), points[7:])
    assert not np.array_equal(asked(new(2), 2)[1], points[1])


def test_units_do_not_matter():
    low, side = np.array([-3.0, 10.0]), np.array([0.01, 50.0])
    unit, other = BayesianSearch([0.0, 0.0], [1.0, 1.0]), BayesianSearch(low, low + side)
    for x in np.random.RandomState(0).rand(5, 2):
        unit.tell(x, np.sin(3.0 * x[0]) + x[1] ** 2, [3.0 * np.cos(3.0 * x[0]), 2.0 * x[1]])
        other.tell(low + side * x, 7.0 * unit.values[-1] + 5.0, 7.0 * unit.gradients[-1] / side)
    assert np.allclose((other.ask() - low) / side, unit.ask(), atol=1e-3)


def test_the_first_points_are_the_start_and_a_latin_hypercube():
    low, high = np.array([-3.0, 10.0]), np.array([-1.0, 20.0])
    search = BayesianSearch(low, high, start=[-1.5, 19.0], first=6)
    points = []
    for _ in range(6):
        points.append(search.ask())
        search.tell(points[-1], 0.0)
    assert points[0].tolist() == [-1.5, 19.0]
    parts = np.floor((np.array(points[1:]) - low) / (high - low) * 5)
    assert np.sort(parts, axis=0).T.tolist() == [[0, 1, 2, 3, 4]] * 2
    x = search.ask()
    assert np.all(x >= low)
    assert np.all(x <= high)


def asks_needed(search, offsets, scale, with_gradients, most):
    """Tell results next to (0.5, 0.5); return how many asks it takes to 0.001 of the scale."""

    def tell(x):
        value, slope = scale * np.sum((x - 0.3) ** 2), 2.0 * scale * (x - 0.3)
        search.tell(x, value, slope if with_gradients else None)

    for offset in offsets:
        tell(np.array([0.5 + offset, 0.5]))
    for count in range(most + 1):
        if search.best[1] < 1e-3 * scale:
            return count
        tell(search.ask())
    return np.inf


CROWDS = {
    "distinct": 1e-9 * np.arange(6),
    "closer": 1e-12 * np.arange(6),
    "wider": 1e-6 * np.arange(6),
    "wide": 1e-2 * np.arange(6),
    "equal": np.zeros(6),
    "crowd and one": np.array([0.0, 1e-9, 2e-9, 3e-9, 0.4]),
}


@pytest.mark.parametrize("crowd", CROWDS)
@pytest.mark.parametrize("first", [1, 2, 5, 6])
@pytest.mark.parametrize("scale", [1e-9, 1.0, 1e9])
def test_results_at_one_place_do_not_blind_it(crowd, first, scale):
    search = BayesianSearch([0.0, 0.0], [1.0, 1.0], first=first)
    assert asks_needed(search, CROWDS[crowd], scale, True, most=8) <= 8


@pytest.mark.parametrize("crowd", ["distinct", "equal", "crowd and one"])
@pytest.mark.parametrize(("first", "scale"), [(1, 1e9), (2, 1.0), (2, 1e-9), (5, 1e9)])
def test_nor_do_they_without_gradients(crowd, first, scale):
    search = BayesianSearch([0.0, 0.0], [1.0, 1.0], first=first)
    assert asks_needed(search, CROWDS[crowd], scale, False, most=12) <= 12


def test_a_crowd_does_not_clip_half_of_what_lies_elsewhere():
    """Neither with slopes, nor without; and what is far off still is clipped."""
    points = np.array([[0.5], [0.5 + 1e-9], [0.5 + 2e-9], [0.0], [1.0], [0.2]])
    values, slopes = (points[:, 0] - 0.45) ** 2, 2.0 * (points - 0.45)
    values[4] = 1e30
    for scale in (1e-9, 1e9):
        for told in (slopes, np.full((6, 1), np.nan)):
            observations, observed = cleaned(scale * values, scale * told, 3, points)
            assert observed[[0, 3, 5], 1].tolist() == [np.isfinite(told[0, 0])] * 3
            shape = observations[:, 0] - observations[0, 0]
            known = (values - values[0]) / (values[3] - values[0])
            assert np.allclose(shape[[1, 2, 3, 5]] / shape[3], known[[1, 2, 3, 5]])
            assert 0.1 < shape[3] <= shape[4] < 3.0


def test_gradients_of_one_place_are_used():
    points = 0.5 + 1e-9 * np.arange(4)[:, None]
    slopes = 2.0 * (points - 0.3)
    for scale in (1e-9, 1.0, 1e9):
        values = scale * (points[:, 0] - 0.3) ** 2
        observations, observed = cleaned(values, scale * slopes, 2, points)
        assert observed[:2].all()
        assert np.allclose(observations[:2, 1], 1.0)


def test_slopes_that_are_too_steep_are_not_believed_where_values_say_otherwise():
    """As in chaos: values of order one all over the box, slopes of a million."""
    points = np.random.RandomState(0).rand(8, 2)
    values, slopes = np.sin(9.0 * points[:, 0]), 1e6 * np.cos(9.0 * points)
    for first in (1, 3, 8):
        observations, observed = cleaned(values, slopes, first, points)
        assert np.ptp(observations[:, 0]) > 1.0
        assert not observed[:, 1:].any()


@pytest.mark.parametrize("ends", [(0.0, np.inf), (-np.inf, 0.0), (np.nan, 1.0), (0.0, np.nan)])
def test_a_box_without_end_is_refused(ends):
    low, high = ends
    with pytest.raises(ValueError, match=rf"side 1 of the box goes from {low} to {high}: .*finite"):
        BayesianSearch([0.0, low, 0.0], [1.0, high, np.inf])
    with pytest.raises(ValueError, match=r"side 0 of the box goes from -1e\+308 to 1e\+308"):
        BayesianSearch([-1e308], [1e308])
    with pytest.raises(ValueError, match="not a point of the box"):
        BayesianSearch([0.0], [1.0], start=[np.nan])


@pytest.mark.parametrize("name", ["first", "refit_every"])
def test_counts_are_whole_numbers(name):
    for wrong in (2.5, 2.0, "2", None, np.nan, 0, -1):
        with pytest.raises((TypeError, ValueError), match=rf"{name} must be .*not {wrong!r}"):
            BayesianSearch([0.0], [1.0], **{name: wrong})
    assert getattr(BayesianSearch([0.0], [1.0], **{name: np.int64(3)}), name) == 3


def test_what_does_not_fit_the_box_is_refused():
    with pytest.raises(ValueError, match="side 1 of the box goes from 1"):
        BayesianSearch([0.0, 1.0], [1.0, 1.0])
    with pytest.raises(ValueError, match="not a box"):
        BayesianSearch([0.0, 1.0], [1.0])
    with pytest.raises(ValueError, match="not a point of the box"):
        BayesianSearch([0.0], [1.0], start=[2.0])
    with pytest.raises(ValueError, match="1 or more"):
        BayesianSearch([0.0], [1.0], first=0)
    search = BayesianSearch([0.0], [1.0])
    with pytest.raises(ValueError, match="no model before"):
        search.model()
    with pytest.raises(ValueError, match=r"gradient 0 has shape \(2,\)"):
        search.tell([0.5], 1.0, [1.0, 2.0])
    with pytest.raises(ValueError, match="point 0 is"):
        search.tell([np.nan], 1.0)
    search.tell([0.5], np.inf)
    with pytest.raises(ValueError, match="no finite value"):
        _ = search.best
