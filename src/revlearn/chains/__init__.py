r"""Markov chains of Hamiltonian dynamics, exactly reversible and differentiable.

Transition t refreshes a part of the velocity, then takes `leaps` steps of the leapfrog in a
potential U, all chains at once:

.. math::

    v &\leftarrow \gamma_t\,v + \sqrt{1 - \gamma_t^2}\;\xi_t, \qquad \xi_t \sim N(0, 1) \\
    x &\leftarrow x + \tfrac12 h_t v, \quad v \leftarrow v - h_t \nabla U(x, \theta, t),
    \quad x \leftarrow x + \tfrac12 h_t v \qquad \text{(leaps times)}

One leap is underdamped Langevin dynamics with friction −log(γ)/h, many are Hamiltonian Monte Carlo
without its accept step (Horowitz 1991; Neal 2011). A step size for each coordinate is a diagonal
mass matrix. The leapfrog only adds what can be computed again and costs no bits; the refreshment
is a multiplication by a ratio through an information buffer, and its noise is drawn again from
the seed.
"""

from .dynamics import State, noise
from .recording import Recording
from .running import Outcome, record, run

__all__ = ["Outcome", "Recording", "State", "noise", "record", "run"]
