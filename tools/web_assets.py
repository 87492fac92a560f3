"""Fetch what the pages are served with, so that they ask no other site: npm archives, pinned.

Archives are downloaded once, into the user's cache, and checked against their sha256.
``NPM_CONFIG_REGISTRY`` names another registry than npm's own.
"""

from __future__ import annotations

import os
import tarfile
import tempfile
from dataclasses import dataclass
from pathlib import Path

import pooch


@dataclass(frozen=True)
class Archive:
    """A package of the npm registry, and which of its folders and files are wanted."""

    version: str
    sha256: str
    root: str
    wanted: tuple[str, ...]


ARCHIVES = {
    "mathjax": Archive(
        "3.2.2",
        "1b9c0a1c44df864e915690558e72adb9cc5203360daefd385084ced3b6c64c09",
        "package/es5/",
        # The last three load only if a reader switches MathJax's explorer on.
        ("tex-mml-chtml.js", "output/chtml/fonts/woff-v2/", "input/mml/", "a11y/", "sre/"),
    ),
    "axe-core": Archive(
        "4.11.0",
        "39bed7d72308f6d620789c169d699bfd7e8da80f65b545821a6b2215c3e83107",
        "package/",
        ("axe.min.js",),
    ),
}


def fetch(name: str, folder: Path) -> Path:
    """Put an archive's wanted files into ``folder/name``, unless they are there; return that."""
    archive = ARCHIVES[name]
    target = folder / name
    stamp = target / f".{archive.version}"
    if stamp.exists():
        return target
    registry = os.environ.get("NPM_CONFIG_REGISTRY", "https://registry.npmjs.org").rstrip("/")
    packed = pooch.retrieve(
        f"{registry}/{name}/-/{name}-{archive.version}.tgz",
        f"sha256:{archive.sha256}",
        fname=f"{name}-{archive.version}.tgz",
        path=Path(pooch.os_cache("revlearn")) / "npm",
    )
    target.mkdir(parents=True, exist_ok=True)
    with tarfile.open(packed) as tar, tempfile.TemporaryDirectory(dir=folder) as unpacked:
        wanted = tuple(archive.root + part for part in archive.wanted)
        members = [member for member in tar.getmembers() if member.name.startswith(wanted)]
        tar.extractall(unpacked, members, filter="data")
        for member in members:
            if member.isfile():
                place = target / member.name.removeprefix(archive.root)
                place.parent.mkdir(parents=True, exist_ok=True)
                (Path(unpacked) / member.name).replace(place)
    stamp.touch()
    return target
