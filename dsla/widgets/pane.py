"""Exceptions of callbacks: shown in the widget, where the person looks, with the trace to unfold; never lost."""

import base64
import html
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from typing import Any

import ipywidgets as w
import traitlets as t

from ..plots.style import Picture, small_png

BOX = "border-left:4px solid #ff4d4d;background:#fff1f1;color:#1f2430;padding:6px 10px;line-height:1.4"


class Pane(w.VBox):
    """A column of widgets that shows the errors of its callbacks and frees all it made when closed.

    Attributes:
        error: the message of the last exception, "" once something worked again.
        surface: what the browser draws.  controls: name → widget above it.
    """

    error = t.Unicode("")
    surface: w.Widget

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
            bundle["image/png"] = base64.b64encode(small_png(self.static())).decode()
        return bundle

    def bar(self, controls: dict[str, Any]) -> None:
        """Lays the controls out above the surface."""
        self.controls = {name: self.keep(control) for name, control in controls.items()}
        for control in self.controls.values():
            if getattr(control, "description", ""):
                control.layout.width, control.style.description_width = "330px", "110px"
        line = self.keep(w.HBox(list(self.controls.values()), layout=w.Layout(flex_flow="row wrap")))
        self.set_trait("children", (self._banner, line, self.surface))

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


def guarded(method: Callable[..., None]) -> Callable[..., None]:
    """For methods of a `Pane` that are callbacks."""

    @wraps(method)
    def call(self: Pane, *args: Any) -> None:
        with self.guarded():
            method(self, *args)

    return call
