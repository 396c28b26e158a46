"""Picture files: which formats are read, and what their heads say of size and turn."""

import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

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
        raise DataError(f"{path.absolute()}: no such image file; check the image folder and 'file_name'.") from None
    except DataError as error:
        raise (error if str(path) in str(error) else DataError(f"{path}: {error}")) from None
    except (OSError, ValueError, SyntaxError, struct.error, Image.DecompressionBombError) as error:
        raise DataError(f"{path.absolute()}: cannot be read as an image ({error}).") from error


def upright(image: Image.Image) -> tuple[int, int]:
    """(height, width) as the picture is seen: the EXIF orientations 5 to 8 exchange them; Pillow does so for TIFF."""
    turned = image.format != "TIFF" and image.getexif().get(0x0112, 1) in (5, 6, 7, 8)
    return image.size if turned else image.size[::-1]


def frame(image: Image.Image, said: tuple[int, int] | None = None) -> tuple[int, int]:
    """(height, width) of the frame that annotations mean: the stored one where they say its size, else the upright one.

    Phone photographs are stored unrotated with an EXIF orientation.
    """
    stored = image.size[::-1]
    return stored if said is not None and tuple(said) == stored else upright(image)
