"""What the explorables share on the side of Python.

An explorable is a widget whose front end is JavaScript and does the computing, so that it works
in a published page, where no Python runs, as it does in a notebook.
"""

from __future__ import annotations

import re
from importlib import resources

import anywidget
import traitlets

_IMPORT = re.compile(r'^import \{[^}]*\} from "\./([\w.]+)";\n', re.M)


def bundle(name: str) -> str:
    """Return a JavaScript module of this folder and all that it imports from here, as one module.

    Parameters
    ----------
    name : str
        The file, such as ``"phase_space.js"``.

    Returns
    -------
    str
        The text of one module, which exports the default of the file only.
    """
    texts: dict[str, str] = {}

    def add(file: str) -> None:
        if file in texts:
            return
        text = resources.files(__package__).joinpath(file).read_text(encoding="utf-8")
        for needed in _IMPORT.findall(text):
            add(needed)
        texts[file] = re.sub(r"^export (?!default)", "", _IMPORT.sub("", text), flags=re.M)

    add(name)
    return "\n".join(texts.values())


class Explorable(anywidget.AnyWidget):
    """A widget that computes and draws in the reader's browser, with Python or without.

    Attributes
    ----------
    title : str
        What the widget is called by a screen reader.
    sentence : str
        What is drawn, in words and numbers; written by the front end, empty before it is shown.
    """

    _css = resources.files(__package__).joinpath("widgets.css").read_text(encoding="utf-8")
    title = traitlets.Unicode().tag(sync=True)
    sentence = traitlets.Unicode().tag(sync=True)

    def __repr__(self) -> str:
        return f"{type(self).__name__}()"
