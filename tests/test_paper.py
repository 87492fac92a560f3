"""The authors' seeds, splits and initial weights."""

import autograd.numpy as np
import pytest
from autograd import grad

import revlearn as rl
from revlearn import paper
from revlearn.parameters import map_leaves


@pytest.mark.parametrize(
    ("key", "seed"),
    [((0, 0), 3147814774), ((0, 0, 0), 2841424136), ("final_training", 3533553953)],
)
def test_seeds_are_the_authors(key, seed):
    """The authors' experiment code, run under Python 3, gave these three."""
    ours = paper.random_state(key)
    assert ours.randn(5).tolist() == np.random.RandomState(seed).randn(5).tolist()


def test_keys_of_other_types_have_other_seeds():
    draws = {paper.random_state(key).rand() for key in [(0, 1), (1, 0), (0, 10), "(0, 1, 0)", 0]}
    assert len(draws) == 5


@pytest.fixture
def like():
    return rl.models.init_mlp([3, 2, 4], np.random.RandomState(0))


def scales_of(like, values):
    numbers = iter(values)
    return map_leaves(lambda leaf: next(numbers), like)


def test_scaled_normal_is_one_draw_laid_out_layer_by_layer(like):
    layers = paper.scaled_normal(np.random.RandomState(7), like, scales_of(like, [1, 10, 100, 1e3]))
    draw = np.random.RandomState(7).randn(3 * 2 + 2 + 2 * 4 + 4)
    # weights (inputs x outputs, row-major) before biases, layer 1 before layer 2
    assert np.array_equal(layers[0]["weights"], draw[:6].reshape(3, 2))
    assert np.array_equal(layers[0]["biases"], 10 * draw[6:8])
    assert np.array_equal(layers[1]["weights"], 100 * draw[8:16].reshape(2, 4))
    assert np.array_equal(layers[1]["biases"], 1e3 * draw[16:])


def test_scaled_normal_takes_dicts_and_tuples():
    like = {"a": np.zeros(2), "b": (np.zeros(1), [np.array(0.0)])}
    draw = np.random.RandomState(7).randn(4)
    nest = paper.scaled_normal(np.random.RandomState(7), like, {"a": 2.0, "b": (3.0, [4.0])})
    assert isinstance(nest["b"], tuple)
    assert nest["a"].tolist() == (2.0 * draw[:2]).tolist()
    assert nest["b"][0].tolist() == [3.0 * draw[2]]
    assert float(nest["b"][1][0]) == 4.0 * draw[3]


def test_scaled_normal_is_differentiable_in_each_scale(like):
    """The weights are linear in the scales: the slope of Σ c·w is Σ c·draw, leaf by leaf."""
    factors = map_leaves(lambda leaf: 1.0 + np.arange(float(leaf.size)).reshape(leaf.shape), like)

    def total(scales):
        layers = paper.scaled_normal(np.random.RandomState(7), like, scales)
        return sum(
            np.sum(factor[name] * layer[name])
            for factor, layer in zip(factors, layers, strict=True)
            for name in ("weights", "biases")
        )

    slopes = grad(total)(scales_of(like, [0.3, 1.0, -2.0, 5.0]))
    draw = np.random.RandomState(7).randn(20)
    for (layer, name), (start, stop) in zip(
        [(0, "weights"), (0, "biases"), (1, "weights"), (1, "biases")],
        [(0, 6), (6, 8), (8, 16), (16, 20)],
        strict=True,
    ):
        expected = np.arange(1.0, 1.0 + stop - start) @ draw[start:stop]
        assert slopes[layer][name] == pytest.approx(expected, rel=1e-13)


def test_splits_are_consecutive_rows_minus_the_training_mean():
    digits = rl.datasets.mnist_subset()
    (train, train_targets), (rest, rest_targets) = paper._centred(digits, 300, (200, 150))
    mean = digits.pixels[:300].astype(float).sum(axis=0) / 300 / 255
    assert train.shape == (200, 784)
    assert np.allclose(train, digits.pixels[:200] / 255 - mean, atol=1e-15)
    assert np.allclose(rest, digits.pixels[200:350] / 255 - mean, atol=1e-15)
    assert np.argmax(train_targets, axis=1).tolist() == digits.labels[:200].tolist()
    assert np.argmax(rest_targets, axis=1).tolist() == digits.labels[200:350].tolist()


def test_the_mean_is_that_of_the_training_images_alone():
    digits = rl.datasets.mnist_subset()
    ((train, _),) = paper._centred(digits, 200, (200,))
    assert np.allclose(train.mean(axis=0), 0.0, atol=1e-15)
    ((other, _),) = paper._centred(digits, 5000, (200,))
    assert not np.allclose(other.mean(axis=0), 0.0, atol=1e-3)


def test_more_rows_than_there_are_is_an_error():
    with pytest.raises(ValueError, match="cannot split 5000 digits"):
        paper._centred(rl.datasets.mnist_subset(), 5000, (3000, 3000))
