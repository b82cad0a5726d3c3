"""mmgp's profiles and budgets (3.8.2): ``offload.profile(pipe, 4)``, ``offload.all(pipe, budgets=...)``."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from planner.diagnostics.diagnostic import Diagnostic, finding
from planner.diagnostics.table import p8_tools as codes
from planner.target.model import Target
from planner.translation.tools.kinds import ANY, BOOL, choice, is_count, is_number, names, shown
from planner.translation.tools.model import WRONG, Draft, Kind, Line, Setting, Tool, Values
from planner.translation.tools.parts import NONE_STAYS, modules, spelled, unknown, walk_line
from planner.translation.tools.read import pointer

MIB = 1 << 20
_UNSET: Any = object()
_MOST = 1 << 30
"""MiB."""

_PROFILES: Mapping[int, tuple[Any, Any, bool]] = {
    1: (True, None, False),
    2: (True, {"*": 3000, "transformer": 1200}, False),
    3: ("transformer", None, True),
    4: ("transformer", {"*": 3000, "transformer": 1200}, True),
    5: (False, {"*": 3000, "transformer": 400}, True),
}
"""What a profile pins, its budgets in MiB, and whether it quantizes large text encoders."""
_PROFILE_NAMES = {
    "HighRAM_HighVRAM": 1,
    "HighRAM_LowVRAM": 2,
    "LowRAM_HighVRAM": 3,
    "LowRAM_LowVRAM": 4,
    "VerylowRAM_LowVRAM": 5,
    "HighRAM_HighVRAM_Fastest": 1,  # of the documentation, and of older versions
    "HighRAM_LowVRAM_Fast": 2,
    "LowRAM_HighVRAM_Medium": 3,
    "LowRAM_LowVRAM_Slow": 4,
    "VerylowRAM_LowVRAM_Slowest": 5,
}
_LARGE_ENCODERS = ("t5", "llama", "llm")
_TYPES = {"qint8": "int8", "qint4": "int4", "qint2": "int2", "qfloat8": "float8"}


_NAMED = ("budgets", "workingVRAM", "pinnedMemory", "extraModelsToQuantize")
"""Settings with names of models. They are the caller's own: a dictionary of modules has any."""


def draft(values: Values, target: Target) -> tuple[Draft, tuple[Diagnostic, ...]]:
    """A component with a budget streams within it, one without comes whole."""
    values, taken = _renamed(values, target)
    made, found = _draft(values, target)
    return made, (*taken, *found)


def _renamed(values: Values, target: Target) -> tuple[Values, list[Diagnostic]]:
    """Names that differ from a component's in spelling alone are that component's."""
    made, found = dict(values), []
    for key in _NAMED:
        given = values[key]
        if not isinstance(given, (Mapping, tuple)):
            continue
        meant = spelled(given, target)
        found += [
            finding(codes.TAKEN_AS, f'{shown(name)} is taken as "{component}"', pointer=pointer(key, name))
            for name, component in meant.items()
        ]
        if isinstance(given, tuple):
            made[key] = tuple(meant.get(name, name) for name in given)
        else:
            made[key] = {meant.get(name, name): value for name, value in given.items()}
    return made, found


def _draft(values: Values, target: Target) -> tuple[Draft, tuple[Diagnostic, ...]]:
    pinned, budgets, encoders = _PROFILES.get(values["profile_no"], (False, None, False))
    pinned = pinned if values["pinnedMemory"] is _UNSET else values["pinnedMemory"]
    found = [*_pinning(pinned, target)]
    if values["budgets"] is not _UNSET:
        budgets = values["budgets"]
        found += _misread_budgets(budgets, target)
    lines = [_component(name, _of(budgets, name), values, target) for name in modules(target)]
    if any(isinstance(line.value, dict) for line in lines):
        said = "a budget of mmgp also holds the two blocks on their way: resident is without them"
        found.append(finding(codes.COUNTED_OTHERWISE, said, pointer="/budgets"))
    room, problems = _working(values["workingVRAM"])
    found += problems
    rules = _rules(values, encoders, target)
    if rules:
        said = f"mmgp quantizes {', '.join(rule.value['component'] for rule in rules)} after loading"
        found.append(finding(codes.QUANTIZES_OTHERWISE, said, pointer="/quantizeTransformer"))
    if values["extraModelsToQuantize"] is not _UNSET:
        found += unknown(values["extraModelsToQuantize"] or (), target, "extraModelsToQuantize")
    made = Draft(
        device=Line("device", "cuda:0", "mmgp takes the first card"),
        budget=room,
        components=tuple(lines),
        order=walk_line(target),
        rules=rules,
    )
    return made, tuple(found)


def _component(name: str, budget: Any, values: Values, target: Target) -> Line:
    size = target.components[name].bytes
    if not budget:
        return Line(name, "offload", "no budget: whole, when it is used")
    if isinstance(budget, str):
        return Line(name, {"policy": "stream", "prefetch": 1}, f"budget {budget} of the card")
    if size is not None and size <= budget * MIB:
        return Line(name, "offload", f"within its budget of {budget} MiB: whole")
    if not values["asyncTransfers"]:
        policy = {"policy": "stream", "resident": NONE_STAYS, "prefetch": 0}
        return Line(name, policy, f"budget {budget} MiB; without asyncTransfers nothing stays")
    return Line(name, {"policy": "stream", "resident": _mib(budget), "prefetch": 1}, f"budget {budget} MiB")


def _of(budgets: Any, name: str) -> Any:
    return budgets.get(name, budgets.get("*")) if isinstance(budgets, Mapping) else budgets


def _mib(number: float) -> str:
    return f"{number}MiB" if is_count(number) else f"{max(1, int(number * MIB))}B"


def _misread_budgets(budgets: Any, target: Target) -> Iterator[Diagnostic]:
    if isinstance(budgets, Mapping):
        yield from unknown((name for name in budgets if name != "*"), target, "budgets")
    elif budgets:
        said = (
            f"mmgp 3.8.2 passes over a single budget, {shown(budgets)}: the plan keeps it for each component"
        )
        yield finding(codes.TOOL_MISREADS, said, pointer="/budgets", hint=f'budgets: {{"*": {budgets}}}')
    for share in (v for v in _values(budgets) if isinstance(v, str)):
        said = f"mmgp 3.8.2 reads {share} as that many times the card: the compiler chooses what stays"
        yield finding(codes.TOOL_MISREADS, said, pointer="/budgets")


def _working(wanted: Any) -> tuple[tuple[Line, ...], list[Diagnostic]]:
    """``workingVRAM``: what is left free of weights; the largest of several."""
    given = [value for value in _values(wanted) if value]
    if not given:
        return (), []
    found = []
    shares = [value for value in given if isinstance(value, str)]
    if isinstance(wanted, Mapping) and "*" in wanted:
        said = 'mmgp 3.8.2 never finds "*" in workingVRAM: the plan keeps it'
        found.append(finding(codes.TOOL_MISREADS, said, pointer=pointer("workingVRAM", "*")))
    if shares:
        said = f"mmgp 3.8.2 reads {shares[0]} as that many times the card: the plan means a share of it"
        found.append(finding(codes.TOOL_MISREADS, said, pointer="/workingVRAM"))
    said = "workingVRAM is for activations, which budget.vram counts by itself"
    found.append(finding(codes.COUNTED_OTHERWISE, said, pointer="/workingVRAM"))
    free = shares[0] if shares else _mib(max(given))
    return (Line("leave_free", free, "workingVRAM"),), found


def _rules(values: Values, encoders: bool, target: Target) -> tuple[Line, ...]:
    """mmgp quantizes what is called ``transformer``, profiles 3 to 5 text encoders of some families too."""
    wanted = values["extraModelsToQuantize"]
    why = "extraModelsToQuantize"
    if wanted is _UNSET:
        why = f"profile {values['profile_no']}"
        scanned = [n for n in ("text_encoder", "text_encoder_2") if encoders and n in modules(target)]
        wanted = [name for name in scanned if _is_large(target.components[name].classes)]
    reasons = {name: why for name in wanted or () if name in modules(target)}
    if values["quantizeTransformer"] and "transformer" in modules(target):
        reasons.setdefault("transformer", "quantizeTransformer, which is the default")
    kind = _TYPES[values["quantizationType"]]
    return tuple(
        Line("", {"component": name, "backend": "quanto", "type": kind}, why) for name, why in reasons.items()
    )


def _is_large(classes: tuple[str, ...]) -> bool:
    return any(part in cls.lower() for cls in classes for part in _LARGE_ENCODERS)


def _pinning(pinned: Any, target: Target) -> Iterator[Diagnostic]:
    if pinned is True:
        return
    listed = ", ".join(shown(name) for name in names(pinned)) if pinned else "nothing"
    said = f"mmgp pins {listed}: the session pins what budget.pinned allows, without a second copy"
    yield finding(codes.HOW_IT_COPIES, said, pointer="/pinnedMemory")


def _values(budgets: Any) -> tuple[Any, ...]:
    return tuple(budgets.values()) if isinstance(budgets, Mapping) else (budgets,)


def _profile(value: Any) -> Any:
    number = _PROFILE_NAMES.get(value) if isinstance(value, str) else value
    return number if is_count(number) and number in _PROFILES else WRONG


def _budget(value: Any) -> Any:
    if is_number(value):
        return value if 0 <= value < _MOST else WRONG
    if not isinstance(value, str) or not value.endswith("%"):
        return WRONG
    number = value[:-1].strip()
    plain = number.isascii() and number.replace(".", "", 1).isdigit() and len(number) < 8
    if not plain or not 0 < float(number) <= 100:
        return WRONG
    return f"{float(number):g}%"


def _budgets(value: Any) -> Any:
    if value is None:
        return None
    if not isinstance(value, Mapping):
        return _budget(value)
    made = {key: _budget(each) for key, each in value.items() if isinstance(key, str)}
    return WRONG if len(made) < len(value) or WRONG in made.values() else made


def _pinned(value: Any) -> Any:
    return value if isinstance(value, bool) else names(value)


def _optional_names(value: Any) -> Any:
    return () if value is None else names(value)


_BUDGETS = Kind("a number of MB, a share such as 50%, or a mapping of components to them", _budgets)
_COEFFICIENT = Kind("a number between 0 and 1", lambda v: v if isinstance(v, float) and 0 < v < 1 else WRONG)
_PINS = "the session registers host memory where it lies, as far as budget.pinned allows"

TOOL = Tool(
    name="mmgp",
    title="mmgp",
    takes="profile_no (1 to 5), budgets, pinnedMemory, quantizeTransformer and the others",
    example="{profile_no: 4}",
    settings=(
        Setting("profile_no", Kind("a profile from 1 to 5", _profile)),
        Setting("verboseLevel", ANY, -1),
        Setting("pinnedMemory", Kind("true, false, or names", _pinned), _UNSET),
        Setting("pinnedPEFTLora", BOOL, False, codes.HOW_IT_COPIES, _PINS),
        Setting("partialPinning", BOOL, False, codes.HOW_IT_COPIES, _PINS),
        Setting("loras", ANY, None, codes.OTHER_FEATURE, "LoRAs are loaded by the plan's loras, or by hand"),
        Setting("quantizeTransformer", BOOL, True),
        Setting("extraModelsToQuantize", Kind("a list of names", _optional_names), _UNSET),
        Setting("quantizationType", choice(*_TYPES), "qint8"),
        Setting("budgets", _BUDGETS, _UNSET),
        Setting("workingVRAM", _BUDGETS),
        Setting("asyncTransfers", BOOL, True),
        Setting("compile", ANY, False, codes.OTHER_FEATURE, "compile the component by hand"),
        Setting("convertWeightsFloatTo", ANY, "bfloat16", codes.OTHER_FEATURE, "pipeline.dtype is the dtype"),
        Setting("perc_reserved_mem_max", ANY, 0, codes.HOW_IT_COPIES, _PINS),
        Setting("coTenantsMap", ANY, None, codes.OTHER_FEATURE, "what is needed together stays together"),
        Setting(
            "vram_safety_coefficient",
            _COEFFICIENT,
            0.8,
            codes.COUNTED_OTHERWISE,
            "it counts one model's weights, budget.vram everything of the process",
        ),
        Setting("compile_mode", ANY, "default", codes.OTHER_FEATURE, "compile the component by hand"),
        Setting("loading_callback", ANY, None, codes.OTHER_FEATURE, "the session does not report loading"),
    ),
    draft=draft,
    short="profile_no",
    before=1,
    calls=("profile", "all"),
    modules=("offload", "mmgp"),
    implied={"profile": {"profile_no": 5}},
)
