"""Other tools' settings (diffusers' own offload methods, accelerate, mmgp, servers) to plans."""

from __future__ import annotations

from planner.translate.tools.convert import TOOLS, from_tool
from planner.translate.tools.model import Tool

__all__ = ["TOOLS", "Tool", "from_tool"]
