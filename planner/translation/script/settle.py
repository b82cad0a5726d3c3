"""Which of several statements about one component holds, as diffusers (0.42.1) and accelerate have it."""

from __future__ import annotations

from dataclasses import dataclass, field

from planner.diagnostics.table import p8_tools as codes
from planner.translation.script.sheet import Place, Sheet

_HOOKED = ("model-cpu-offload", "sequential-cpu-offload")
"""They remove every hook and move everything to the CPU before they begin (pipeline_utils.py)."""


@dataclass(kw_only=True)
class Settled:
    """``base`` is what holds for the pipeline, ``parts`` what holds for a component apart from it."""

    base: Place | None = None
    parts: dict[str, Place] = field(default_factory=dict)


def settle(sheet: Sheet) -> Settled:
    """The statements that hold; of each one that does not, a finding says what took its place."""
    made = Settled()
    for place in sheet.places:
        if place.component:
            _part(place, made, sheet)
        else:
            _whole(place, made, sheet)
    holding = [*([made.base] if made.base else []), *made.parts.values()]
    for place in holding:
        said = "the pipeline" if not place.component else f'"{place.component}"'
        sheet.keep(f"{place.name}: where {said} lies", place.span)
    return made


def _whole(place: Place, made: Settled, sheet: Sheet) -> None:
    before = made.base
    grouped = [p for p in (before, *made.parts.values()) if p is not None and p.kind == "group-offload"]
    if place.kind in _HOOKED and grouped:
        _refused(place, f"{grouped[0].what} comes first: diffusers refuses it", sheet)
    elif before is not None and before.kind == "device-map" and place.kind != "device-map":
        _refused(place, "the pipeline has a device_map: diffusers refuses it", sheet)
    elif place.kind == "to" and before is not None and before.kind == "sequential-cpu-offload":
        if place.device != "cpu":
            _refused(place, f"{before.name} comes first: diffusers refuses it", sheet)
    elif place.kind == "group-offload" and before is not None and before.kind in _HOOKED:
        _refused(place, f"{before.name} comes first: diffusers refuses it", sheet)
    elif place.kind == "to" and before is not None and before.kind != "to":
        _idle(place, f"{before.name} in line {before.span.line} holds", sheet)
    elif place.kind == before_kind(before) == "group-offload" and before is not None:
        _twice(place, before, sheet)
    else:
        if before is not None:
            _idle(before, f"{place.name} in line {place.span.line} takes its place", sheet)
        made.base = place
        if place.kind in (*_HOOKED, "group-offload") or (place.kind == "to" and not grouped):
            _forget(place, made, sheet)


def _part(place: Place, made: Settled, sheet: Sheet) -> None:
    base, before = made.base, made.parts.get(place.component)
    if place.kind == "group-offload":
        if base is not None and base.kind in _HOOKED:
            _refused(place, f"{base.name} comes first: diffusers refuses it", sheet)
            return
        earlier = before if before is not None and before.kind == "group-offload" else base
        if earlier is not None and earlier.kind == "group-offload":
            _twice(place, earlier, sheet)
            return
    elif place.kind == "to" and before is not None and before.kind != "to":
        _idle(place, f"{before.name} in line {before.span.line} holds", sheet)
        return
    elif place.kind == "to" and base is not None and base.kind not in ("to", "device-map"):
        _idle(place, f"{base.name} in line {base.span.line} holds", sheet)
        return
    if before is not None:
        _idle(before, f"{place.what} in line {place.span.line} takes its place", sheet)
    made.parts[place.component] = place


def before_kind(place: Place | None) -> str:
    """The kind of a place, "" for none."""
    return place.kind if place is not None else ""


def _forget(place: Place, made: Settled, sheet: Sheet) -> None:
    """Moves by hand, which moving everything undoes."""
    for name, part in list(made.parts.items()):
        if part.kind == "to":
            _idle(part, f"{place.name} in line {place.span.line} moves it again", sheet)
            del made.parts[name]


def _twice(place: Place, before: Place, sheet: Sheet) -> None:
    """diffusers keeps the first of two group offloads, and raises where both have a stream."""
    if place.values.get("use_stream") and before.values.get("use_stream"):
        _refused(place, f"line {before.span.line} has done it: diffusers refuses a second stream", sheet)
    else:
        _idle(place, f"diffusers keeps that of line {before.span.line}", sheet)


def _refused(place: Place, why: str, sheet: Sheet) -> None:
    sheet.say(codes.SETTINGS_REFUSED, f"{place.what}: {why}", place.span)


def _idle(place: Place, why: str, sheet: Sheet) -> None:
    sheet.say(codes.WITHOUT_EFFECT, f"{place.what} has no effect: {why}", place.span)
