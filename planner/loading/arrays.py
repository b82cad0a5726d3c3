"""Images, frames and sound as arrays of bytes, from whatever ``output_type`` gave: PIL, numpy, torch."""

from __future__ import annotations

from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]


def frames_of(value: Any) -> list[Array]:
    """Each image as uint8 (height, width, 3).

    ``value``: PIL images, or arrays in 0..1: (n, height, width, channels) of numpy, and (n, channels,
    height, width) of torch, as diffusers lays them out. Raises TypeError and ValueError for latents and
    anything else.
    """
    if _is_pil(value):
        return [_rgb(value)]
    if isinstance(value, (list, tuple)):
        return [frame for one in value for frame in frames_of(one)]
    torch_like = hasattr(value, "detach")
    array = as_array(value)
    if array.ndim == 3:
        array = array[None]
    if array.ndim != 4:
        raise ValueError(f"an image has 3 dimensions, this {array.ndim}")
    if torch_like:
        array = array.transpose(0, 2, 3, 1)
    return [_bytes(image) for image in array]


def is_batch_of_images(value: Any) -> bool:
    """Of an output without a name: a list of PIL images or an array of images, not of videos."""
    if isinstance(value, (list, tuple)):
        return bool(value) and (_is_pil(value[0]) or getattr(value[0], "ndim", 0) == 3)
    return getattr(value, "ndim", 0) == 4


def samples_of(value: Any) -> Array:
    """Sound as int16 (samples, channels), from -1..1 in (samples,), (channels, samples) or the reverse."""
    array = as_array(value)
    if array.ndim == 1:
        array = array[:, None]
    if array.ndim != 2:
        raise ValueError(f"sound has 1 or 2 dimensions, this {array.ndim}")
    if array.shape[0] < array.shape[1]:
        array = array.T  # there are always more samples than channels
    if array.dtype == np.int16:
        return array
    scaled: Array = np.round(np.clip(np.nan_to_num(array), -1.0, 1.0) * 32767.0).astype(np.int16)
    return scaled


def _is_pil(value: Any) -> bool:
    return hasattr(value, "getbands") and hasattr(value, "convert")


def _rgb(image: Any) -> Array:
    plain = image if image.mode in ("RGB", "RGBA", "L") else image.convert("RGB")
    array: Array = np.asarray(plain)
    return array


def is_array(value: Any) -> bool:
    """Whether it is one of numpy's, or a tensor."""
    return isinstance(value, np.ndarray) or (hasattr(value, "detach") and hasattr(value, "ndim"))


def as_array(value: Any) -> Array:
    """The numbers of an array or tensor, on the host; bfloat16, which numpy does not know, as float32.
    Raises TypeError for what is none."""
    if hasattr(value, "detach"):
        value = value.detach().cpu()
        # numpy knows no bfloat16
        value = value.float() if value.is_floating_point() else value
    array = np.asarray(value)
    if array.dtype.kind not in "fiu":
        raise TypeError(f"expected numbers, found {array.dtype}")
    return array


def _bytes(image: Array) -> Array:
    channels = image.shape[-1]
    if channels not in (1, 3, 4):
        raise ValueError(f"an image has 1, 3 or 4 channels, this {channels}")
    if image.dtype != np.uint8:
        # As diffusers' numpy_to_pil does it, so that each output_type gives the same picture.
        image = np.round(np.clip(np.nan_to_num(image), 0.0, 1.0) * 255.0).astype(np.uint8)
    return image[..., 0] if channels == 1 else image
