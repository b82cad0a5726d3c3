"""Other tools' settings (diffusers' own offload methods, accelerate, mmgp, servers) to plans."""

from __future__ import annotations

from planner.translation.tools.convert import TOOLS, from_tool
from planner.translation.tools.model import Tool

__all__ = ["TOOLS", "Tool", "from_tool"]
