"""How the modules of a loaded component are quantized, and whether that is what the rules say."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

import torch

from planner.diagnostics.diagnostic import Diagnostic, finding
from planner.diagnostics.table.p7_session import QUANTIZED_OTHERWISE
from planner.forms.cast import Cast
from planner.plan.model import Plan
from planner.quantization.backends import BACKENDS, FLOAT8
from planner.quantization.check import rules_of
from planner.quantization.select import Keeps, Taken, take
from planner.target.loaded import keeps_of
from planner.target.parts import Part, parts_of

LATER = ("torchao", "layerwise_cast")
"""Backends that work on a loaded module."""


def taken_of(plan: Plan, name: str, module: torch.nn.Module) -> tuple[Taken, ...]:
    """What each rule for the component ``name`` takes of ``module``, which may lie on the meta device.

    A Linear that shares its weight with another module (a language model's head and its embedding) is only
    cast: quantized, it would have one of its own.
    """
    float32, casting = keeps_of(module)
    found = take(rules_of(plan, name), tuple(parts_of(module)), Keeps(float32=float32, cast=casting))
    owners = Counter(id(part._parameters.get("weight")) for part in module.modules())
    modules = named(module)

    def alone(part: Part) -> bool:
        return owners[id(modules[part.name]._parameters.get("weight"))] == 1

    return tuple(
        one
        if one.rule.backend == "layerwise_cast"
        else replace(one, parts=tuple(part for part in one.parts if alone(part)))
        for one in found
    )


def named(module: torch.nn.Module) -> Mapping[str, torch.nn.Module]:
    """Its modules by the names that rules know: peft's ``x.base_layer`` is ``x``."""
    found = dict(module.named_modules())
    below = {name: part for name, part in found.items() if ".base_layer" in name}
    return found | {name.replace(".base_layer", ""): part for name, part in below.items()}


def quantization_of(module: torch.nn.Module) -> tuple[str, str] | None:
    """Backend and format of a module's weight; None for a plain one."""
    weight: Any = module._parameters.get("weight")
    kind, library = type(weight).__name__, type(weight).__module__.partition(".")[0]
    if isinstance(weight, Cast):
        return "layerwise_cast", str(weight.stored.dtype).removeprefix("torch.")
    if kind == "Params4bit":
        return "bitsandbytes", str(weight.quant_type)
    if kind == "Int8Params":
        return "bitsandbytes", "int8"
    if kind == "GGUFParameter":
        return "gguf", "file"
    if library == "optimum":
        return "quanto", str(weight.qtype.name).removeprefix("q").partition("_")[0]
    if library == "torchao":
        return "torchao", _of_torchao(weight)
    if weight is not None and str(weight.dtype).removeprefix("torch.") in FLOAT8:
        return "diffusers", "layerwise casting"
    return None


def compare(taken: Taken, modules: Mapping[str, torch.nn.Module]) -> Iterator[Diagnostic]:
    """Whether the modules that a rule takes are quantized as it says; plain ones are fine where its backend
    works on them yet."""
    rule = taken.rule
    wanted = (rule.backend, BACKENDS[rule.backend].type_of(rule.options))
    found = {name: quantization_of(modules[name]) for name in sorted(taken.names)}
    if rule.backend == "gguf":
        # Which of its tensors are quantized is the file's to say.
        wrong = [] if wanted in found.values() else [*found]
    else:
        fine = (wanted, None) if rule.backend in LATER else (wanted,)
        wrong = [name for name, what in found.items() if what not in fine]
    if wrong:
        what = " ".join(found[wrong[0]] or ("not quantized",))
        more = f", and {len(wrong) - 1} more like it" if len(wrong) > 1 else ""
        said = f'"{rule.component}.{wrong[0]}" is {what}, and the plan says {" ".join(wanted)}{more}'
        hint = "planner.load_pipeline(plan) loads it so" if rule.backend not in LATER else ""
        yield finding(QUANTIZED_OTHERWISE, said, span=rule.span, hint=hint)


def _of_torchao(weight: Any) -> str:
    """By what its tensor is made of: the classes change from version to version."""
    inside, dynamic = weight, False
    while hasattr(inside, "__tensor_flatten__"):
        dynamic = dynamic or getattr(inside, "act_quant_kwargs", None) is not None
        dynamic = dynamic or type(inside).__name__ == "LinearActivationQuantizedTensor"
        inside = getattr(inside, inside.__tensor_flatten__()[0][0])
    width = "float8" if inside.dtype.is_floating_point else "int8" if inside.dtype is torch.int8 else "int4"
    return f"{width}_dynamic" if dynamic else f"{width}_weight_only"
