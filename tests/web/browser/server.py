"""The page's server in a process, and the browser: for the tests and for the screenshot."""

import contextlib
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from playwright.sync_api import Browser, sync_playwright

ROOT = Path(__file__).parents[3]
# Put on the server's path: writes down whom it connects to.
SITECUSTOMIZE = """
import sys
def note(event, arguments):
    if event in ("socket.connect", "socket.getaddrinfo"):
        with open({log!r}, "a") as file:
            print(event, arguments[1] if event == "socket.connect" else arguments[0], file=file)
sys.addaudithook(note)
"""


class Server:
    """`python demo.py` in a process of its own.

    Attributes:
        url: where the page is.
        port: its port.
        log: the file that stderr goes to.
        files: the folder for what readers upload and download.
        connections: the file with a line for every address that the process connects to.
    """

    def __init__(self, checkpoint: str | Path, folder: Path):
        self.connections = folder / "connections.txt"
        self.files = folder / "gradio"
        self.connections.touch()
        (folder / "sitecustomize.py").write_text(SITECUSTOMIZE.format(log=str(self.connections)))
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        environment = dict(
            os.environ,
            PYTHONPATH=str(folder),
            GRADIO_TEMP_DIR=str(self.files),
            XLA_FLAGS="",
        )
        self.log = folder / "log.txt"
        with self.log.open("w") as log:
            self.process = subprocess.Popen(
                [sys.executable, "demo.py", f"--checkpoint={checkpoint}", f"--port={self.port}"],
                cwd=ROOT,
                env=environment,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
            )
        line = self.process.stdout.readline()  # empty if it ends before it is ready
        self.url = line.removeprefix("The page is ready: ").strip()
        if self.url != f"http://127.0.0.1:{self.port}/":
            self.process.kill()
            raise RuntimeError(f"demo.py did not start: {line}{self.log.read_text()}")

    def __enter__(self) -> "Server":
        return self

    def __exit__(self, *_) -> None:
        self.process.terminate()
        self.process.wait()
        self.process.stdout.close()


@contextlib.contextmanager
def launch_chromium() -> Iterator[Browser]:
    """The system's own Chromium, without a window; none is downloaded."""
    path = shutil.which("chromium") or shutil.which("chromium-browser")
    if path is None:
        raise FileNotFoundError("Chromium is missing: apt-get install chromium")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield browser
        browser.close()
