"""cache-dit's ``layerwise_offload`` and ``layerwise_cpu_offload`` (1.5.3)."""

from __future__ import annotations

from collections.abc import Iterator

from planner.diagnostics.diagnostic import Diagnostic, finding
from planner.diagnostics.table import p8_tools as codes
from planner.target.model import Target
from planner.translation.tools.kinds import ANY, BOOL, DEVICE, NAMES, between, choice, shown
from planner.translation.tools.model import Draft, Line, One, Setting, Tool, Values
from planner.translation.tools.parts import NONE_STAYS, modules, unknown, walk_line
from planner.translation.tools.read import pointer

_AHEAD = 64
"""Blocks: the most that a plan brings ahead."""


def draft(values: Values, target: Target) -> tuple[Draft, tuple[Diagnostic, ...]]:
    """Of a pipeline, the components that are named; without names its denoisers are found by a filter."""
    named = values["module_names"]
    found = [*_said(values, ())]
    if named is None:
        chosen = modules(target)
    else:
        tops = [name.partition(".")[0] for name in named]
        found += unknown(tops, target, "module_names")
        chosen = tuple(name for name in modules(target) if name in tops)
        parts = [name for name in named if "." in name]
        if parts:
            said = f"{', '.join(map(shown, parts))}: a plan streams components, not parts of them"
            found.append(finding(codes.WHICH_PARTS, said, pointer=pointer("module_names")))
    left = [name for name in modules(target) if name not in chosen]
    if left:
        said = f"nothing is said of {', '.join(left)}: the plan leaves it to the compiler"
        found.append(finding(codes.DEFAULT_NOT_KNOWN, said))
    made = Draft(
        device=Line("device", values["onload_device"], "onload_device"),
        components=tuple(_line(name, values) for name in chosen),
        order=walk_line(target),
    )
    return made, tuple(found)


def _line(name: str, values: Values) -> Line:
    ahead = min(values["transfer_buckets"], _AHEAD) if values["async_transfer"] else 0
    policy = {"policy": "stream", "prefetch": ahead}
    if not values["persistent_buckets"]:
        policy["resident"] = NONE_STAYS
    return Line(name, policy, "async_transfer" if ahead else "no async_transfer")


def _said(values: Values, under: tuple[str, ...]) -> Iterator[Diagnostic]:
    whose = "".join(f"{shown(name)}: " for name in under)
    said = f"{whose}every layer moves by itself: a plan streams block by block"
    yield finding(codes.BY_BLOCK, said)
    if stays := values["persistent_buckets"]:
        said = (
            f"{whose}{stays} layers stay: a plan says how much, in bytes or as a share; the compiler chooses"
        )
        yield finding(codes.WHICH_PARTS, said, pointer=pointer("persistent_buckets"))


_DETAIL = "the session orders its copies by events and overlaps them"
_SETTINGS = (
    Setting("module_names", NAMES),
    Setting("module_filter", ANY, None, codes.CODE_OF_ITS_OWN, "a function decides: name the components"),
    Setting("onload_device", DEVICE, "cuda:0"),
    Setting("offload_device", choice("cpu"), "cpu"),
    Setting("output_device", ANY, None, codes.HOW_IT_COPIES, "what a component gives stays on the device"),
    Setting("non_blocking", BOOL, False, codes.HOW_IT_COPIES, _DETAIL),
    Setting("eager_offload", BOOL, True, codes.HOW_IT_COPIES, "weights are on the host from the start"),
    Setting("async_transfer", BOOL, False),
    Setting("transfer_buckets", between(1), 1),
    Setting("prefetch_limit", BOOL, False, codes.HOW_IT_COPIES, _DETAIL),
    Setting("max_copy_streams", ANY, None, codes.HOW_IT_COPIES, _DETAIL),
    Setting("max_inflight_prefetch_bytes", ANY, None, codes.HOW_IT_COPIES, "budget.vram bounds all"),
    Setting("persistent_buckets", between(0), 0),
    Setting("persistent_bins", between(1), 1, codes.WHICH_PARTS, "what stays is spread evenly"),
)

TOOL = Tool(
    name="cache-dit",
    title="cache-dit layerwise_offload",
    takes="the arguments of layerwise_offload: module_names, async_transfer, transfer_buckets and the others",
    example="{module_names: [transformer], async_transfer: true, transfer_buckets: 2}",
    settings=_SETTINGS,
    draft=draft,
    before=1,
    calls=("layerwise_offload", "layerwise_cpu_offload"),
    parts=("layerwise_offload", "layerwise_cpu_offload"),
    one=One(settings=_SETTINGS, line=_line, said=_said),
)
