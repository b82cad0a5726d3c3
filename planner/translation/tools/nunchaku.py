"""Nunchaku's ``transformer.set_offload(...)`` and ``from_pretrained(..., offload=True)`` (3a3cc3d)."""

from __future__ import annotations

from collections.abc import Iterator

from planner.diagnostics.diagnostic import Diagnostic, finding
from planner.diagnostics.table import p8_tools as codes
from planner.target.model import Target
from planner.translation.tools.kinds import BOOL, between, shown
from planner.translation.tools.model import Draft, Line, One, Setting, Tool, Values
from planner.translation.tools.parts import NONE_STAYS, denoisers, modules, walk_line
from planner.translation.tools.read import pointer

_STAYS = 1
"""Blocks that stay when nothing is said (transformer_qwenimage.py)."""


def draft(values: Values, target: Target) -> tuple[Draft, tuple[Diagnostic, ...]]:
    """The denoiser streams; of the others Nunchaku says nothing."""
    lines = [line for name in denoisers(target) if (line := _line(name, values)) is not None]
    found = [*_said(values, ())]
    left = [name for name in modules(target) if name not in {line.key for line in lines}]
    if left:
        said = f"nothing is said of {', '.join(left)}: the plan leaves it to the compiler"
        found.append(finding(codes.DEFAULT_NOT_KNOWN, said))
    return Draft(components=tuple(lines), order=walk_line(target)), tuple(found)


def _line(name: str, values: Values) -> Line | None:
    if not values["offload"]:
        return None
    policy = {"policy": "stream", "prefetch": 1}
    if values["num_blocks_on_gpu"] <= _STAYS:
        policy["resident"] = NONE_STAYS
    return Line(name, policy, f"set_offload, {values['num_blocks_on_gpu']} blocks on the card")


def _said(values: Values, under: tuple[str, ...]) -> Iterator[Diagnostic]:
    whose = "".join(f"{shown(name)}: " for name in under)
    stays = values["num_blocks_on_gpu"]
    if values["offload"] and stays > _STAYS:
        said = f"{whose}the first {stays} blocks stay: a plan says how much, in bytes or as a share"
        yield finding(codes.WHICH_PARTS, said, pointer=pointer("num_blocks_on_gpu"))


_PINS = "the session registers host memory where it lies, as far as budget.pinned allows"
_SETTINGS = (
    Setting("offload", BOOL, True),
    Setting("use_pin_memory", BOOL, True, codes.HOW_IT_COPIES, _PINS),
    Setting("num_blocks_on_gpu", between(0), _STAYS),
)

TOOL = Tool(
    name="nunchaku",
    title="Nunchaku set_offload",
    takes="offload, use_pin_memory, num_blocks_on_gpu",
    example="{offload: true, num_blocks_on_gpu: 8}",
    settings=_SETTINGS,
    draft=draft,
    calls=("set_offload",),
    one=One(settings=_SETTINGS, line=_line, said=_said),
)
