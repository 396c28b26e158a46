"""A notebook of a few cells in a real JupyterLab, Notebook 7 or Voilà, in headless Chromium; all are always ended."""

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
import urllib.error
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
# Of the front ends themselves, with an empty notebook too: Notebook 7.6 looks for a setting that it has not, Voilà's
# page for a font in the net.
HARMLESS = ("favicon", "(reading 'schema')", "/fontawesome-free")


@contextmanager
def server(folder: Path, arguments: list[str], ready: str) -> Iterator[str]:
    """A Jupyter server on loopback whose state stays in a folder of its own; yields its address."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    variables = {f"JUPYTER_{k}_DIR": str(folder / f".{k.lower()}") for k in ("CONFIG", "DATA", "RUNTIME")}
    variables |= {f"JUPYTERLAB_{k}_DIR": str(folder / f".{k.lower()}") for k in ("SETTINGS", "WORKSPACES")}
    command = [sys.executable, "-m", *arguments, f"--port={port}"]
    with (folder / "server.log").open("wb") as log:
        process = subprocess.Popen(
            command, cwd=folder, env=os.environ | variables, stdout=log, stderr=log, start_new_session=True
        )
        try:
            address = f"http://127.0.0.1:{port}"
            end = time.monotonic() + 60
            while True:
                try:
                    with suppress(urllib.error.HTTPError):  # it answers
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


def _arguments(where: str, folder: Path, token: str) -> tuple[list[str], str, str]:
    """(command line, path that answers once it runs, path of the notebook) of a front end."""
    options = ["--no-browser"] if where == "voila" else [
        "--no-browser", "--allow-root", f"--IdentityProvider.token={token}", f"--ServerApp.root_dir={folder}",
        "--LabApp.check_for_updates_class=jupyterlab.NeverCheckForUpdate", "--ServerApp.ip=127.0.0.1",
    ]  # fmt: skip
    if where == "voila":  # which stumbles over what Notebook 7 adds to JupyterLab
        without = "--VoilaConfiguration.extension_denylist=@jupyter-notebook/lab-extension"
        return ["voila", "views.ipynb", *options, without, "--Voila.ip=127.0.0.1"], "/static/nothing", "/"
    if where == "notebook":
        ready, page = f"/api?token={token}", f"/notebooks/views.ipynb?token={token}"
        return ["notebook", *options, "--JupyterNotebookApp.expose_app_in_browser=True"], ready, page
    ready, page = f"/api?token={token}", f"/lab/tree/views.ipynb?token={token}"
    return ["jupyterlab", *options, "--LabApp.expose_app_in_browser=True"], ready, page


@contextmanager
def opened(cells: list[str], where: str = "lab") -> Iterator[tuple[Any, list[str]]]:
    """(page, errors of the console so far) of a notebook whose cells have been started.

    where: "lab" (JupyterLab), "notebook" (Notebook 7) or "voila" (Voilà, which shows no code).
    """
    from playwright.sync_api import sync_playwright

    with TemporaryDirectory() as name, sync_playwright() as play:
        folder = Path(name)
        write_notebook(folder / "views.ipynb", cells)
        arguments, ready, path = _arguments(where, folder, secrets.token_hex(16))
        with server(folder, arguments, ready) as address:
            browser = play.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
            try:
                page = browser.new_page(viewport={"width": 1500, "height": 1500})
                page.set_default_timeout(60_000)
                page.context.grant_permissions(["clipboard-read", "clipboard-write"])
                errors = watch(page)
                page.goto(address + path)
                if where != "voila":  # which runs them itself
                    page.wait_for_selector(".jp-Notebook .jp-Cell")
                    context = "window.jupyterapp.shell.currentWidget?.context"
                    page.wait_for_function(f"() => {context}?.sessionContext?.session?.kernel?.status === 'idle'")
                    if where == "lab":
                        page.evaluate("() => window.jupyterapp.commands.execute('application:toggle-left-area')")
                    page.evaluate("() => window.jupyterapp.commands.execute('notebook:run-all-cells')")
                yield page, errors
            finally:
                browser.close()


def watch(page: Any) -> list[str]:
    """The console's errors, filled while the page lives."""
    errors: list[str] = []

    def note(text: str) -> None:
        if not any(h in text for h in HARMLESS):
            errors.append(text)

    def heard(message: Any) -> None:
        if message.type == "error":
            note(f"{message.text} ({(message.location or {}).get('url', '')})")

    page.on("console", heard)
    page.on("pageerror", lambda error: note(str(error)))
    return errors
