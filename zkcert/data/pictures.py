"""PNG and JPEG pictures that nobody vouches for, through Pillow. What a picture takes is known from its header before
it is decoded. Nothing is converted but what loses nothing: a palette, and opacity where all is opaque."""

from __future__ import annotations

import io
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, BinaryIO, NamedTuple

import numpy as np
import numpy.typing as npt

from zkcert.files.extras import needs_extras

if TYPE_CHECKING:
    from PIL.Image import Image

MAX_BYTES = 1 << 28
MAX_PIXELS = 1 << 26
MAX_WORK = 1 << 30
"""Pixels times scans: a progressive JPEG may go over all its pixels as often as its file says."""

_FORMATS = ("PNG", "JPEG")
_PNG, _DEPTH = b"\x89PNG\r\n\x1a\n", 24  # where a PNG says its bits per channel
_CHANNELS = {"1": 1, "L": 1, "LA": 1, "P": 3, "PA": 3, "RGB": 3, "RGBA": 3}
_OPAQUE = 255


class Size(NamedTuple):
    """Of a picture, by its header: 1 channel or 3, height and width."""

    channels: int
    height: int
    width: int


@contextmanager
def _reading() -> Iterator[None]:
    """Whatever Pillow makes of a damaged file is a ValueError."""
    with needs_extras("reading pictures", "images"):
        from PIL import ImageFile, UnidentifiedImageError
        from PIL.Image import DecompressionBombWarning

    lenient, ImageFile.LOAD_TRUNCATED_IMAGES = ImageFile.LOAD_TRUNCATED_IMAGES, False
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of metadata
        warnings.simplefilter("error", DecompressionBombWarning)
        try:
            yield
        except (_Unfit, MemoryError):
            raise
        except UnidentifiedImageError as error:
            raise ValueError("no sound PNG or JPEG") from error
        except Exception as error:
            raise ValueError(
                f"no sound PNG or JPEG ({' '.join(str(error).split())[:100] or type(error).__name__})"
            ) from error
        finally:
            ImageFile.LOAD_TRUNCATED_IMAGES = lenient


class _Unfit(ValueError):
    """A sound picture that is not read."""


def _opened(file: BinaryIO) -> tuple[Image, Size]:
    from PIL import Image

    head = file.read(_DEPTH + 1)
    file.seek(0)
    image = Image.open(file, formats=_FORMATS)
    width, height = image.size
    if width * height > MAX_PIXELS:
        raise _Unfit(f"{width}x{height} pixels; expected {MAX_PIXELS} in all at most: scale it down")
    if image.mode not in _CHANNELS or (head.startswith(_PNG) and head[_DEPTH] > 8):
        deep = "16 bits a channel" if image.mode in _CHANNELS else f"the mode {image.mode}"
        raise _Unfit(f"{deep}; expected grey or RGB of 8 bits a channel: convert it, as Image.convert('RGB') does")
    if image.format == "PNG" and getattr(image, "n_frames", 1) > 1:
        raise _Unfit("an animation; save one frame of it")
    return image, Size(_CHANNELS[image.mode], height, width)


def size_of(file: BinaryIO) -> Size:
    """What a picture's header says; ValueError."""
    with _reading():
        return _opened(file)[1]


def decoded(data: bytes, resize: tuple[int, int] | None = None) -> npt.NDArray[np.uint8]:
    """The pixels (C, H, W) of a picture, scaled to (height, width) if asked; ValueError."""
    with _reading():
        image, size = _opened(io.BytesIO(data))
        if size.height * size.width * (1 if data.startswith(_PNG) else max(1, data.count(b"\xff\xda"))) > MAX_WORK:
            raise _Unfit("a progressive JPEG of too many scans: save it anew")
        image.load()
        return pixels(image, resize)


def pixels(image: Image, resize: tuple[int, int] | None = None) -> npt.NDArray[np.uint8]:
    """The pixels (C, H, W), C = 1 or 3, of a picture in memory; ValueError if something would be lost."""
    if image.mode not in _CHANNELS:
        raise _Unfit(f"the mode {image.mode}; expected grey or RGB: convert it, as Image.convert('RGB') does")
    channels = _CHANNELS[image.mode]
    if image.mode in ("LA", "PA", "RGBA") or "transparency" in image.info:
        image = image.convert("RGBA")
        if image.getchannel("A").getextrema()[0] != _OPAQUE:
            raise _Unfit("some of it is transparent: put it on a background first, or drop what its pixels hide")
    image = image.convert("L" if channels == 1 else "RGB")
    if resize is not None:
        from PIL.Image import Resampling

        image = image.resize(resize[::-1], Resampling.BILINEAR)
    values: npt.NDArray[Any] = np.asarray(image)
    return values[None] if channels == 1 else np.ascontiguousarray(values.transpose(2, 0, 1))
