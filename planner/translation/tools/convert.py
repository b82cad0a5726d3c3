"""Other tools' settings to the nearest plan: the tools, and the one function."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from planner.diagnostics.diagnostic import Diagnostic, errors, finding
from planner.diagnostics.suggest import did_you_mean
from planner.diagnostics.table.p8_tools import NOTHING_TO_MOVE, UNKNOWN_TOOL
from planner.target.model import Target
from planner.translation.tools import (
    device_map,
    group,
    manager,
    mmgp,
    model_offload,
    sequential,
    sglang,
    vllm_omni,
)
from planner.translation.tools.kinds import shown
from planner.translation.tools.model import Tool
from planner.translation.tools.parts import modules
from planner.translation.tools.read import read
from planner.translation.tools.write import to_text

SHOWN = 240
"""Characters of the settings in the plan's first comment."""

_ALL = (
    model_offload.TOOL,
    sequential.TOOL,
    group.TOOL,
    device_map.TOOL,
    manager.TOOL,
    mmgp.TOOL,
    vllm_omni.TOOL,
    sglang.TOOL,
)

TOOLS: Mapping[str, Tool] = MappingProxyType({tool.name: tool for tool in _ALL})
"""Every tool by its name: what it takes, and an example of its settings."""


def from_tool(
    tool: str,
    settings: Mapping[str, Any] | str,
    target: Target,
    *,
    source: str | None = None,
    dtype: str | None = None,
) -> tuple[str, tuple[Diagnostic, ...]]:
    """The plan nearest to a tool's settings, as YAML, and what does not carry over.

    ``settings``: a mapping, or a text: YAML, JSON, or the Python call with literal arguments. ``target``:
    the pipeline. ``source`` and ``dtype`` go into the plan's ``pipeline``. With an error among the findings
    (an unknown tool or setting, a wrong value, what the tool itself refuses) the text is empty. A finding's
    ``pointer`` is that of the setting. The same settings give the same bytes.
    """
    known = TOOLS.get(tool) if isinstance(tool, str) else None
    if known is None:
        hint = did_you_mean(str(tool), TOOLS)
        return "", (finding(UNKNOWN_TOOL, f"no tool {shown(tool)} is known", hint=hint),)
    if not modules(target):
        said = f'"{target.cls}" has no component with weights'
        return "", (finding(NOTHING_TO_MOVE, said),)
    values, found = read(known, settings)
    if values is None:
        return "", found
    draft, more = known.draft(values, target)
    found = (*found, *more)
    if errors(found):
        return "", found
    pipeline = {"class": target.cls, "source": source, "dtype": dtype}
    said = " ".join(settings.split()) if isinstance(settings, str) else shown(settings, SHOWN)
    said = said if len(said) <= SHOWN else said[: SHOWN - 3] + "..."
    origin = f"{known.title}: {said}" if said else known.title
    present = {key: value for key, value in pipeline.items() if value is not None}
    return to_text(draft, present, origin=origin, lost=found), found
