"""What may change the picture, where it is allowed: slicing and tiling of a VAE, a smaller dtype, quantized
weights."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain, combinations

from planner.diagnostics.diagnostic import Diagnostic, finding
from planner.diagnostics.table.p9_fit import NOT_CHOSEN_FROM
from planner.fitting.choices import Settings
from planner.plan.model import Plan, QuantizationRule
from planner.quantization.legal import choices
from planner.target.model import Target
from planner.target.vae_options import may_have

ALLOW = ("slicing", "tiling", "quantization", "dtype")
PIECES = {"slicing": "one item at a time: may round otherwise", "tiling": "in tiles: seams may show"}
"""What a VAE may do by parts, the one first that changes less."""
ENTRIES = ("decode", "encode")
HALF = "bfloat16"
LARGEST = 2
"""So many components, the largest, may be quantized."""
FORMATS = ("float8_e4m3fn", "int8_weight_only", "nf4")
"""One of eight bits that stays in floating point, one of eight that does not, one of four."""
WORTH = 0.02
"""Of the seconds: what gains less does not change the picture."""


@dataclass(frozen=True, slots=True)
class Variant:
    """``settings`` that change what is computed; ``said``: what they do to the picture."""

    settings: Settings
    said: tuple[str, ...] = ()


def variants(plan: Plan, target: Target, allow: tuple[str, ...]) -> tuple[list[Variant], list[Diagnostic]]:
    """All that may be combined, the one that changes nothing first, then those that change little; and what
    was not tried."""
    found: list[Diagnostic] = []
    each: list[list[Variant]] = []
    for option in (name for name in PIECES if name in allow):
        each += [[one] for one in _by_parts(option, plan, target)]
    if "dtype" in allow and plan.pipeline.dtype in (None, "float32"):
        each.append([Variant((("pipeline.dtype", HALF),), (f"computed in {HALF}",))])
    if "quantization" in allow:
        if plan.quantization:
            found.append(finding(NOT_CHOSEN_FROM, "the plan has rules of quantization, they are kept"))
        elif not (rules := _rules(target, loras=bool(plan.loras))):
            said = "no formats were tried: the names and sizes of tensors are not known here"
            found.append(finding(NOT_CHOSEN_FROM, said, hint="give a folder with the pipeline's files"))
        else:
            each.append([*_quantized(rules)])
    made = [Variant(())]
    for more in each:
        made += [
            Variant((*one.settings, *other.settings), (*one.said, *other.said))
            for one in made
            for other in more
        ]
    return sorted(made, key=lambda v: len(v.settings)), found


def _by_parts(option: str, plan: Plan, target: Target) -> Iterator[Variant]:
    for name, info in target.components.items():
        said = plan.components.get(name)
        able = info.present and {*ENTRIES} & {*info.entries} and may_have(option, info.classes)
        if able and (said is None or option not in said.vae_options):
            yield Variant(((f"components.{name}.{option}", "on"),), (f"{name} {PIECES[option]}",))


def _rules(target: Target, *, loras: bool) -> list[tuple[str, str, QuantizationRule]]:
    """Of the largest components: name, format, rule."""
    sized = [(info.bytes or 0, name) for name, info in target.components.items() if info.module]
    found: list[tuple[str, str, QuantizationRule]] = []
    for _, name in sorted(sized, key=lambda pair: (-pair[0], pair[1]))[:LARGEST]:
        for choice in choices(target.components[name], policy="stream", device_type="cuda", loras=loras):
            kind = next(iter(choice.rule.options.values()))
            if kind in FORMATS and not any(n == name and k == kind for n, k, _ in found):
                found.append((name, str(kind), choice.rule))
    return sorted(found, key=lambda one: FORMATS.index(one[1]))


def _quantized(rules: list[tuple[str, str, QuantizationRule]]) -> Iterator[Variant]:
    pairs = (pair for pair in combinations(rules, 2) if pair[0][0] != pair[1][0] and pair[0][1] == pair[1][1])
    for chosen in chain(((one,) for one in rules), pairs):
        text = ", ".join(_written(rule) for _, _, rule in chosen)
        said = tuple(f"{name} in {rule.backend} {kind}" for name, kind, rule in chosen)
        yield Variant((("quantization", f"[{text}]"),), said)


def _written(rule: QuantizationRule) -> str:
    options = "".join(f", {key}: {value}" for key, value in rule.options.items())
    return f"{{component: {rule.component}, backend: {rule.backend}{options}}}"
