r"""Recurrent networks whose hidden state is run backwards, bit for bit.

The hidden state has two halves. Each is decayed and added to, by what follows from the other half
and the input:

.. math::

    h_1 &\leftarrow z_1 \odot h_1 + u_1(h_2, x_t) \\
    h_2 &\leftarrow z_2 \odot h_2 + u_2(h_1, x_t)

The halves are integers, the gates z are ratios :math:`n / 2^{12}`, one for each number and step,
and what the products discard is kept in an :class:`~revlearn.InformationBuffer`. So the gradient
of a loss over all steps is had without storing the states: from the last one, backwards.
MacKay, Vicol, Ba and Grosse, "Reversible Recurrent Neural Networks", NeurIPS 2018, with
:math:`u = (1 - z) \odot \tanh(\ldots)`, which is :func:`gru`.
"""

from .cells import gru, init_gru, ratio
from .losses import record, total_loss, unrolled_loss
from .tape import RecurrentTape

__all__ = [
    "RecurrentTape",
    "gru",
    "init_gru",
    "ratio",
    "record",
    "total_loss",
    "unrolled_loss",
]
