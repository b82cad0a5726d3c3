"""Quantization rules done to a loaded pipeline, to exactly the modules that they take, and taken back."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Collection, Iterator, MutableMapping
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch.utils.weak import WeakTensorKeyDictionary

from planner.diagnostics.diagnostic import Diagnostic, PlanError, finding
from planner.diagnostics.table.p3_quantization import BAD_OPTION, PAIR_REFUSED
from planner.forms.cast import Cast
from planner.forms.formats import LATER, compare, named, quantization_of, taken_of
from planner.plan.model import Plan, QuantizationRule
from planner.quantization.backends import BACKENDS
from planner.quantization.refuse import refusals

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
    and all is as it was when something raises inside. Without it nothing is taken back. Raises PlanError with
    nothing changed.
    """
    todo = [(rule, part) for rule, part in _to_do(plan, pipe, device) if rule.backend in later]
    tied: MutableMapping[torch.Tensor, torch.nn.Parameter] = WeakTensorKeyDictionary()
    with ExitStack() as failing:
        for _, part in todo:
            where = next(part.parameters()).device
            if where.type != "cpu":
                failing.callback(part.to, where)
                part.to("cpu")
        undo = failing.enter_context(ExitStack())
        with torch.inference_mode(False), torch.no_grad():
            for rule, part in todo:
                swap = _Swap(part)
                if rule.backend == "torchao":
                    _torchao(part, rule, device)
                else:
                    _cast(part, rule, tied)
                if keep:
                    undo.callback(swap.done(part))
        yield undo
        failing.pop_all()


def same_rules(a: Plan, b: Plan) -> bool:
    """Whether two plans quantize alike, wherever their rules stand."""
    span = next((rule.span for rule in (*a.quantization, *b.quantization)), None)
    mine, other = ([replace(rule, span=span, spans={}) for rule in p.quantization] for p in (a, b))  # type: ignore[arg-type]
    return mine == other


def _to_do(plan: Plan, pipe: Any, device: torch.device) -> list[tuple[QuantizationRule, torch.nn.Module]]:
    """Every module that a rule takes and that is not quantized yet."""
    problems, todo = refusals(plan, device.type), []
    for name in dict.fromkeys(rule.component for rule in plan.quantization):
        module = pipe.components.get(name)
        if not isinstance(module, torch.nn.Module):
            continue
        modules = named(module)
        for taken in taken_of(plan, name, module):
            plain = [part for n in sorted(taken.names) if quantization_of(part := modules[n]) is None]
            problems += [*compare(taken, modules), *_computes(taken.rule, plain)]
            todo += [(taken.rule, part) for part in plain]
    if problems:
        raise PlanError(problems, plan.document.sources)
    return todo


def _computes(rule: QuantizationRule, parts: list[torch.nn.Module]) -> Iterator[Diagnostic]:
    """A layer that is cast computes in the dtype that its inputs have: the one that it was loaded in."""
    asked = rule.options.get("compute_dtype") if rule.backend == "layerwise_cast" else None
    dtypes = {str(part.get_parameter("weight").dtype).removeprefix("torch.") for part in parts}
    if asked is not None and (others := sorted(dtypes - {asked})):
        said = f'"{rule.component}" is loaded in {others[0]}, and cannot compute in {asked}'
        hint = "pipeline.dtype says in which dtype it is loaded"
        yield finding(BAD_OPTION, said, span=rule.spans["compute_dtype"], hint=hint)


def _cast(
    part: torch.nn.Module, rule: QuantizationRule, tied: MutableMapping[torch.Tensor, torch.nn.Parameter]
) -> None:
    storage = getattr(torch, BACKENDS["layerwise_cast"].type_of(rule.options))
    for key, parameter in part._parameters.items():
        if parameter is not None and parameter.is_floating_point():
            if parameter not in tied:
                stored = Cast(parameter.to(storage), parameter.dtype)
                tied[parameter] = torch.nn.Parameter(stored, requires_grad=False)
            part._parameters[key] = tied[parameter]
    hooked: Any = part  # untyped
    hooked.register_state_dict_post_hook(Saved())


def _torchao(part: torch.nn.Module, rule: QuantizationRule, device: torch.device) -> None:
    from torchao import quantization as ao

    kinds: dict[str, Callable[..., Any]] = {
        "int8_weight_only": ao.Int8WeightOnlyConfig,
        "int4_weight_only": ao.Int4WeightOnlyConfig,
        "float8_weight_only": ao.Float8WeightOnlyConfig,
        "int8_dynamic": ao.Int8DynamicActivationInt8WeightConfig,
        "float8_dynamic": ao.Float8DynamicActivationFloat8WeightConfig,
    }
    kind = rule.options["type"]
    options = {key: value for key, value in rule.options.items() if key != "type"}
    # What torch.compile is set to is not a plan's to change.
    config = kinds[kind](**options, set_inductor_config=False)
    on = device if kind in ON_DEVICE else None
    try:
        ao.quantize_(part, config, lambda module, _: module is part, device=on)
    except Exception as error:
        line = " ".join(str(error).split()) or type(error).__name__
        said = f'"{rule.component}" by torchao {kind} does not go with this machine: {line}'
        raise PlanError([finding(PAIR_REFUSED, said, span=rule.span)]) from error
    finally:
        part.to("cpu")


@dataclass(frozen=True, slots=True)
class _Before:
    """A Parameter, what took its place, and how often that had been written to then."""

    old: torch.nn.Parameter
    new: torch.nn.Parameter
    changes: int

    def back(self) -> torch.nn.Parameter:
        """The Parameter from before; with its values of now, where they were written to or cast."""
        with torch.no_grad():
            if isinstance(self.new, Cast) and _changes(self.new) != self.changes:
                self.old.data = self.new.full()
            elif self.new.dtype != self.old.dtype:
                self.old.data = self.old.data.to(self.new.dtype)
        return self.old


class _Swap:
    """What a module was before it was quantized."""

    def __init__(self, part: torch.nn.Module) -> None:
        self._parameters = dict(part._parameters)
        self._shown = "extra_repr" in part.__dict__
        self._hooks = set(part._state_dict_hooks)

    def done(self, part: torch.nn.Module) -> Callable[[], None]:
        """What makes it so again. The module may be gone then, or its Parameters replaced since."""
        held = weakref.ref(part)
        made = {
            key: _Before(old, new, _changes(new))
            for key, old in self._parameters.items()
            if old is not None and (new := part._parameters[key]) is not None and new is not old
        }
        hooks = set(part._state_dict_hooks) - self._hooks

        def restore() -> None:
            if (part := held()) is None:
                return
            for key, before in made.items():
                if part._parameters.get(key) is before.new:
                    part._parameters[key] = before.back()
            for hook in hooks:
                part._state_dict_hooks.pop(hook, None)
            if not self._shown:
                part.__dict__.pop("extra_repr", None)

        return restore


def _changes(tensor: Any) -> int:
    return int(tensor.stored._version) if isinstance(tensor, Cast) else 0


class Saved:
    """State dict hook: a cast weight is saved as a plain tensor of its values."""

    def __call__(self, module: torch.nn.Module, state: dict[str, Any], prefix: str, _: Any) -> None:
        """As torch calls it."""
        for key in module._parameters:
            if isinstance(found := state.get(prefix + key), Cast):
                state[prefix + key] = found.full()

    def __reduce__(self) -> tuple[Any, ...]:
        return getattr, (nullcontext(), "__exit__")
