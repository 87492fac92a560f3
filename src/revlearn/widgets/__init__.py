"""Controls for the book's figures. Needs ipywidgets and matplotlib.

``import revlearn`` does not load this module.
"""

from .explorer import Explorer

__all__ = ["Explorer"]
