"""Exceptions of callbacks: shown in the widget, where the person looks, with the trace to unfold; never lost."""

from __future__ import annotations

import base64
import html
import io
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from typing import Any

import ipywidgets as w
import traitlets as t
from PIL import Image

from ..plots.style import Picture, style

BOX = "border-left:4px solid #ff4d4d;background:#fff1f1;color:#1f2430;padding:6px 10px;line-height:1.4"


class Pane(w.VBox):
    """A column of widgets that shows the errors of its callbacks and frees all it made when closed.

    Attributes:
        error: the message of the last exception, "" once something worked again.
    """

    error = t.Unicode("")

    def __init__(self) -> None:
        self._banner = w.HTML()
        self._parts: list[w.Widget] = [self._banner]
        super().__init__()
        self.add_class("dsla-view")

    def static(self) -> Picture:
        """The view as a figure, for where no widgets run."""
        raise NotImplementedError

    def _repr_mimebundle_(self, **options: Any) -> dict[str, Any] | None:
        """The widget, and a small picture of it for readers that have no kernel."""
        bundle = super()._repr_mimebundle_(**options)
        if bundle is not None:
            bundle["image/png"] = small_png(self.static())
        return bundle

    @contextmanager
    def guarded(self) -> Iterator[None]:
        """Shows what goes wrong inside, and nothing once it went right."""
        try:
            yield
        except Exception as error:
            self.error = f"{type(error).__name__}: {error}"
            trace = html.escape("".join(traceback.format_exception(error)))
            self._banner.value = (
                f'<div class="dsla-error" style="{BOX}"><b>{type(error).__name__}</b>: {html.escape(str(error))}'
                f"<details><summary>where</summary><pre>{trace}</pre></details></div>"
            )
        else:
            if self.error:
                self.error = self._banner.value = ""

    def keep(self, widget: Any) -> Any:
        """The widget itself; it is closed with this view."""
        self._parts.append(widget)
        return widget

    def close(self) -> None:
        """Ends the view: its widgets, their callbacks, and what they hold."""
        parts, self._parts = self._parts, []
        for part in parts:
            part.unobserve_all()
            part.close()
            for own in (getattr(part, "layout", None), getattr(part, "style", None)):
                if isinstance(own, w.Widget):
                    own.close()
        self.children = ()
        layout = self.layout
        super().close()
        layout.close()


def small_png(figure: Picture) -> str:
    """The figure in base64, at 100 dots per inch and in 128 colours: notebooks are kept in version control."""
    buffer, small = io.BytesIO(), io.BytesIO()
    with style():
        figure.savefig(buffer, format="png", dpi=100)
    Image.open(buffer).convert("RGB").quantize(128).save(small, format="png", optimize=True)
    return base64.b64encode(small.getvalue()).decode()


def guarded(method: Callable[..., None]) -> Callable[..., None]:
    """For methods of a `Pane` that are callbacks."""

    @wraps(method)
    def call(self: Pane, *args: Any) -> None:
        with self.guarded():
            method(self, *args)

    return call
