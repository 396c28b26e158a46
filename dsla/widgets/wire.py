"""A socket of the kernel's own, for what follows the mouse.

A widget's message goes through the front end and its server, and JupyterLab renders itself anew for each: the way
there and back takes several frames of the screen (`benchmarks/widget_latency.py` measures both ways). A browser on
the kernel's machine can ask the kernel itself, through a WebSocket on the loopback interface whose address holds a
secret that the widget's page alone is told. Where it cannot, because the kernel is elsewhere or runs no event loop of
asyncio, the widget's messages do the same, later.

tornado's server is used, since Jupyter's kernels run on tornado and have it.
"""

from __future__ import annotations

import asyncio
import json
import secrets
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import Any
from urllib.parse import urlsplit
from weakref import WeakValueDictionary

from tornado.httpserver import HTTPServer
from tornado.netutil import bind_sockets
from tornado.web import Application, HTTPError
from tornado.websocket import WebSocketClosedError, WebSocketHandler

LOCAL = ("localhost", "127.0.0.1", "::1")
MOST = 1 << 20  # bytes of a message from the browser


class Wire:
    """The kernel's end of the sockets of one widget.

    Args:
        received: is called with each message from the browser, a JSON object.

    Attributes:
        address: for the browser, with the secret; "" where no event loop runs, or none may listen.
        sockets: the open ones, one a view of the widget.
    """

    def __init__(self, received: Callable[[dict[str, Any]], None]) -> None:
        self.received, self.sockets, self.address = received, set[WebSocketHandler](), ""
        self._timer: asyncio.TimerHandle | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._key = secrets.token_urlsafe(24)
        with suppress(RuntimeError):
            self._loop = asyncio.get_running_loop()
        with suppress(OSError):  # where nobody may listen
            if self._loop:
                self.address = f"ws://127.0.0.1:{_listen(self._loop)}/{self._key}"
                _wires[self._key] = self

    def push(self, content: dict[str, Any], buffers: Iterable[bytes] = ()) -> None:
        """Sends to every view: the length of the JSON (4 bytes, little-endian), the JSON, and the buffers in turn."""
        head = json.dumps(content, separators=(",", ":")).encode()
        message = b"".join((len(head).to_bytes(4, "little"), head, *buffers))
        for socket in tuple(self.sockets):
            try:
                socket.write_message(message, binary=True)
            except WebSocketClosedError:
                self.sockets.discard(socket)

    def later(self, seconds: float, call: Callable[[], None]) -> None:
        """Calls once, that many seconds after the last time that this was asked; at once where no event loop runs."""
        if self._timer:
            self._timer.cancel()
        if self._loop is None:
            call()
        else:
            self._timer = self._loop.call_later(seconds, call)

    def close(self) -> None:
        """Ends the sockets; the server too, if no other widget has one."""
        if self._timer:
            self._timer.cancel()
        for socket in tuple(self.sockets):
            socket.close()
        self.sockets.clear()
        self.received = lambda content: None
        if _wires.pop(self._key, None) is not None and not _wires:
            while _servers:
                _servers.popitem()[1][0].stop()


class _Socket(WebSocketHandler):
    wire: Wire | None = None

    def check_origin(self, origin: str) -> bool:
        return urlsplit(origin).hostname in LOCAL

    def prepare(self) -> None:
        self.wire = _wires.get(self.path_args[0])
        if self.wire is None:
            raise HTTPError(404)

    def open(self, *args: str, **kwargs: str) -> None:
        self.set_nodelay(True)
        if self.wire:
            self.wire.sockets.add(self)

    def on_message(self, message: str | bytes) -> None:
        if self.wire:
            self.wire.received(json.loads(message))

    def on_close(self) -> None:
        if self.wire:
            self.wire.sockets.discard(self)


_wires: WeakValueDictionary[str, Wire] = WeakValueDictionary()
_servers: dict[asyncio.AbstractEventLoop, tuple[HTTPServer, int]] = {}


def _listen(loop: asyncio.AbstractEventLoop) -> int:
    """The port of the server on this loop, which is started for the first wire."""
    if loop not in _servers:
        for ended in [other for other in _servers if other.is_closed()]:
            del _servers[ended]
        application = Application(
            [(r"/([\w-]+)", _Socket)], log_function=lambda handler: None, websocket_max_message_size=MOST
        )
        sockets = bind_sockets(0, "127.0.0.1")
        server = HTTPServer(application)
        server.add_sockets(sockets)
        _servers[loop] = server, sockets[0].getsockname()[1]
    return _servers[loop][1]
