"""Chromium, and the book served to it: for the tests of the built pages, and to print them."""

from __future__ import annotations

import gzip
import io
import os
import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import BinaryIO

from playwright.sync_api import Browser, sync_playwright

# Chromium on its own asks its maker's hosts for updates and suggestions; a test must not.
ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


class NoChromiumError(RuntimeError):
    """There is no browser to be found."""


def find() -> str:
    """Return the path of Chromium: the one REVLEARN_CHROMIUM names, or one on the path."""
    names = ("chromium", "chromium-browser", "google-chrome")
    found = os.environ.get("REVLEARN_CHROMIUM") or next(
        filter(None, map(shutil.which, names)), None
    )
    if found is None:
        raise NoChromiumError(
            "no Chromium: install it (on Debian, apt-get install chromium), or let "
            "REVLEARN_CHROMIUM name the program"
        )
    return found


@contextmanager
def open_browser() -> Iterator[Browser]:
    """Yield a headless Chromium."""
    path = find()
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=ARGUMENTS)
        yield browser
        browser.close()


class Handler(SimpleHTTPRequestHandler):
    """Serve files as hosts of static pages do: texts are compressed."""

    def send_head(self) -> io.BytesIO | BinaryIO | None:
        path = Path(self.translate_path(self.path))
        kind = self.guess_type(str(path))
        if not path.is_file() or not kind.startswith(("text/", "application/j", "image/svg")):
            return super().send_head()
        packed = gzip.compress(path.read_bytes(), compresslevel=6)
        self.send_response(200)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Encoding", "gzip")
        self.send_header("Content-Length", str(len(packed)))
        self.end_headers()
        return io.BytesIO(packed)

    def log_message(self, *arguments: object) -> None:
        pass


@contextmanager
def served(folder: Path) -> Iterator[str]:
    """Serve a folder on this machine; yield its address, which ends in a slash."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, directory=folder))
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
