"""diffusers' ``enable_group_offload`` of a pipeline, and ``apply_group_offloading`` (0.42.1)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from planner.diagnostics.diagnostic import Diagnostic, finding
from planner.diagnostics.table.p8_tools import (
    BY_BLOCK,
    HOW_IT_COPIES,
    ON_DISK,
    SETTINGS_REFUSED,
)
from planner.target.model import Target
from planner.translate.tools.kinds import ANY, BOOL, DEVICE, NAMES, PATH, between, choice
from planner.translate.tools.model import WRONG, Draft, Kind, Line, Setting, Tool, Values
from planner.translate.tools.parts import NONE_STAYS, modules, unknown, walk_line


def draft(values: Values, target: Target) -> tuple[Draft, tuple[Diagnostic, ...]]:
    """Everything streams and nothing stays, what is excluded apart; a stream prefetches one group."""
    found = [*_refused(values)]
    if found:
        return Draft(), tuple(found)
    leaves = values["offload_type"] == "leaf_level"
    groups = values["num_blocks_per_group"]
    if leaves:
        said = "leaf_level moves every layer by itself: a plan streams block by block"
        found.append(finding(BY_BLOCK, said, pointer="/offload_type"))
    elif groups != 1 and not values["use_stream"]:  # with a stream diffusers itself makes it 1
        said = f"{groups} blocks move together: a plan streams block by block"
        found.append(finding(BY_BLOCK, said, pointer="/num_blocks_per_group"))
    named = values["exclude_modules"] or ()
    found += unknown(named, target, "exclude_modules")
    kept = [name for name in modules(target) if name in named]
    prefetch = 1 if values["use_stream"] else 0
    policy = {"policy": "stream", "resident": NONE_STAYS, "prefetch": prefetch}
    why = f"{'leaf_level' if leaves else 'block_level'}, {'use_stream' if prefetch else 'no stream'}"
    made = Draft(
        device=Line("device", values["onload_device"], "onload_device"),
        components=tuple(Line(name, policy, why) for name in modules(target) if name not in kept),
        order=walk_line(target, kept),
        exclude=Line("exclude", kept, "exclude_modules") if kept else None,
    )
    return made, tuple(found)


def _refused(values: Values) -> Iterator[Diagnostic]:
    """What diffusers raises ValueError for."""
    if values["onload_device"] is None:
        yield finding(SETTINGS_REFUSED, 'group offload needs "onload_device"', hint="onload_device: cuda")
    if values["offload_type"] == "block_level" and values["num_blocks_per_group"] is None:
        said = 'block_level, the default, needs "num_blocks_per_group"'
        hint = "num_blocks_per_group: 1, or offload_type: leaf_level"
        yield finding(SETTINGS_REFUSED, said, pointer="/offload_type", hint=hint)
    if values["record_stream"] and not values["use_stream"]:
        said = '"record_stream" needs "use_stream"'
        yield finding(SETTINGS_REFUSED, said, pointer="/record_stream")


def _off(value: Any) -> Any:
    text = str(value) if hasattr(value, "type") else value
    return text if text in ("cpu", "cpu:0") else WRONG


_DETAIL = "the session orders its copies by events and overlaps them"
_PINS = "the session registers host memory where it lies, as far as budget.pinned allows"

TOOL = Tool(
    name="group-offload",
    title="enable_group_offload",
    takes="onload_device, offload_type, num_blocks_per_group, use_stream, exclude_modules and the others",
    example="{onload_device: cuda, offload_type: leaf_level, use_stream: true}",
    settings=(
        Setting("onload_device", DEVICE),
        Setting("offload_device", Kind("cpu", _off), "cpu"),
        Setting("offload_type", choice("block_level", "leaf_level"), "block_level"),
        Setting("num_blocks_per_group", between(1)),
        Setting("non_blocking", BOOL, False, HOW_IT_COPIES, _DETAIL),
        Setting("use_stream", BOOL, False),
        Setting("record_stream", BOOL, False, HOW_IT_COPIES, _DETAIL),
        Setting("low_cpu_mem_usage", BOOL, False, HOW_IT_COPIES, _PINS),
        Setting("offload_to_disk_path", PATH, None, ON_DISK, "all weights are in host memory"),
        Setting("exclude_modules", NAMES),
        # of a model's method and of apply_group_offloading
        Setting("block_modules", NAMES, None, BY_BLOCK, "the session finds a component's blocks by itself"),
        Setting("exclude_kwargs", ANY, None, HOW_IT_COPIES, "the session moves what is on another device"),
    ),
    draft=draft,
)
