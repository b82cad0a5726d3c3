"""accelerate's device maps (1.15), and diffusers' ``device_map`` of a pipeline (0.42.1)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from planner.diagnostics.diagnostic import Diagnostic, finding
from planner.diagnostics.table import p8_tools as codes
from planner.target.model import Target
from planner.translation.tools.kinds import PATH, device, shown, size, written
from planner.translation.tools.model import WRONG, Draft, Kind, Line, Setting, Tool, Values
from planner.translation.tools.parts import NONE_STAYS, modules, unknown, walk_line
from planner.translation.tools.read import pointer

BY_SIZE = ("auto", "balanced", "balanced_low_0", "sequential")
"""What accelerate, or a pipeline's ``from_pretrained``, works out from sizes."""

_HOST = ("cpu", "disk")
_NAME = "device_map"


def draft(values: Values, target: Target) -> tuple[Draft, tuple[Diagnostic, ...]]:
    """What lies on the map's first card is resident, what lies elsewhere comes and goes."""
    wanted = values[_NAME]
    budget, found = _budget(values["max_memory"])
    order = walk_line(target)
    if wanted is None:
        said = 'no "device_map" is given'
        return Draft(), (finding(codes.SETTINGS_REFUSED, said, hint="device_map: balanced"),)
    if wanted in BY_SIZE:
        said = f'"{wanted}" places components by their sizes: the plan leaves it to the compiler'
        found += [finding(codes.PLACED_BY_SIZE, said, pointer=pointer(_NAME))]
        return Draft(budget=budget, order=order), tuple(found)
    places = wanted if isinstance(wanted, Mapping) else {"": wanted}
    known = set(target.modules) | {""}
    if not any(key.partition(".")[0] in known for key in places):
        said = f'no key of the map is a component of "{target.cls}"'
        hint = "the map of one model: write the component in front, as in transformer.blocks.0"
        return Draft(), (finding(codes.WRONG_SETTING, said, pointer=pointer(_NAME), hint=hint),)
    found += unknown((key.partition(".")[0] for key in places if key), target, _NAME)
    cards = list(dict.fromkeys(place for place in places.values() if place not in _HOST))
    main = cards[0] if cards else None
    lines, away = [], []
    for name in modules(target):
        line, problems, elsewhere = _component(name, places, main)
        lines += [line] if line else []
        found += problems
        away += elsewhere
    found += _elsewhere(away, main)
    made = Draft(
        device=Line("device", main, "the map's first card") if main else None,
        budget=budget,
        components=tuple(lines),
        order=order,
    )
    return made, tuple(found)


Away = list[tuple[str, str]]
"""Components that lie elsewhere than on the first card, and where."""


def _component(
    name: str, places: Mapping[str, str], main: str | None
) -> tuple[Line | None, list[Diagnostic], Away]:
    parts = {key: place for key, place in places.items() if key.startswith(f"{name}.")}
    key = name if name in places else ""
    if parts:
        return _in_parts(name, [*parts.values(), *([places[name]] if name in places else [])], main)
    if key not in places:
        said = f'the map leaves out "{name}": the plan leaves it to the compiler'
        return None, [finding(codes.DEFAULT_NOT_KNOWN, said, pointer=pointer(_NAME))], []
    place = places[key]
    why = f"{shown(key)}: {place}"
    if place == main:
        return Line(name, "resident", why), [], []
    return Line(name, "offload", why), [], [(name, place)]


def _in_parts(name: str, placed: list[str], main: str | None) -> tuple[Line, list[Diagnostic], Away]:
    """A component whose parts the map places by themselves: the share on the card stays."""
    there = placed.count(main) if main else 0
    if there == len(placed):
        return Line(name, "resident", f"all {there} parts on {main}"), [], []
    share = NONE_STAYS if not there else f"{max(1, 100 * there // len(placed))}%"
    said = f'"{name}": {there} of {len(placed)} parts stay on the card: a plan says how much, not which'
    found = [finding(codes.WHICH_PARTS, said, pointer=pointer(_NAME))]
    away = [(f"part of {name}", place) for place in dict.fromkeys(placed) if place != main]
    policy = {"policy": "stream", "resident": share}
    return Line(name, policy, f"{there} of {len(placed)} parts of the map on the card"), found, away


def _elsewhere(away: Away, main: str | None) -> Iterator[Diagnostic]:
    """One finding a place, with all that lies there."""
    for place in dict.fromkeys(place for _, place in away):
        names = ", ".join(name for name, there in away if there == place)
        at = pointer(_NAME)
        if place == "disk":
            said = f"on disk: {names}; in the plan all weights are in host memory"
            yield finding(codes.ON_DISK, said, pointer=at)
        elif place == "cpu":
            said = f"on the CPU: {names}; in the plan they come to the device when they are used"
            yield finding(codes.RUNS_ON_CPU, said, pointer=at)
        else:
            said = f"on {place}: {names}; the plan is for {main}, where they come when they are used"
            yield finding(codes.SEVERAL_DEVICES, said, pointer=at)


def _budget(limits: Mapping[str, int] | None) -> tuple[tuple[Line, ...], list[Diagnostic]]:
    """``max_memory`` of the first card. diffusers does not count with the host's."""
    cards = {key: nbytes for key, nbytes in (limits or {}).items() if key not in _HOST and nbytes}
    if not cards:
        return (), []
    first = next(iter(cards))
    at = pointer("max_memory", first)
    said = f"max_memory of {first} counts weights, budget.vram counts everything of the process"
    found = [finding(codes.COUNTED_OTHERWISE, said, pointer=at)]
    if len(cards) > 1:
        said = f"max_memory has {len(cards)} devices, the plan is for one"
        found.append(finding(codes.SEVERAL_DEVICES, said, pointer=pointer("max_memory")))
    return (Line("vram", written(cards[first]), f"max_memory of {first}"),), found


def _place(value: Any) -> Any:
    return value if isinstance(value, str) and value in _HOST else device(value)


def _map(value: Any) -> Any:
    if isinstance(value, str) and value in BY_SIZE:
        return value
    if not isinstance(value, Mapping):
        return _place(value)
    made = {key: _place(place) for key, place in value.items() if isinstance(key, str)}
    return WRONG if len(made) < len(value) or not made or WRONG in made.values() else made


def _limits(value: Any) -> Any:
    if not isinstance(value, Mapping):
        return WRONG
    made = {str(key): size(limit) for key, limit in value.items()}
    return WRONG if WRONG in made.values() else made


TOOL = Tool(
    name="device-map",
    title="device_map",
    takes="a device for each component, or balanced; max_memory",
    example='{transformer: 0, text_encoder: cpu, "": "cuda:0"}',
    settings=(
        Setting(
            _NAME,
            Kind("balanced, or a mapping of names to devices: a number, cuda:1, cpu or disk", _map),
        ),
        Setting("max_memory", Kind("a mapping of devices to sizes such as 10GB", _limits)),
        Setting("offload_folder", PATH, None, codes.ON_DISK, "all weights are in host memory"),
    ),
    draft=draft,
    short=_NAME,
    nested=bool,
    calls=("dispatch_model",),
    before=1,
)
