"""Exceptions of callbacks: shown in the widget, where the person looks, with the trace to unfold; never lost."""

import base64
import html
import traceback
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import ipywidgets as w
import pandas as pd
import traitlets as t

from ..files import csv_text
from ..plots.style import Picture, small_png

BOX = "border-left:4px solid #ff4d4d;background:#fff1f1;color:#1f2430;padding:6px 10px;line-height:1.4"


class Pane(w.VBox):
    """A surface with controls above it, that shows the errors of its callbacks and frees all it made when closed.

    Attributes:
        error: the message of the last exception, "" once something worked again.
        surface: what the browser draws.  controls: name → widget above it.
        calls: what a message of the browser makes happen, by its type: f(content, buffers).
        export: name of the file of the table.
    """

    error = t.Unicode("")
    export = "table.csv"

    def __init__(self, surface: Any) -> None:
        self._banner, self.surface, self.controls = w.HTML(), surface, dict[str, Any]()
        self._parts: list[w.Widget] = [self._banner, surface]
        self._failed = 0
        super().__init__()
        self.add_class("dsla-view")
        self.calls: dict[str, Callable[[dict[str, Any], list[Any]], Any]] = {
            "csv": lambda *_: self.download(self.export, csv_text(self.table()).encode(), "text/csv")
        }
        surface.on_msg(lambda _, content, buffers: self._try(self.calls[content["type"]], content, buffers))

    def table(self) -> pd.DataFrame:
        """What is shown, as rows."""
        raise NotImplementedError

    def static(self) -> Picture:
        """The view as a figure, for where no widgets run."""
        raise NotImplementedError

    def download(self, name: str, content: bytes, kind: str) -> None:
        """Offers bytes as a file in the browser, wherever the kernel runs."""
        self.surface.send({"type": "download", "name": name, "kind": kind}, [content])

    def _repr_mimebundle_(self, **options: Any) -> dict[str, Any] | None:
        """The widget, and a small picture of it for readers that have no kernel."""
        bundle = super()._repr_mimebundle_(**options)
        if bundle is not None:
            bundle["image/png"] = base64.b64encode(small_png(self.static())).decode()
        return bundle

    def bar(self, **controls: tuple[Any, Callable[[Any], None] | None]) -> None:
        """Lays controls out above the surface, each with what a change of its value calls."""
        for name, (control, call) in controls.items():
            self.controls[name] = self.keep(control)
            if getattr(control, "description", ""):
                control.layout.width, control.style.description_width = "330px", "110px"
            if call:
                self.follow(control, "value", call)
        line = self.keep(w.HBox(list(self.controls.values()), layout=w.Layout(flex_flow="row wrap")))
        self.set_trait("children", (self._banner, line, self.surface))

    def follow(self, source: w.Widget, names: str | Sequence[str], call: Callable[[Any], None]) -> None:
        """Calls it with each change of these traits."""
        source.observe(partial(self._try, call), names)

    def _try(self, call: Callable[..., Any], *args: Any) -> None:
        """Shows what goes wrong in a callback, and nothing once it went right."""
        before = self._failed
        try:
            call(*args)
        except Exception as error:
            self._failed, self.error = before + 1, f"{type(error).__name__}: {error}"
            trace = html.escape("".join(traceback.format_exception(error)))
            self._banner.value = (
                f'<div class="dsla-error" style="{BOX}"><b>{type(error).__name__}</b>: {html.escape(str(error))}'
                f"<details><summary>where</summary><pre>{trace}</pre></details></div>"
            )
        else:
            if self._failed == before:  # nor did one that this one called
                self.error = self._banner.value = ""

    def keep(self, widget: Any) -> Any:
        """The widget itself; it is closed with this view."""
        self._parts.append(widget)
        return widget

    def close(self) -> None:
        """Ends the view: its widgets, their callbacks, and what they hold."""
        parts, self._parts, self.children = self._parts, [], ()
        for part in parts:
            part.unobserve_all()
            part.close()
            for trait in (getattr(part, "layout", None), getattr(part, "style", None)):
                if isinstance(trait, w.Widget):
                    trait.close()
        layout = self.layout
        super().close()
        layout.close()
