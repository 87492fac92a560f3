"""Controls for the book's figures. Needs ipywidgets, anywidget and matplotlib.

``import revlearn`` does not load this module. An `Explorer` redraws a figure in Python. The others
compute in the reader's browser, so that they work in a published page as well.
"""

from .edge_of_chaos import EdgeOfChaos
from .explorer import Explorer
from .phase_space import PhaseSpace
from .rewind import Rewind
from .schedule_editor import ScheduleEditor
from .trained_pixels import TrainedPixels

__all__ = ["EdgeOfChaos", "Explorer", "PhaseSpace", "Rewind", "ScheduleEditor", "TrainedPixels"]
