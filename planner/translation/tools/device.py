"""``gpu_id`` and ``device``, as diffusers' offload methods take them."""

from __future__ import annotations

from typing import Any

from planner.diagnostics.diagnostic import Diagnostic, finding
from planner.diagnostics.table.p8_tools import SETTINGS_REFUSED
from planner.translation.tools.kinds import CARD, device, shown
from planner.translation.tools.model import WRONG, Kind, Line, Setting, Values


def _written(value: Any) -> Any:
    """The device as it was written: whether it has an index matters beside ``gpu_id``."""
    text = value if isinstance(value, str) else str(value) if hasattr(value, "type") else ""
    return WRONG if device(text) is WRONG else text.strip()


SETTINGS = (
    Setting("gpu_id", CARD),
    Setting("device", Kind("a device such as cuda, cuda:1, xpu:0 or mps", _written)),
)
"""Of ``enable_model_cpu_offload`` and ``enable_sequential_cpu_offload`` (diffusers 0.42.1)."""


def chosen(values: Values) -> tuple[Line | None, tuple[Diagnostic, ...]]:
    """The plan's device. Both an index and a ``gpu_id`` are refused, as diffusers does."""
    card, written = values["gpu_id"], values["device"]
    if written is None:
        # the type is what is found at run time: cuda where there is a choice
        return (None if card is None else Line("device", f"cuda:{card}", f"gpu_id: {card}")), ()
    text = written
    if card is None:
        return Line("device", device(text), f"device: {shown(text)}"), ()
    if ":" in text:
        said = f'"gpu_id" {card} and the index of "device" {shown(text)} are given both'
        return None, (finding(SETTINGS_REFUSED, said, pointer="/gpu_id", hint="leave one of them out"),)
    name = text if text == "mps" else f"{text}:{card}"
    return Line("device", name, f"device: {shown(text)}, gpu_id: {card}"), ()
