"""Picture files: which formats are read, and what their heads say of size and turn."""

import os
import struct
import unicodedata
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from urllib.parse import unquote

from PIL import Image, ImageFile

from ..errors import DataError

_NOT_READ = {"EPS", "WMF", "MPEG", "BUFR", "GRIB", "HDF5"}  # other programs would run, or Pillow knows the name only


def formats() -> list[str]:
    """Names of the image formats that are read: Pillow's, also of plugins, without those that it cannot read alone."""
    Image.init()
    return sorted(set(Image.OPEN) - _NOT_READ)


def endings() -> set[str]:
    """Endings of the files of these formats, in small letters with their dot."""
    readable = set(formats())
    return {ending for ending, name in Image.registered_extensions().items() if name in readable}


@contextmanager
def opened(path: str | Path) -> Iterator[ImageFile.ImageFile]:
    """An image file, of which the head is read; pixels, if the block asks for them.

    Raises:
        DataError: the file is missing or is no image, or the block raises one; names the file.
    """
    path = Path(path)
    try:
        with Image.open(path, formats=formats()) as image:
            yield image
    except FileNotFoundError:
        hint = f"no such image file{spelling(path)}; check the image folder and 'file_name'."
        raise DataError(f"{path.absolute()}: {hint}") from None
    except DataError as error:
        raise (error if str(path) in str(error) else DataError(f"{path}: {error}")) from None
    except (OSError, ValueError, SyntaxError, struct.error, Image.DecompressionBombError) as error:
        raise DataError(f"{path.absolute()}: cannot be read as an image ({error}).") from error


def spelling(path: Path) -> str:
    """What to add about a file that is not there: which one is, under other capitals, accents or signs such as %20."""
    try:
        near = _spellings(path.parent, path.parent.stat().st_mtime_ns).get(_plain(path.name))
    except (OSError, ValueError):
        return ""
    other = near not in (None, path.name)  # a link that leads nowhere is listed, too
    return f", but one that is spelt {near!a} and not {path.name!a}" if other else ""


@lru_cache(maxsize=4)
def _spellings(folder: Path, changed: int) -> dict[str, str]:
    """Names of files of a folder by what they share with other spellings; read again once it has changed."""
    return {_plain(name): name for name in os.listdir(folder)}


def _plain(name: str) -> str:
    return unicodedata.normalize("NFC", unquote(name)).casefold()


def upright(image: Image.Image) -> tuple[int, int]:
    """(height, width) as the picture is seen: the EXIF orientations 5 to 8 exchange them; Pillow does so for TIFF."""
    turned = image.format != "TIFF" and image.getexif().get(0x0112, 1) in (5, 6, 7, 8)
    return image.size if turned else image.size[::-1]


def frame(image: Image.Image, annotated: tuple[int, int] | None = None) -> tuple[int, int]:
    """(height, width) of the frame that annotations mean: the stored one where they say its size, else the upright one.

    Phone photographs are stored unrotated with an EXIF orientation.
    """
    stored = image.size[::-1]
    return stored if annotated is not None and tuple(annotated) == stored else upright(image)
