"""Files that are written whole or not at all, and errors that say what to do about them."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from .errors import DataError


def read(file: Path) -> bytes:
    """Return the bytes of a file.

    Raises
    ------
    FileNotFoundError
        If it is missing.
    DataError
        If it cannot be read, because a folder stands in its place, for example.
    """
    try:
        return file.read_bytes()
    except FileNotFoundError:
        raise
    except OSError as error:
        raise DataError(f"{file} cannot be read: {error.strerror or error}") from error


def read_json(file: Path, remedy: str) -> Any:
    """Return what a JSON file holds.

    Raises
    ------
    FileNotFoundError
        If it is missing.
    DataError
        If it cannot be read, or is not JSON; the message ends with the remedy.
    """
    try:
        return json.loads(read(file).decode())
    except (ValueError, RecursionError) as error:
        raise damaged(file, f"it is not JSON: {error}", remedy) from error


def write(target: Path, content: bytes) -> None:
    """Write a file as a whole or not at all; see :func:`replacing`."""
    with replacing(target) as partial:
        partial.write_bytes(content)


@contextmanager
def replacing(target: Path) -> Iterator[Path]:
    """Give a temporary name beside the target; afterwards make it the target, in one step.

    The folder is made if there is none.

    Raises
    ------
    DataError
        If the file cannot be written: the disk is full, or the folder cannot be written to. What
        was there before stays.
    """
    partial = target.with_name(f"{target.name}.{os.getpid()}.partial")
    try:
        with explained(target):
            target.parent.mkdir(parents=True, exist_ok=True)
            yield partial
            partial.replace(target)
    finally:
        with suppress(OSError):  # there may be none, or no folder
            partial.unlink()


@contextmanager
def explained(target: Path) -> Iterator[None]:
    """Say of a file that cannot be written what can be done."""
    try:
        yield
    except DataError:
        raise
    except OSError as error:
        raise unwritable(target, error) from error


def unwritable(target: Path, error: OSError) -> DataError:
    """Return the error for a file that cannot be written."""
    return DataError(
        f"{target} cannot be written: {error.strerror or error}. What was there before is as it "
        "was. Make room on the disk and sure that the folder can be written to, or name another"
    )


def damaged(path: Path, what: str, remedy: str) -> DataError:
    """Return the error for a file that does not hold what it should."""
    return DataError(f"{path} is damaged: {what}. {remedy}")
