"""diffusers' ``enable_group_offload`` of a pipeline or its components, and ``apply_group_offloading``."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from planner.diagnostics.diagnostic import Diagnostic, errors, finding
from planner.diagnostics.table import p8_tools as codes
from planner.target.model import Target
from planner.translation.tools.kinds import ANY, BOOL, DEVICE, MAPPING, NAMES, PATH, between, choice, shown
from planner.translation.tools.model import WRONG, Draft, Kind, Line, One, Setting, Tool, Values
from planner.translation.tools.parts import NONE_STAYS, modules, unknown, walk_line
from planner.translation.tools.read import pointer, read

_COMPONENTS = "components"


def draft(values: Values, target: Target) -> tuple[Draft, tuple[Diagnostic, ...]]:
    """Everything streams and nothing stays, what is excluded apart; a stream prefetches one group."""
    if values[_COMPONENTS] is not None:
        return _one_by_one(values[_COMPONENTS], target)
    found = [*_said(values, ())]
    named = values["exclude_modules"] or ()
    found += unknown(named, target, "exclude_modules")
    kept = [name for name in modules(target) if name in named]
    streamed = {name: values for name in modules(target) if name not in kept}
    return _made(streamed, kept, target), tuple(found)


def _one_by_one(given: Mapping[str, Any], target: Target) -> tuple[Draft, tuple[Diagnostic, ...]]:
    """Calls for single components. Of the others nothing is said."""
    found = [*unknown(map(str, given), target, _COMPONENTS)]
    streamed = {}
    for name, said in given.items():
        values, problems = read(_ONE, said, _COMPONENTS, str(name))
        found += problems
        if values is not None:
            found += _said(values, (_COMPONENTS, str(name)))
            if name in modules(target):
                streamed[name] = values
    devices = list(dict.fromkeys(values["onload_device"] for values in streamed.values()))
    if len(devices) > 1:
        said = f"components are loaded to {', '.join(map(str, devices))}, the plan is for {devices[0]}"
        found.append(finding(codes.SEVERAL_DEVICES, said, pointer=pointer(_COMPONENTS)))
    left = [name for name in modules(target) if name not in streamed]
    if left and not errors(found):
        said = f"nothing is said of {', '.join(left)}: the plan leaves it to the compiler"
        found.append(finding(codes.DEFAULT_NOT_KNOWN, said, pointer=pointer(_COMPONENTS)))
    return _made(streamed, [], target), tuple(found)


def _made(streamed: Mapping[str, Values], kept: list[str], target: Target) -> Draft:
    device = next((values["onload_device"] for values in streamed.values()), None)
    return Draft(
        device=Line("device", device, "onload_device") if device else None,
        components=tuple(_line(name, streamed[name]) for name in modules(target) if name in streamed),
        order=walk_line(target, kept),
        exclude=Line("exclude", kept, "exclude_modules") if kept else None,
    )


def _line(name: str, values: Values) -> Line:
    prefetch = 1 if values["use_stream"] else 0
    why = f"{values['offload_type']}, {'use_stream' if prefetch else 'no stream'}"
    return Line(name, {"policy": "stream", "resident": NONE_STAYS, "prefetch": prefetch}, why)


def _said(values: Values, under: tuple[str, ...]) -> Iterator[Diagnostic]:
    """What diffusers raises ValueError for, and the size of what moves."""
    refused, whose = codes.SETTINGS_REFUSED, "".join(f"{shown(name)}: " for name in under[1:])
    leaves, groups = values["offload_type"] == "leaf_level", values["num_blocks_per_group"]
    if values["onload_device"] is None:
        said = f'{whose}group offload needs "onload_device"'
        yield finding(refused, said, pointer=pointer(*under), hint="onload_device: cuda")
    if not leaves and groups is None:
        said = f'{whose}block_level, the default, needs "num_blocks_per_group"'
        hint = "num_blocks_per_group: 1, or offload_type: leaf_level"
        yield finding(refused, said, pointer=pointer(*under, "offload_type"), hint=hint)
    if values["record_stream"] and not values["use_stream"]:
        said = f'{whose}"record_stream" needs "use_stream"'
        yield finding(refused, said, pointer=pointer(*under, "record_stream"))
    if leaves:
        said = f"{whose}leaf_level moves every layer by itself: a plan streams block by block"
        yield finding(codes.BY_BLOCK, said, pointer=pointer(*under, "offload_type"))
    elif groups is not None and groups != 1 and not values["use_stream"]:  # a stream makes it 1
        said = f"{whose}{groups} blocks move together: a plan streams block by block"
        yield finding(codes.BY_BLOCK, said, pointer=pointer(*under, "num_blocks_per_group"))


def _off(value: Any) -> Any:
    text = str(value) if hasattr(value, "type") else value
    return text if text in ("cpu", "cpu:0") else WRONG


def _all_mappings(given: Mapping[str, Any]) -> bool:
    return all(isinstance(value, Mapping) for value in given.values())


_DETAIL = "the session orders its copies by events and overlaps them"
_PINS = "the session registers host memory where it lies, as far as budget.pinned allows"
_BLOCKS = "the session finds a component's blocks by itself"

_PIPELINES = (
    Setting("onload_device", DEVICE),
    Setting("offload_device", Kind("cpu", _off), "cpu"),
    Setting("offload_type", choice("block_level", "leaf_level"), "block_level"),
    Setting("num_blocks_per_group", between(1)),
    Setting("non_blocking", BOOL, False, codes.HOW_IT_COPIES, _DETAIL),
    Setting("use_stream", BOOL, False),
    Setting("record_stream", BOOL, False, codes.HOW_IT_COPIES, _DETAIL),
    Setting("low_cpu_mem_usage", BOOL, False, codes.HOW_IT_COPIES, _PINS),
    Setting("offload_to_disk_path", PATH, None, codes.ON_DISK, "all weights are in host memory"),
)
_MODELS = (
    Setting("block_modules", NAMES, None, codes.BY_BLOCK, _BLOCKS),
    Setting("exclude_kwargs", ANY, None, codes.HOW_IT_COPIES, "the session moves what is on another device"),
)
_EXAMPLE = "{onload_device: cuda, offload_type: leaf_level, use_stream: true}"

_ONE = Tool(
    name="group-offload",
    title="enable_group_offload",
    takes="the arguments of a component's method",
    example=_EXAMPLE,
    settings=(*_PIPELINES, *_MODELS),
    draft=draft,
)
TOOL = Tool(
    name="group-offload",
    title="enable_group_offload",
    takes="the arguments of enable_group_offload, or a mapping of components to such arguments",
    example=_EXAMPLE,
    settings=(
        *_PIPELINES,
        Setting("exclude_modules", NAMES),
        *_MODELS,
        Setting(_COMPONENTS, MAPPING),
    ),
    draft=draft,
    short=_COMPONENTS,
    nested=_all_mappings,
    calls=("enable_group_offload", "apply_group_offloading"),
    parts=("apply_group_offloading",),
    one=One(settings=(*_PIPELINES, *_MODELS), line=_line, said=lambda values, under: _said(values, under)),
)
