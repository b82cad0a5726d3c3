"""Quantization rules in words: what each takes of its component, and what that weighs before and after."""

from __future__ import annotations

from collections.abc import Iterator

from planner.plan.model import Plan, QuantizationRule
from planner.quantization.backends import BACKENDS
from planner.quantization.sizes import Effect, effects
from planner.report.sheet import Sheet, sheet
from planner.report.units import UNKNOWN, Unit, unit_for
from planner.target.model import ComponentInfo, Target, device_bytes


def rules_table(plan: Plan, target: Target) -> Sheet:
    """A row a rule, in the plan's order: what it selects, modules and parameters, bytes on the device before
    and after; last a row a component, for all of it. ``target``: sized under the plan's rules."""
    done = {id(rule): effect for name in ruled(plan) for rule, effect in _effects(plan, target, name)}
    sizes = [size for e in done.values() if e is not None for size in (e.before, e.after)]
    totals = {name: _total(target.components.get(name)) for name in ruled(plan)}
    unit = unit_for([*sizes, *(size for total in totals.values() for size in total)])
    numbers = (">modules", ">parameters", f">{unit.name} before", ">after", ">line")
    made = sheet("!component", "~rule", "~takes", *numbers, gap=2)
    for rule in plan.quantization:
        effect = done[id(rule)]
        cells = (UNKNOWN,) * 4 if effect is None else _numbers(effect, unit)
        made.add(rule.component, _what(rule), _takes(rule), *cells, str(rule.span.line))
    for name, (before, after) in totals.items():
        made.add(name, "in all", "", "", "", unit.number(before), unit.number(after), "")
    return made


def ruled(plan: Plan) -> tuple[str, ...]:
    """The components that have rules, in their order."""
    return tuple(dict.fromkeys(rule.component for rule in plan.quantization))


def _effects(plan: Plan, target: Target, name: str) -> Iterator[tuple[QuantizationRule, Effect | None]]:
    rules = [rule for rule in plan.quantization if rule.component == name]
    info = target.components.get(name)
    found = effects(rules, info) if info is not None else None
    return zip(rules, found or (None,) * len(rules), strict=True)


def _total(info: ComponentInfo | None) -> tuple[int | None, int | None]:
    """What a component weighs without its rules and under them."""
    if info is None or info.weights is None:
        return None, info.bytes if info is not None else None
    return device_bytes(size for _, size in info.weights), info.bytes


def _numbers(effect: Effect, unit: Unit) -> tuple[str, ...]:
    parts = effect.taken.parts
    stay = f" ({len(effect.stays)} stay)" if effect.stays else ""
    sizes = (effect.before, effect.after) if effect.taken.sure else (None, None)
    parameters = sum(part.parameters for part in parts if not part.tied)
    return f"{len(parts)}{stay}", f"{parameters:,}", *map(unit.number, sizes)


def _what(rule: QuantizationRule) -> str:
    backend = BACKENDS[rule.backend]
    more = [f"{key}={_plain(value)}" for key, value in rule.options.items() if key != backend.type_key]
    kind = backend.type_of(rule.options) if len(backend.types) > 1 else ""
    return " ".join([rule.backend, *([kind] if kind else []), *more])


def _takes(rule: QuantizationRule) -> str:
    said = [rule.match] if rule.match is not None else []
    said += [", ".join(rule.classes)] if rule.classes else []
    said = said or ["all that it can"]
    return "; ".join([*said, *(["not " + ", ".join(rule.skip)] if rule.skip else [])])


def _plain(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
