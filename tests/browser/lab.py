"""A real JupyterLab with a notebook of a few cells, in headless Chromium; both are always ended."""

from __future__ import annotations

import json
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
FLAGS = [
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync",
]  # fmt: skip
HARMLESS = ("favicon", "Failed to load resource: the server responded with a status of 404")


@contextmanager
def server(folder: Path, arguments: list[str], ready: str) -> Iterator[str]:
    """A Jupyter server on loopback whose state stays in a folder of its own; yields its address."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    own = {f"JUPYTER_{k}_DIR": str(folder / f".{k.lower()}") for k in ("CONFIG", "DATA", "RUNTIME")}
    own |= {f"JUPYTERLAB_{k}_DIR": str(folder / f".{k.lower()}") for k in ("SETTINGS", "WORKSPACES")}
    command = [sys.executable, "-m", *arguments, f"--port={port}", "--ServerApp.ip=127.0.0.1"]
    with (folder / "server.log").open("wb") as log:
        process = subprocess.Popen(
            command, cwd=folder, env=os.environ | own, stdout=log, stderr=log, start_new_session=True
        )
        try:
            address = f"http://127.0.0.1:{port}"
            end = time.monotonic() + 60
            while True:
                try:
                    urllib.request.urlopen(address + ready, timeout=5).read()
                    break
                except OSError as error:
                    if process.poll() is not None or time.monotonic() > end:
                        text = (folder / "server.log").read_text(errors="replace")[-2000:]
                        raise RuntimeError(f"the server did not start: {error}\n{text}") from error
                    time.sleep(0.3)
            yield address
        finally:
            os.killpg(process.pid, signal.SIGINT)
            with suppress(subprocess.TimeoutExpired):
                process.wait(10)
            with suppress(ProcessLookupError):  # kernels that are left
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def write_notebook(path: Path, cells: list[str]) -> None:
    made = [
        {"cell_type": "code", "id": f"cell{i}", "metadata": {}, "execution_count": None, "outputs": [], "source": text}
        for i, text in enumerate(cells)
    ]
    kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    path.write_text(json.dumps({"nbformat": 4, "nbformat_minor": 5, "metadata": kernel, "cells": made}))


@contextmanager
def opened(cells: list[str], width: int = 1500, height: int = 1500) -> Iterator[tuple[Any, list[str]]]:
    """(page, errors of the console so far) of a notebook in JupyterLab whose cells have been started."""
    from playwright.sync_api import sync_playwright

    token = secrets.token_hex(16)
    with TemporaryDirectory() as name, sync_playwright() as play:
        folder = Path(name)
        write_notebook(folder / "views.ipynb", cells)
        arguments = [
            "jupyterlab", "--no-browser", "--allow-root", f"--IdentityProvider.token={token}",
            "--LabApp.expose_app_in_browser=True", "--LabApp.check_for_updates_class=jupyterlab.NeverCheckForUpdate",
            f"--ServerApp.root_dir={folder}",
        ]  # fmt: skip
        with server(folder, arguments, f"/api?token={token}") as address:
            browser = play.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
            try:
                page = browser.new_page(viewport={"width": width, "height": height})
                page.set_default_timeout(60_000)
                page.context.grant_permissions(["clipboard-read", "clipboard-write"])
                errors = watch(page)
                page.goto(f"{address}/lab/tree/views.ipynb?token={token}")
                page.wait_for_selector(".jp-Notebook .jp-Cell")
                context = "window.jupyterapp.shell.currentWidget?.context"
                page.wait_for_function(f"() => {context}?.sessionContext?.session?.kernel?.status === 'idle'")
                page.evaluate("() => window.jupyterapp.commands.execute('application:toggle-left-area')")
                page.evaluate("() => window.jupyterapp.commands.execute('notebook:run-all-cells')")
                yield page, errors
            finally:
                browser.close()


def watch(page: Any) -> list[str]:
    """The console's errors, filled while the page lives."""
    errors: list[str] = []

    def heard(message: Any) -> None:
        where = (message.location or {}).get("url", "")
        if message.type == "error" and not any(h in message.text for h in HARMLESS):
            errors.append(f"{message.text} ({where})")

    page.on("console", heard)
    page.on("pageerror", lambda error: errors.append(str(error)))
    return errors
