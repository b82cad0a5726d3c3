"""Every class that can be built here; importing it adds to ``WIDE`` what ``all`` leaves out."""

from __future__ import annotations

from pipelines import wide_flows, wide_unets, wide_videos
from pipelines.all import CASES
from pipelines.registry import WIDE

__all__ = ["CASES", "WIDE", "wide_flows", "wide_unets", "wide_videos"]
