"""Quantization rules before any weight is read: checked on the model that its config makes, and turned into
what makes diffusers and transformers quantize exactly the modules that they take.

Both libraries choose by lists of names to skip, and read those too widely (diffusers 0.42.1, quantizers/*):
diffusers' quanto compares the last part of a name, and so does its bitsandbytes, where a skipped ``proj_out``
of the model is every block's too. So nothing is skipped by name: while a quantizer replaces layers, it sees
only those that the rules take. torchao needs no quantizer: it is done to loaded modules, one after another.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from planner.diagnostics.diagnostic import Diagnostic, PlanError, finding
from planner.diagnostics.table.p3_quantization import PAIR_REFUSED, RULE_NOT_CHECKED
from planner.diagnostics.table.p7_session import NO_ACCELERATOR, QUANTIZED_OTHERWISE
from planner.forms.formats import named, quantization_of, taken_of
from planner.forms.quantized import ON_DEVICE, quantized
from planner.plan.model import Plan, QuantizationRule
from planner.quantization.check import check_parts, rules_of
from planner.quantization.matrix import AXES
from planner.quantization.refuse import refusals
from planner.target.component import quantized_by
from planner.target.loaded import keeps_of
from planner.target.model import ComponentInfo, Target
from planner.target.parts import parts_of

QUANTIZERS = ("bitsandbytes", "quanto")
"""Backends that need one of diffusers or transformers while weights are read."""

_seen: ContextVar[frozenset[str] | None] = ContextVar("_seen", default=None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Ready:
    """How a component is quantized while its weights are read: the library's own configuration, the modules
    that are to be quantized, and the device that does it, None for the CPU."""

    config: Any
    names: frozenset[str]
    device: str | None


def prepare(plan: Plan, models: Mapping[str, Any], device_type: str | None) -> dict[str, Ready]:
    """The components that a quantizer is needed for. ``models``: those with rules, built on the meta device;
    ``device_type``: of the device that the plan will be applied on, None for the one that is there.

    Raises PlanError with all rules that take nothing, all that do not go together, and what is missing here.
    """
    here = _accelerator(plan)
    problems = refusals(plan, device_type or (here and here.partition(":")[0]))
    problems = problems or [*_checked(plan, models)]
    wanted = {rule.component: rule for rule in plan.quantization if rule.backend in QUANTIZERS}
    for name, rule in wanted.items():
        if name not in models:
            said = (
                f'"{name}" by {rule.backend} does not go with a single file: its modules are not known before'
            )
            problems.append(finding(PAIR_REFUSED, said, span=rule.span, hint="a folder as its source"))
    for rule in plan.quantization if here is None else ():
        if rule.backend == "bitsandbytes" or rule.options.get("type") in ON_DEVICE:
            said = f"{rule.backend} {rule.options['type']} is made on an accelerator, and none was found"
            problems.append(finding(NO_ACCELERATOR, said, span=rule.span))
    if problems:
        raise PlanError(problems, plan.document.sources)
    return {name: _ready(plan, rule, models[name]) for name, rule in wanted.items()}


def built(kind: Any, place: Path | str, inside: str, revision: str | None = None) -> Any:
    """A model of class ``kind`` on the meta device, from its config."""
    from accelerate import init_empty_weights

    more = {"subfolder": inside, "revision": revision}
    more = {key: value for key, value in more.items() if value}
    if hasattr(kind, "config_class"):
        config = kind.config_class.from_pretrained(str(place), **more)
        with init_empty_weights():
            model = kind(config)
        model.tie_weights()  # loading does it in the end
        return model
    config = kind.load_config(str(place), **more)
    with init_empty_weights():
        return kind.from_config(config)


@contextmanager
def only(names: frozenset[str]) -> Iterator[None]:
    """Inside, quantizers that replace layers see those of ``names`` alone, in this thread."""
    from diffusers.quantizers.base import DiffusersQuantizer
    from transformers.quantizers.base import HfQuantizer

    before = [(cls, cls.preprocess_model) for cls in (DiffusersQuantizer, HfQuantizer)]
    token = _seen.set(names)
    try:
        for cls, method in before:
            cls.preprocess_model = _seeing(method)
        yield
    finally:
        _seen.reset(token)
        for cls, method in before:
            cls.preprocess_model = method


def finish(plan: Plan, pipe: Any, ready: Mapping[str, Ready]) -> None:
    """torchao's rules, done to a pipeline that was loaded; and what was quantized while it was loaded looked
    at: exactly what the rules take. Raises PlanError."""
    import torch

    with quantized(plan, pipe, torch.device(_accelerator(plan) or "cpu"), keep=False, later=("torchao",)):
        pass
    problems = []
    for name, how in ready.items():
        _unpack(pipe.components[name])
        others = {n for n, part in named(pipe.components[name]).items() if quantization_of(part)} - how.names
        others -= {n for taken in taken_of(plan, name, pipe.components[name]) for n in taken.names}
        if others:
            said = f'"{name}.{min(others)}" was quantized while it was loaded, and no rule takes it'
            problems.append(finding(QUANTIZED_OTHERWISE, said, span=rules_of(plan, name)[0].span))
    if problems:
        raise PlanError(problems, plan.document.sources)


def config_of(rule: QuantizationRule, dtype: str, *, diffusers: bool) -> Any:
    """The configuration that ``rule`` asks for, of diffusers or of transformers; ``dtype``: what it computes
    in where the rule does not say."""
    import torch

    if diffusers:
        import diffusers as library
    else:
        import transformers as library

    kind, options = rule.options["type"], rule.options
    if rule.backend == "quanto":
        # A list that is there, if empty: transformers has skips of its own where there is none.
        weights = {"weights_dtype": kind} if diffusers else {"weights": kind, "modules_to_not_convert": []}
        return library.QuantoConfig(**weights)
    skips: dict[str, Any] = {"llm_int8_skip_modules": None if diffusers else []}
    if kind == "int8":
        limit = {"llm_int8_threshold": float(options["threshold"])} if "threshold" in options else {}
        return library.BitsAndBytesConfig(load_in_8bit=True, **limit, **skips)
    return library.BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type=kind,
        bnb_4bit_compute_dtype=getattr(torch, options.get("compute_dtype", dtype)),
        bnb_4bit_use_double_quant=options.get("double_quant", False),
        **skips,
    )


def _config(model: Any) -> dict[str, Any]:
    """A model's own config.json, of diffusers (a dict) or of transformers (attributes)."""
    config = getattr(model, "config", None)
    return dict(config) if isinstance(config, Mapping) else dict(vars(config) if config is not None else {})


def _checked(plan: Plan, models: Mapping[str, Any]) -> Iterator[Diagnostic]:
    """The rules, exactly: on every module of the models that will be loaded."""
    infos = {
        name: ComponentInfo(
            name=name,
            classes=(type(model).__name__,),
            module=True,
            parts=tuple(parts_of(model)),
            keeps=keeps_of(model),
            quantized=quantized_by(_config(model)),
        )
        for name, model in models.items()
    }
    target = Target(
        cls=plan.pipeline.cls,
        components=infos,
        sequence=None,
        excluded=(),
        walk=None,
        version="",
        origin="loaded",
    )
    yield from (d for d in check_parts(plan, target) if d.code is not RULE_NOT_CHECKED)


def _ready(plan: Plan, rule: QuantizationRule, model: Any) -> Ready:
    taken = [t for t in taken_of(plan, rule.component, model) if t.rule.backend in QUANTIZERS]
    ours = type(model).__module__.startswith("diffusers.")
    return Ready(
        config=config_of(rule, plan.pipeline.dtype or "float32", diffusers=ours),
        names=frozenset().union(*(t.names for t in taken)),
        device=_accelerator(plan) if rule.backend == "bitsandbytes" else None,
    )


def _unpack(model: Any) -> None:
    """quanto (0.2.7, tensor/weights/qbits.py) packs int4 for the kernels of the device that it lies on; what
    leaves this CPU must be packed for none."""
    import torch

    with torch.no_grad():
        for part in model.modules():
            weight: Any = part._parameters.get("weight")
            if type(weight).__name__ == "TinyGemmWeightQBitsTensor":
                part._parameters["weight"] = torch.nn.Parameter(weight.weight_qbits_tensor(), False)


def _accelerator(plan: Plan) -> str | None:
    """The real one that the plan is for, where it is there. torch.accelerator names the virtual one first."""
    import torch

    there = [kind for kind in AXES["device"] if kind != "sim" and getattr(torch, kind).is_available()]
    if plan.device == "auto":
        return f"{there[0]}:0" if there else None
    return plan.device if plan.device.partition(":")[0] in there else None


def _seeing(preprocess: Any) -> Any:
    """``preprocess_model`` of a quantizer, with the layers that it must not replace out of its sight."""

    def call(self: Any, model: Any, **kwargs: Any) -> Any:
        names = _seen.get()
        if names is None:
            return preprocess(self, model, **kwargs)
        hidden = _hide(model, names)
        try:
            return preprocess(self, model, **kwargs)
        finally:
            for parent, key, part in hidden:
                parent._modules[key] = part

    return call


def _hide(model: Any, names: frozenset[str]) -> list[tuple[Any, str, Any]]:
    import torch

    parts = named(model)
    hidden = []
    for name, part in parts.items():
        if isinstance(part, torch.nn.Linear) and name not in names:
            parent, _, key = name.rpartition(".")
            hidden.append((parts[parent], key, part))
            parts[parent]._modules[key] = torch.nn.Identity()
    return hidden
