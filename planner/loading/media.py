"""Images and videos of a plan's ``run``, from files, and images from data URLs."""

from __future__ import annotations

import base64
import io
from pathlib import Path
from typing import Any

PICTURES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif", ".tif", ".tiff")

INLINE = "data:"
INLINE_FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "GIF", "TIFF")
"""What strangers may send, of Pillow's formats: none that starts another program, as EPS does."""
MOST_INLINE = 1 << 27
"""Pixels of one call's images: files of some kilobytes may stand for gigabytes of them."""


class Unreadable(Exception):
    """Why a file cannot be used, in one line."""


def read_image(path: Path) -> Any:
    """A PIL image, upright and RGB, as diffusers' ``load_image`` gives it. Raises Unreadable."""
    from PIL import Image, ImageOps, UnidentifiedImageError

    try:
        with Image.open(path) as image:
            return ImageOps.exif_transpose(image).convert("RGB")
    except FileNotFoundError:
        raise Unreadable("no such file") from None
    except UnidentifiedImageError:
        raise Unreadable("it is no image that Pillow knows") from None
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise Unreadable(_why(path, error)) from error


def read_inline(text: str, most: int = MOST_INLINE) -> Any:
    """The image in a data URL, ``data:image/png;base64,...`` (RFC 2397), as ``read_image``. Raises
    Unreadable, also for one of more than ``most`` pixels, before they are there."""
    from PIL import Image, ImageOps, UnidentifiedImageError

    head, sign, data = text.partition(",")
    if not sign or not head.endswith(";base64"):
        raise Unreadable("expected data:image/png;base64,...")
    try:
        file = io.BytesIO(base64.b64decode(data, validate=True))
        with Image.open(file, formats=INLINE_FORMATS) as image:
            if image.width * image.height > most:
                size = f"{image.width} x {image.height}"
                raise Unreadable(f"{size} is more than the {most} pixels that are left of {MOST_INLINE}")
            return ImageOps.exif_transpose(image).convert("RGB")
    except UnidentifiedImageError:
        raise Unreadable(f"it is no {', '.join(INLINE_FORMATS)}") from None
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise Unreadable(_why(None, error)) from error


def read_video(path: Path) -> list[Any]:
    """The frames as RGB PIL images: of a video file, of a gif, or a folder's images in the order of names.

    Raises Unreadable.
    """
    if path.is_dir():
        frames = sorted(p for p in path.iterdir() if p.suffix.lower() in PICTURES)
        if not frames:
            raise Unreadable("it is a folder without images")
        return [read_image(frame) for frame in frames]
    if not path.is_file():
        raise Unreadable("no such file")
    import imageio.v3 as iio
    from PIL import Image

    try:
        plugin = "pillow" if path.suffix.lower() in PICTURES else "FFMPEG"
        found = [Image.fromarray(frame).convert("RGB") for frame in iio.imiter(path, plugin=plugin)]
    except Exception as error:  # imageio passes on whatever its backends raise
        raise Unreadable(_why(path, error)) from error
    if not found:
        raise Unreadable("it has no frames")
    return found


def _why(path: Path | None, error: Exception) -> str:
    if path is not None and path.is_dir():
        return "it is a folder"
    text = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return str(text).strip().splitlines()[0][:150].rstrip(".")
