"""Errors of the package that name the culprit and say what to do."""

from __future__ import annotations


class DataError(ValueError):
    """A data set, annotation file or image that cannot be used as it is.

    The message names the file and, where there is one, the image id and the annotation id.
    """


class NotFinite(RuntimeError):
    """A loss became NaN or infinite. Says at which step and which part; the last good checkpoint stays."""
