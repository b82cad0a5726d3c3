"""Every class that is built here; importing a family adds it to ``CASES``."""

from __future__ import annotations

from pipelines import flows, images, videos
from pipelines.registry import CASES, arguments, build, close, run, same

__all__ = ["CASES", "arguments", "build", "close", "flows", "images", "run", "same", "videos"]
