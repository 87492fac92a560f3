"""Where the training gradient and its pullback come from: autograd, JAX or PyTorch.

A plain loss is differentiated by autograd. :func:`jax` and :func:`torch` say that a loss is
written in another framework. The state, its arithmetic and its bits are the same with all of them.

In all three a loss is a pure function of (weights, hyper, t), and what it is given is not to be
written to. Floats in `hyper` have derivatives; integers, booleans and random keys (labels, masks,
indices) are handed on as they are, and have none.
"""

from __future__ import annotations

from typing import Any

from ..parameters import Layout
from .base import FrameworkLoss, Gradients, Loss, Pullback, Vector, float_type
from .with_autograd import AutogradGradients

__all__ = [
    "AutogradGradients",
    "FrameworkLoss",
    "Gradients",
    "Loss",
    "Pullback",
    "Vector",
    "jax",
    "torch",
]


def jax(loss: Loss) -> FrameworkLoss:
    """Say that a training loss is written in JAX.

    Parameters
    ----------
    loss : callable
        ``loss(weights, hyper, t)`` returns a scalar. It is compiled, once for each kind of
        weights. `t` and everything in `hyper` are traced, too: take minibatches with
        ``jax.lax.dynamic_slice_in_dim`` and random keys with ``jax.random.fold_in(key, t)``.

    Returns
    -------
    FrameworkLoss
        To be handed to :func:`revlearn.train` or :func:`revlearn.record` as the loss.

    Raises
    ------
    ImportError
        If JAX is not installed.

    Notes
    -----
    Where weights, hyperparameters, schedules or velocities hold JAX's arrays, the final weights
    are JAX's arrays, and ``jax.grad`` goes through training. They have the types of the initial
    weights. Where these are numpy's, they are float64 in JAX's 64-bit mode and float32 without.
    Training runs in Python: it cannot stand inside ``jax.jit``, ``vmap`` or ``scan``.

    The gradients are float64 even if JAX's 64-bit mode is off: it is switched on for the calls of
    the loss only, with ``jax.enable_x64``. See `compute_dtype` of :func:`revlearn.train`.

    On the CPU, JAX has another thread run what it compiled. For small networks the hand-over
    takes a noticeable share of a step, a seventh on 45 thousand weights. Before JAX is used first,
    ``jax.config.update("jax_cpu_enable_async_dispatch", False)`` does without it.

    A loss is traced at the start of each run, which takes milliseconds, and compiled anew for each
    new function and where the trace is another than before. Define it outside of the objective and
    hand what varies to it in `hyper`. What it closes over is taken as it is when a run starts.
    numpy's arrays are compared with those of the run before, 10 ms for 60 MB; JAX's need not be,
    nobody can change them.

    Examples
    --------
    The derivative of the final loss with respect to the learning rate of each step::

        import jax
        import jax.numpy as jnp
        import revlearn as rl

        images, targets = jnp.asarray(train.images), jnp.asarray(train.targets)

        def loss(weights, hyper, t):
            batch = jax.lax.dynamic_slice_in_dim(images, 100 * t, 100)
            labels = jax.lax.dynamic_slice_in_dim(targets, 100 * t, 100)
            return -jnp.sum(labels * jax.nn.log_softmax(batch @ weights)) / 100

        def objective(rates):
            optimizer = rl.SGD(rates, momentum=0.9)
            final = rl.train(rl.gradients.jax(loss), jnp.zeros((784, 10)), None, optimizer, 50)
            return loss(final, None, 50)

        jax.grad(objective)(0.1 * jnp.ones(50))
    """
    from .with_jax import JaxLoss

    return JaxLoss(loss)


def torch(loss: Loss) -> FrameworkLoss:
    """Say that a training loss is written in PyTorch.

    Parameters
    ----------
    loss : callable
        ``loss(weights, hyper, t)`` returns a scalar tensor. It is given the weights and the
        hyperparameters as nests of tensors on the CPU: for a module, use
        ``torch.func.functional_call``. `t` is a plain integer.

    Returns
    -------
    FrameworkLoss
        To be handed to :func:`revlearn.train` or :func:`revlearn.record` as the loss.

    Raises
    ------
    ImportError
        If PyTorch is not installed.

    Notes
    -----
    Where weights, hyperparameters, schedules or velocities hold tensors, the final weights are
    tensors, and ``backward()`` goes through training to those that require a gradient. They have
    the types of the initial weights; where these are numpy's, they are float64.

    The tensors that the loss is given are float64, and so must be the data that it multiplies
    them with. See `compute_dtype` of :func:`revlearn.train`.

    Writes to these tensors, modules that move running statistics or other buffers, and tensors
    that require a gradient but were not handed over are refused. PyTorch counts no writes through
    ``.data`` and to numpy's views: these are looked for in the first step of a run only.

    Examples
    --------
    The derivative of the final loss with respect to the learning rate of each step::

        import torch
        import revlearn as rl

        images, targets = torch.tensor(train.images), torch.tensor(train.targets)

        def loss(weights, hyper, t):
            rows = slice(100 * t, 100 * t + 100)
            log_probabilities = torch.log_softmax(images[rows] @ weights, dim=1)
            return -(targets[rows] * log_probabilities).sum() / 100

        rates = torch.full((50,), 0.1, requires_grad=True)
        start = torch.zeros((784, 10), dtype=torch.float64)
        final = rl.train(rl.gradients.torch(loss), start, None, rl.SGD(rates, momentum=0.9), 50)
        loss(final, None, 50).backward()
        rates.grad
    """
    from .with_torch import TorchLoss

    return TorchLoss(loss)


def gradients_of(loss: Loss, weights: Layout, hyper: Layout, compute_dtype: Any) -> Gradients:
    """Return what computes the gradients of a loss, in the framework that it is written in.

    Parameters
    ----------
    loss : callable
        Training loss.
    weights, hyper : Layout
        Layouts of the two nests.
    compute_dtype : dtype
        float64 or float32.
    """
    dtype = float_type(compute_dtype)
    if isinstance(loss, FrameworkLoss):
        return loss.gradients(weights, hyper, dtype)
    return AutogradGradients(loss, weights, hyper, dtype)
