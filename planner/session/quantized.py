"""Quantization rules on a loaded pipeline: what was quantized while it was loaded is compared with them, and
what can be done afterwards is done, to exactly the modules that they take."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import replace
from functools import partial
from importlib import metadata
from typing import Any

import torch
from packaging.version import Version

from planner.diagnostics.diagnostic import Diagnostic, PlanError, finding
from planner.diagnostics.table.p3_quantization import BAD_OPTION
from planner.diagnostics.table.p7_session import QUANTIZED_OTHERWISE
from planner.diagnostics.table.p9_machine import PACKAGE_MISSING, PACKAGE_TOO_OLD
from planner.plan.model import Plan, QuantizationRule
from planner.quantization.backends import BACKENDS, FLOAT8
from planner.quantization.check import rules_of
from planner.quantization.select import Keeps, Taken, take
from planner.session.cast import Cast
from planner.target.loaded import keeps_of
from planner.target.parts import parts_of

LATER = ("torchao", "layerwise_cast")
"""Backends that work on a loaded module."""

ON_DEVICE = ("int4_weight_only", "float8_dynamic")
"""Formats of torchao that are made by the accelerator's own kernels."""


@contextmanager
def quantized(
    plan: Plan, pipe: Any, device: torch.device, *, keep: bool, later: Collection[str] = LATER
) -> Iterator[ExitStack]:
    """Inside, the components of ``pipe`` are as the rules say; what is yielded takes it back when closed.

    Rules for bitsandbytes, quanto and gguf are compared with what is loaded. Those of ``later`` are done, on
    the CPU, to what is not quantized yet. ``keep``: the Parameters from before are held until then, and with
    them their memory, beside that of the quantized ones (views of mapped files may be dropped by the system);
    and all is as it was when something raises inside. Without it nothing is taken back.
    Raises PlanError with nothing changed.
    """
    todo = [(part, taken.rule) for taken, part in _to_do(plan, pipe) if taken.rule.backend in later]
    with ExitStack() as failing:
        undo = failing.enter_context(ExitStack())
        with torch.inference_mode(False), torch.no_grad():
            for part, rule in todo:
                where = next(part.parameters()).device
                if keep and where.type != "cpu":
                    failing.callback(part.to, where)
                part.to("cpu")
                _swap(part, partial(_BY[rule.backend], rule=rule, device=device), undo if keep else None)
        yield undo
        failing.pop_all()


def same_rules(a: Plan, b: Plan) -> bool:
    """Whether two plans quantize alike, wherever their rules stand."""
    span = next((rule.span for rule in (*a.quantization, *b.quantization)), None)
    mine, other = ([replace(rule, span=span, spans={}) for rule in p.quantization] for p in (a, b))  # type: ignore[arg-type]
    return mine == other


def lacking(plan: Plan) -> Iterator[Diagnostic]:
    """A finding for each package that the rules' backends need and that is missing or too old."""
    for rule in {rule.backend: rule for rule in plan.quantization}.values():
        backend = BACKENDS[rule.backend]
        if not backend.distribution:
            continue
        try:
            version = metadata.version(backend.distribution)
        except metadata.PackageNotFoundError:
            said = f'package "{backend.distribution}" is missing, and rules for {backend.name} need it'
            yield finding(PACKAGE_MISSING, said, span=rule.span, hint=backend.install)
            continue
        if Version(Version(version).base_version) < Version(backend.least):
            said = (
                f'package "{backend.distribution}" is version {version}, at least {backend.least} is expected'
            )
            yield finding(PACKAGE_TOO_OLD, said, span=rule.span, hint=backend.install)


def taken_of(plan: Plan, name: str, module: torch.nn.Module) -> tuple[Taken, ...]:
    """What each rule for the component ``name`` takes of ``module``, which may lie on the meta device."""
    float32, casting = keeps_of(module)
    return take(rules_of(plan, name), tuple(parts_of(module)), Keeps(float32=float32, cast=casting))


def named(module: torch.nn.Module) -> Mapping[str, torch.nn.Module]:
    """Its modules by the names that rules know: peft's ``x.base_layer`` is ``x``."""
    found = {name: part for name, part in module.named_modules() if not name.endswith(".base_layer")}
    return found | {
        name.replace(".base_layer", ""): part
        for name, part in module.named_modules()
        if name.endswith(".base_layer")
    }


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
        return "torchao", _format(weight)
    if weight is not None and str(weight.dtype).removeprefix("torch.") in FLOAT8:
        return "diffusers", "layerwise casting"
    return None


def torchao_config(rule: QuantizationRule) -> Any:
    """The configuration of torchao that ``rule`` asks for. torch.compile's settings stay what they are."""
    from torchao import quantization as ao

    kinds: dict[str, Callable[..., Any]] = {
        "int8_weight_only": ao.Int8WeightOnlyConfig,
        "int4_weight_only": ao.Int4WeightOnlyConfig,
        "float8_weight_only": ao.Float8WeightOnlyConfig,
        "int8_dynamic": ao.Int8DynamicActivationInt8WeightConfig,
        "float8_dynamic": ao.Float8DynamicActivationFloat8WeightConfig,
    }
    options = {key: value for key, value in rule.options.items() if key != "type"}
    return kinds[rule.options["type"]](**options, set_inductor_config=False)


def compare(taken: Taken, modules: Mapping[str, torch.nn.Module]) -> Iterator[Diagnostic]:
    """What of the modules that a rule takes is quantized, and otherwise than it says; or not at all, where
    its backend works only while weights are read."""
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


def _to_do(plan: Plan, pipe: Any) -> list[tuple[Taken, torch.nn.Module]]:
    """Every module that is to be quantized now, with what takes it."""
    problems, todo = [*lacking(plan)], []
    for name in dict.fromkeys(rule.component for rule in plan.quantization):
        module = pipe.components.get(name)
        if not isinstance(module, torch.nn.Module):
            continue
        modules = named(module)
        for taken in taken_of(plan, name, module):
            plain = [part for n in sorted(taken.names) if quantization_of(part := modules[n]) is None]
            problems += [*compare(taken, modules), *_computes(taken.rule, name, plain)]
            todo += [(taken, part) for part in plain]
    if problems:
        raise PlanError(problems, plan.document.sources)
    return todo


def _computes(rule: QuantizationRule, name: str, parts: list[torch.nn.Module]) -> Iterator[Diagnostic]:
    """A layer computes in the dtype that its inputs have: the component's."""
    asked = rule.options.get("compute_dtype") if rule.backend == "layerwise_cast" else None
    dtypes = {str(part._parameters["weight"].dtype).removeprefix("torch.") for part in parts}  # type: ignore[union-attr]
    if asked is not None and (others := sorted(dtypes - {asked})):
        said = f'"{name}" is loaded in {others[0]}, and cannot compute in {asked}'
        hint = "pipeline.dtype says in which dtype it is loaded"
        yield finding(BAD_OPTION, said, span=rule.spans["compute_dtype"], hint=hint)


def _cast(part: torch.nn.Module, *, rule: QuantizationRule, device: torch.device) -> None:
    storage = getattr(torch, BACKENDS["layerwise_cast"].type_of(rule.options))
    for key, parameter in part._parameters.items():
        if parameter is not None and parameter.is_floating_point():
            stored = Cast(parameter.to(storage), parameter.dtype)
            part._parameters[key] = torch.nn.Parameter(stored, requires_grad=False)


def _torchao(part: torch.nn.Module, *, rule: QuantizationRule, device: torch.device) -> None:
    from torchao.quantization import quantize_

    on = device if rule.options["type"] in ON_DEVICE else None
    quantize_(part, torchao_config(rule), filter_fn=lambda module, _: module is part, device=on)
    part.to("cpu")


_BY: Mapping[str, Any] = {"layerwise_cast": _cast, "torchao": _torchao}


def _swap(part: torch.nn.Module, make: Callable[[torch.nn.Module], None], undo: ExitStack | None) -> None:
    """``make(part)``, and how it is taken back."""
    before, shown = dict(part._parameters), part.__dict__.get("extra_repr")
    make(part)
    hook = (
        part.register_state_dict_post_hook(_Saved()) if isinstance(part._parameters["weight"], Cast) else None
    )
    if undo is None:
        return
    held = weakref.ref(part)
    made = {
        key: (new, old, _changes(new))
        for key, old in before.items()
        if old is not None and (new := part._parameters[key]) is not None and new is not old
    }

    def restore() -> None:
        if hook is not None:
            hook.remove()
        if (part := held()) is None:
            return
        for key, (new, old, changes) in made.items():
            if part._parameters.get(key) is new:
                part._parameters[key] = _with_changes(old, new, changes)
        if shown is None:
            part.__dict__.pop("extra_repr", None)

    undo.callback(restore)


def _with_changes(old: torch.nn.Parameter, new: torch.nn.Parameter, changes: int) -> torch.nn.Parameter:
    """The Parameter from before; with its values of now when they were written to, or cast."""
    with torch.no_grad():
        if isinstance(new, Cast) and _changes(new) != changes:
            old.data = new.full()
        elif new.dtype != old.dtype:
            old.data = old.data.to(new.dtype)
    return old


def _changes(tensor: Any) -> int:
    return int(tensor.stored._version) if isinstance(tensor, Cast) else 0


class _Saved:
    """State dict hook: a cast weight is saved as a plain tensor of its values."""

    def __call__(self, module: torch.nn.Module, state: dict[str, Any], prefix: str, _: Any) -> None:
        for key in module._parameters:
            if isinstance(found := state.get(prefix + key), Cast):
                state[prefix + key] = found.full()

    def __reduce__(self) -> tuple[Any, ...]:
        return getattr, (nullcontext(), "__exit__")


def _format(weight: Any) -> str:
    """Of a tensor of torchao, by what it is made of: its classes change from version to version."""
    inside, dynamic = weight, False
    while hasattr(inside, "__tensor_flatten__"):
        dynamic = dynamic or getattr(inside, "act_quant_kwargs", None) is not None
        dynamic = dynamic or type(inside).__name__ == "LinearActivationQuantizedTensor"
        inside = getattr(inside, inside.__tensor_flatten__()[0][0])
    width = "float8" if inside.dtype.is_floating_point else "int8" if inside.dtype is torch.int8 else "int4"
    return f"{width}_dynamic" if dynamic else f"{width}_weight_only"
