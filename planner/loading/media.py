"""Images and videos of a plan's ``run``, from files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

PICTURES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif", ".tif", ".tiff")


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


def _why(path: Path, error: Exception) -> str:
    if path.is_dir():
        return "it is a folder"
    text = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return str(text).strip().splitlines()[0][:150].rstrip(".")
