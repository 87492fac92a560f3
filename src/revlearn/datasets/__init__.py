"""Handwritten digits and alphabets."""

from .mnist import Digits, mnist, mnist_subset
from .omniglot import Omniglot, omniglot

__all__ = ["Digits", "Omniglot", "mnist", "mnist_subset", "omniglot"]
