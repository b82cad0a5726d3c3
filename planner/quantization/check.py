"""Rules against the table of backends, against each other, and against the modules that they are for."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from math import isfinite
from typing import Any

from planner.diagnostics.diagnostic import Diagnostic, finding
from planner.diagnostics.suggest import did_you_mean, nearest
from planner.diagnostics.table.p3_plan import BAD_PATTERN, SLOW_PATTERN
from planner.diagnostics.table.p3_quantization import (
    BAD_OPTION,
    PAIR_REFUSED,
    QUANTIZED_ALREADY,
    RULE_NOT_CHECKED,
    SHADOWED_RULE,
    UNKNOWN_OPTION,
    UNMATCHED_RULE,
)
from planner.plan.model import Plan, QuantizationRule
from planner.plan.pattern import TooSlow, fault_of, is_slow
from planner.quantization.backends import BACKENDS, SELECTORS, Option
from planner.quantization.refuse import files, pairs
from planner.quantization.sizes import Effect, effects
from planner.source.limits import SECONDS
from planner.target.model import Target
from planner.target.parts import Part


def check_rules(plan: Plan) -> list[Diagnostic]:
    """Everything that can be said of the rules by themselves: options, patterns, pairs, rules that a wider
    one above them leaves nothing."""
    found: list[Diagnostic] = []
    for number, rule in enumerate(plan.quantization):
        said = [*_options(plan, number, rule)]
        found += said or pairs(plan, rule, plan.device.partition(":")[0])
        found += _shadows(plan.quantization[:number], rule)
        found += _of_a_file(rule)
        found += _alike(plan.quantization[:number], rule)
    found += _patterns(plan)
    for rule in files(plan):
        found += pairs(plan, rule, plan.device.partition(":")[0])
    return found


def check_parts(plan: Plan, target: Target) -> list[Diagnostic]:
    """Rules that change no module of ``target``, as far as it knows its modules' names; a note where it does
    not, or does not know what they weigh then."""
    found: list[Diagnostic] = []
    for name in dict.fromkeys(rule.component for rule in plan.quantization if rule.backend != "gguf"):
        info = target.components.get(name)
        rules = rules_of(plan, name)
        if info is not None and not info.present:
            found += (_absent(rule) for rule in rules if rule.required)
            continue
        if info is not None and info.quantized:
            found += _again(name, info.quantized, rules)
            continue
        try:
            done = effects(rules, info) if info is not None else None
        except TooSlow as slow:
            rule = next(r for r in rules if slow.pattern in (r.match, *r.skip))
            said = f'"{slow.pattern}" and what stands above take more than {SECONDS} of "{name}"'
            found.append(finding(SLOW_PATTERN, said, span=rule.spans.get("match", rule.span)))
            continue
        if info is None or done is None:
            said = f'which modules of "{name}" its rules take is not known here'
            found.append(finding(RULE_NOT_CHECKED, said, span=rules[0].span))
            continue
        found += _without_effect(name, info.parts or (), done)
        unsure = next((effect.rule for effect in done if not effect.taken.sure), None)
        if unsure is not None:
            said = f'of which kind each module of "{name}" is, and so what it weighs then, is not known here'
            found.append(finding(RULE_NOT_CHECKED, said, span=unsure.span))
    return found


def rules_of(plan: Plan, component: str) -> tuple[QuantizationRule, ...]:
    """One component's rules, in order."""
    return tuple(rule for rule in plan.quantization if rule.component == component)


def _options(plan: Plan, number: int, rule: QuantizationRule) -> Iterator[Diagnostic]:
    backend = BACKENDS[rule.backend]
    kind = rule.options.get(backend.type_key)
    misspelt = False
    for key, value in rule.options.items():
        pointer = f"/quantization/{number}/{key.replace('~', '~0').replace('/', '~1')}"
        place = plan.document.key_spans.get(pointer, rule.spans[key])
        option = backend.options.get(key)
        if key == backend.type_key:
            option = Option(values=backend.types)
        if option is None:
            near = nearest(key, (*backend.keys(), *SELECTORS))
            misspelt = misspelt or near == backend.type_key
            hint = f'did you mean "{near}"?' if near else f"known: {', '.join(backend.keys())}"
            yield finding(UNKNOWN_OPTION, f'{backend.name} has no option "{key}"', span=place, hint=hint)
        elif option.types and backend.type_of(rule.options) not in option.types:
            said = (
                f'"{key}" is an option of {", ".join(option.types)}, not of {backend.type_of(rule.options)}'
            )
            yield finding(UNKNOWN_OPTION, said, span=place)
        elif expected := _wrong(option, value):
            said = f'"{key}" of {backend.name} may not be {_shown(value)}: expected {expected}'
            hint = did_you_mean(str(value), option.values) if isinstance(option.values, tuple) else ""
            hint = hint if hint.startswith("did") else ""
            yield finding(BAD_OPTION, said, span=rule.spans[key], hint=hint)
    if kind is None and backend.when == "load" and not misspelt:
        said = f'{backend.name} needs "{backend.type_key}": {", ".join(backend.types)}'
        yield finding(BAD_OPTION, said, span=rule.span)


def _patterns(plan: Plan) -> Iterator[Diagnostic]:
    """Patterns that are none, and the first that takes too long: each further one would take as long."""
    slow = False
    for number, rule in enumerate(plan.quantization):
        said = [("match", rule.match)] if rule.match is not None else []
        for key, pattern in said + [(f"skip/{i}", pattern) for i, pattern in enumerate(rule.skip)]:
            pointer = f"/quantization/{number}/{key}"
            place = plan.document.spans.get(pointer, rule.spans.get(key.partition("/")[0], rule.span))
            if fault := fault_of(pattern):
                what = f'"{pattern}" is no regular expression: {fault}'
                yield finding(BAD_PATTERN, what, span=place, pointer=pointer)
            elif not slow and is_slow(pattern):
                slow = True
                what = f'"{pattern}" takes more than {SECONDS.most} seconds of the name of one module'
                hint = "a repeat inside a repeat, such as (.*)*, is the usual cause"
                yield finding(SLOW_PATTERN, what, span=place, pointer=pointer, hint=hint)


def _wrong(option: Option, value: Any) -> str:
    """What was expected, or nothing when ``value`` is right."""
    if isinstance(option.values, tuple):
        return "" if value in option.values else ", ".join(option.values)
    if option.values is bool:
        return "" if isinstance(value, bool) else "true or false"
    if option.values is int:
        fine = isinstance(value, int) and not isinstance(value, bool) and value > 0
        return "" if fine else "a whole number, at least 1"
    fine = isinstance(value, (int, float)) and not isinstance(value, bool) and isfinite(value)
    return "" if fine else "a finite number" if isinstance(value, float) else "a number"


def _shown(value: Any) -> str:
    return f'"{value}"' if isinstance(value, str) else str(value).lower() if value is None else str(value)


def _of_a_file(rule: QuantizationRule) -> Iterator[Diagnostic]:
    """What a GGUF file holds quantized is settled by whoever wrote it."""
    for key in ("match", "classes", "skip"):
        if rule.backend == "gguf" and key in rule.spans:
            said = f'gguf has no option "{key}": which modules are quantized is in the file'
            yield finding(UNKNOWN_OPTION, said, span=rule.spans[key])


def _alike(above: Sequence[QuantizationRule], rule: QuantizationRule) -> Iterator[Diagnostic]:
    """bitsandbytes and quanto have one configuration for a component."""
    for earlier in above:
        if (earlier.component, earlier.backend) != (rule.component, rule.backend):
            continue
        if rule.backend in ("bitsandbytes", "quanto") and earlier.options != rule.options:
            said = (
                f'"{rule.component}" by {rule.backend} does not go with the rule in line '
                f"{earlier.span.line}: its type and options are one for the whole component"
            )
            yield finding(PAIR_REFUSED, said, span=rule.span, hint="torchao takes several types")
            return


def _shadows(above: Sequence[QuantizationRule], rule: QuantizationRule) -> Iterator[Diagnostic]:
    """A rule for all modules of a component leaves nothing to one below it of the same kinds."""
    for earlier in above:
        if earlier.component != rule.component or earlier.skip or not rule.required:
            continue
        same_names = earlier.match is None or earlier.match == rule.match
        same_classes = not earlier.classes or (
            bool(rule.classes) and set(rule.classes) <= set(earlier.classes)
        )
        wide = BACKENDS[earlier.backend].kinds >= BACKENDS[rule.backend].kinds
        # Casting leaves what the model's class asks for, which another backend may take.
        after = earlier.backend != "layerwise_cast" or rule.backend == "layerwise_cast"
        if same_names and same_classes and wide and after:
            said = f"the rule in line {earlier.span.line} takes every module that this one would"
            yield finding(SHADOWED_RULE, said, span=rule.span, hint="write the narrower rule first")
            return


def _again(component: str, method: str, rules: Sequence[QuantizationRule]) -> Iterator[Diagnostic]:
    """Rules for weights that are stored quantized."""
    for rule in rules:
        if rule.required:
            said = f'"{component}" is quantized already, by {method}, as its config.json says: '
            said += f"{rule.backend} would have nothing to do"
            hint = "without the rule it is loaded as it is; or a source whose weights are plain"
            yield finding(QUANTIZED_ALREADY, said, span=rule.span, hint=hint)


def _without_effect(component: str, parts: Sequence[Part], done: Sequence[Effect]) -> Iterator[Diagnostic]:
    for effect in done:
        rule = effect.rule
        if len(effect.stays) < len(effect.taken.parts) or not rule.required:
            continue
        if effect.stays:
            said = f'no weight of "{component}" that the rule takes has a shape that {rule.backend} packs so'
            yield finding(UNMATCHED_RULE, said, span=rule.span)
        elif effect.taken.wanted:
            said = f'rules above this one take every module of "{component}" that it would'
            yield finding(SHADOWED_RULE, said, span=rule.span, hint="write the narrower rule first")
        else:
            yield _unmatched(component, rule, parts)


def _absent(rule: QuantizationRule) -> Diagnostic:
    said = f'the pipeline has no "{rule.component}" here (it is None), so the rule takes nothing'
    place = rule.spans["component"]
    return finding(UNMATCHED_RULE, said, span=place, hint="required: false if that is fine")


def _unmatched(component: str, rule: QuantizationRule, parts: Sequence[Part]) -> Diagnostic:
    asked = " and ".join(
        [f'matched by "{rule.match}"'] * (rule.match is not None)
        + [f"of class {', '.join(rule.classes)}"] * bool(rule.classes)
    )
    said = f'no module of "{component}" that {rule.backend} quantizes is {asked or "left to take"}'
    near = _near_class(rule, parts) or _near_name(rule, parts)
    place = rule.spans.get("match", rule.spans.get("classes", rule.span))
    hint = f'did you mean "{near}"?' if near else "required: false if that is fine"
    return finding(UNMATCHED_RULE, said, span=place, hint=hint)


def _near_class(rule: QuantizationRule, parts: Sequence[Part]) -> str | None:
    """The class that the first one was meant to be that no module has."""
    known = {name for part in parts for name in (part.classes or part.kinds)}
    wrong = next((name for name in rule.classes if name not in known), None)
    return nearest(wrong, known) if wrong is not None else None


def _near_name(rule: QuantizationRule, parts: Sequence[Part]) -> str | None:
    """The step of a module's name that the first word of ``match`` was meant to be that is in none."""
    steps = {step for part in parts for step in part.name.split(".")}
    words = re.findall(r"[A-Za-z_]\w+", re.sub(r"\\.", " ", rule.match or ""))
    wrong = next((word for word in words if not any(word in step for step in steps)), None)
    return nearest(wrong, steps) if wrong is not None else None
