import autograd.numpy as np
import pytest
from autograd import elementwise_grad, grad
from autograd.test_util import check_grads
from hypothesis import given
from hypothesis import strategies as st

from revlearn import NonFiniteError
from revlearn.parameters import ALIGNMENT, Layout, aligned, as_aligned, named_leaves

shapes = st.lists(st.integers(0, 3), max_size=3).map(tuple)
nests = st.recursive(
    shapes.map(lambda shape: np.random.RandomState(0).randn(*shape) if shape else 0.5),
    lambda children: (
        st.lists(children, max_size=3)
        | st.lists(children, max_size=3).map(tuple)
        | st.dictionaries(st.sampled_from("abc"), children, max_size=3)
    ),
    max_leaves=8,
)


def same(one, other):
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(one[k], other[k]) for k in one)
    if isinstance(one, (list, tuple)):
        return type(one) is type(other) and all(map(same, one, other)) and len(one) == len(other)
    return np.shape(one) == np.shape(other) and np.array_equal(one, other)


@given(nests)
def test_flatten_and_unflatten_are_inverse(nest):
    layout = Layout(nest, "weights")
    flat = layout.flatten(nest)
    assert flat.shape == (layout.size,)
    assert same(layout.unflatten(flat), nest)
    assert [name for name, _ in named_leaves(nest, "weights")] == layout.names


def test_numbers_lie_row_major_in_the_order_of_insertion():
    nest = {"z": np.array([[1.0, 2.0], [3.0, 4.0]]), "a": [5.0]}
    layout = Layout(nest, "w")
    assert layout.flatten(nest).tolist() == [1, 2, 3, 4, 5]
    assert [layout.name_of(i) for i in (2, 4)] == ["w['z'][1, 0]", "w['a'][0]"]
    reordered = {"a": [5.0], "z": nest["z"]}
    assert layout.flatten(reordered).tolist() == [1, 2, 3, 4, 5]


def test_derivatives_of_first_and_second_order():
    layout = Layout({"a": np.zeros((2, 2)), "b": 0.0, "c": [np.zeros(3)]}, "w")

    def function(flat):
        nest = layout.unflatten(flat)
        return np.sum(nest["a"] @ nest["a"]) * nest["b"] + np.sum(np.sin(nest["c"][0]) ** 2)

    x = np.random.RandomState(0).randn(layout.size)
    check_grads(function, modes=["rev"], order=2)(x)

    def through_nest(flat):
        return function(layout.flatten(layout.unflatten(flat)))

    assert np.allclose(grad(through_nest)(x), grad(function)(x), rtol=0, atol=0)
    u = np.arange(1.0, layout.size + 1)
    ours = grad(lambda x: np.dot(grad(function)(x), u))(x)
    slope = elementwise_grad(function)
    assert np.allclose(ours, (slope(x + 1e-5 * u) - slope(x - 1e-5 * u)) / 2e-5, atol=1e-6)


def test_leaves_that_are_not_used_get_zero():
    layout = Layout([np.ones(2), np.ones(2)], "w")
    gradient = grad(lambda flat: np.sum(layout.unflatten(flat)[1] ** 2))(np.ones(4))
    assert gradient.tolist() == [0, 0, 2, 2]


def test_what_does_not_fit_is_named():
    layout = Layout({"a": np.zeros(2), "b": [0.0]}, "weights")
    with pytest.raises(ValueError, match=r"missing velocity\['b'\]\[0\]"):
        layout.flatten({"a": np.zeros(2)}, "velocity")
    with pytest.raises(ValueError, match=r"unexpected weights\['c'\]"):
        layout.flatten({"a": np.zeros(2), "b": [0.0], "c": 1.0})
    with pytest.raises(ValueError, match=r"weights\['a'\] has shape \(3,\), expected \(2,\)"):
        layout.flatten({"a": np.zeros(3), "b": [0.0]})
    with pytest.raises(NonFiniteError, match=r"leaf weights\['a'\]\[1\]: it is nan"):
        layout.flatten({"a": np.array([0.0, np.nan]), "b": [0.0]})
    with pytest.raises(TypeError, match=r"weights\['a'\] must hold real numbers"):
        layout.flatten({"a": np.array(["x", "y"]), "b": [0.0]})


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_aligned_vectors_are_aligned_and_copied_only_if_need_be(dtype):
    for size in (1, 2, 7, 1000):
        vector = aligned(size, dtype)
        assert vector.shape == (size,)
        assert vector.dtype == dtype
        assert vector.ctypes.data % ALIGNMENT == 0
        vector[...] = np.arange(size)
        assert as_aligned(vector, dtype) is vector
        for copy in (as_aligned(vector, dtype, copy=True), as_aligned(vector[1:], dtype)):
            assert copy.size == 0 or copy.ctypes.data % ALIGNMENT == 0
            assert not np.shares_memory(copy, vector)
            assert np.array_equal(copy, vector[size - copy.size :])


def test_with_only_floats_the_rest_stays_what_it_is():
    labels = np.array([[3, 1]], dtype=np.int16)
    nest = {"labels": labels, "x": 0.5, "rest": [True, 7, np.uint8(3), np.float32(2.0), None]}
    layout = Layout(nest, "hyper", only_floats=True)
    assert layout.names == ["hyper['x']", "hyper['rest'][3]"]
    assert list(layout.constants) == [
        "hyper['labels']",
        *(f"hyper['rest'][{i}]" for i in range(3)),
    ]
    assert layout.flatten(nest).tolist() == [0.5, 2.0]
    labels[...] = 0
    found = layout.unflatten(np.array([1.0, 4.0]))
    assert found["labels"].tolist() == [[3, 1]]
    assert found["labels"].dtype == np.int16
    with pytest.raises(ValueError, match="read-only"):
        found["labels"][0, 0] = 1
    assert [type(leaf) for leaf in found["rest"][:3]] == [bool, int, np.uint8]
    assert float(found["rest"][3]) == 4.0
    assert layout.unflatten(np.zeros(2), "abcd")["rest"][:3] == ["b", "c", "d"]
    with pytest.raises(ValueError, match=r"missing hyper\['labels'\]"):
        layout.flatten({"x": 0.5, "rest": nest["rest"]})
    # Everything is a float without.
    assert Layout(nest, "weights").size == 7


def test_keys_of_layouts_tell_kinds_and_shapes_apart():
    def key(**nest):
        return Layout(nest, "hyper", only_floats=True).key

    assert key(a=np.arange(3), b=0.5) == key(a=np.arange(3) + 5, b=1.5)
    different = [
        key(a=np.arange(3), b=0.5),
        key(a=np.arange(4), b=0.5),
        key(a=np.arange(3, dtype=np.int8), b=0.5),
        key(a=np.arange(3.0), b=0.5),
        key(a=3, b=0.5),
        key(a=True, b=0.5),
        key(a=np.arange(3), c=0.5),
        key(a=np.arange(3), b=np.zeros(1)),
    ]
    assert len(set(different)) == len(different)
