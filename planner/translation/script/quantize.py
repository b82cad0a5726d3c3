"""Quantization configurations of diffusers (0.42.1) and transformers as rules of a plan."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from planner.source.text import Span
from planner.translation.script.sheet import Sheet
from planner.translation.script.values import (
    Act,
    Known,
    Made,
    NotKnown,
    Pairs,
    Value,
    names_of,
    plain,
    texts,
    words,
)
from planner.translation.tools.kinds import shown
from planner.translation.tools.parts import modules

FLOATS = ("bfloat16", "float16", "float32")
_TORCHAO = {
    "int8_weight_only": ("int8_weight_only", "int8wo", "Int8WeightOnlyConfig"),
    "int4_weight_only": ("int4_weight_only", "int4wo", "Int4WeightOnlyConfig"),
    "float8_weight_only": ("float8_weight_only", "float8wo", "float8wo_e4m3", "Float8WeightOnlyConfig"),
    "int8_dynamic": (
        *("int8_dynamic_activation_int8_weight", "int8dq", "Int8DynamicActivationInt8WeightConfig"),
    ),
    "float8_dynamic": (
        *("float8_dynamic_activation_float8_weight", "float8dq", "float8dq_e4m3"),
        *("Float8DynamicActivationFloat8WeightConfig",),
    ),
}
_BACKENDS = {
    "BitsAndBytesConfig": "bitsandbytes",
    "DiffusersBitsAndBytesConfig": "bitsandbytes",
    "TransformersBitsAndBytesConfig": "bitsandbytes",
    "TorchAoConfig": "torchao",
    "QuantoConfig": "quanto",
    "GGUFQuantizationConfig": "gguf",
}
_CAST = ("storage_dtype", "compute_dtype", "skip_modules_pattern", "skip_modules_classes", "non_blocking")
_WHOLE = {"bitsandbytes_4bit": "bitsandbytes", "bitsandbytes_8bit": "bitsandbytes"}
_BITSANDBYTES = ("load_in_4bit", "load_in_8bit", "bnb_4bit_quant_type", "bnb_4bit_compute_dtype")
_READ = {
    "bitsandbytes": (
        *_BITSANDBYTES,
        *("bnb_4bit_use_double_quant", "llm_int8_threshold", "llm_int8_skip_modules"),
    ),
    "torchao": ("quant_type", "modules_to_not_convert", "group_size"),
    "quanto": ("weights_dtype", "modules_to_not_convert"),
    "gguf": ("compute_dtype",),
}
_FIRST = {"torchao": "quant_type", "quanto": "weights_dtype", "bitsandbytes": "load_in_8bit"}


def is_config(name: str) -> bool:
    """Whether a call makes a quantization configuration, one that is known here or another."""
    return name in _BACKENDS or name == "PipelineQuantizationConfig" or name.endswith("QuantizationConfig")


def quantized(component: str, config: Value, span: Span, sheet: Sheet) -> None:
    """The rule for ``quantization_config=`` of one component."""
    rule = _rule(config, span, sheet) if sheet.has(component, span) else None
    if rule is not None:
        sheet.rules.append({"component": component, **rule})
        sheet.keep(f'"{component}" is quantized: a rule for {rule["backend"]}', span)


def pipeline_quantized(config: Value, span: Span, sheet: Sheet) -> None:
    """The rules for ``quantization_config=PipelineQuantizationConfig(...)``."""
    if not (isinstance(config, Made) and config.name == "PipelineQuantizationConfig"):
        sheet.lose(f"what {words(config)} quantizes is not known here", span, "write the configuration out")
        return
    given = _arguments(
        config.act, ("quant_backend", "quant_kwargs", "components_to_quantize", "quant_mapping")
    )
    mapping = given.get("quant_mapping")
    if isinstance(mapping, Pairs):
        for key, inner in mapping.items:
            quantized(str(plain(key)) if isinstance(key, Known) else words(key), inner, span, sheet)
        return
    try:
        backend = str(plain(given.get("quant_backend", Known(""))))
        options = plain(given.get("quant_kwargs", Pairs(())))
        named = names_of(given.get("components_to_quantize", Known(None)))
    except NotKnown as error:
        sheet.lose(f"the value of {shown(str(error))} is not known here: not quantized", span)
        return
    rule = _of(_WHOLE.get(backend, backend), options, span, sheet) if isinstance(options, Mapping) else None
    components = named or modules(sheet.target)
    for name in components if rule is not None else ():
        if sheet.has(name, span):
            sheet.rules.append({"component": name, **(rule or {})})
    if rule is not None:
        sheet.keep(f"{', '.join(components)}: rules for {rule['backend']}", span)


def cast(component: str, act: Act, sheet: Sheet, first: int = 0) -> None:
    """``enable_layerwise_casting`` of a component, or ``apply_layerwise_casting`` on it."""
    values = dict(zip(_CAST, act.args[first:], strict=False)) | dict(act.keywords)
    rule: dict[str, Any] = {"component": component, "backend": "layerwise_cast"}
    try:
        for key in _CAST[:2]:
            if (made := plain(values.get(key, Known(None)))) is not None:
                rule[key] = made
        skip = names_of(values.get("skip_modules_pattern", Known("auto")))
    except NotKnown as error:
        sheet.lose(f"the value of {shown(str(error))} is not known here: not cast", act.span)
        return
    if rule.get("storage_dtype", "float8_e4m3fn") not in ("float8_e4m3fn", "float8_e5m2"):
        sheet.lose(f"a plan casts to float8, not to {shown(rule['storage_dtype'])}", act.span)
        return
    if rule.get("compute_dtype", "bfloat16") not in FLOATS:
        said = f"compute_dtype is {shown(rule['compute_dtype'])}, a plan knows {', '.join(FLOATS)}"
        sheet.lose(said, act.span)
        return
    if skip and skip != ["auto"]:
        rule["skip"] = skip
    if "skip_modules_classes" in values:
        sheet.lose(
            f"skip_modules_classes of {words(values['skip_modules_classes'])}: a rule skips names of modules",
            act.places.get("skip_modules_classes", act.span),
        )
    sheet.rules.append(rule)
    sheet.keep(f'"{component}" is kept as float8: a rule for layerwise_cast', act.span)


def _rule(config: Value, span: Span, sheet: Sheet) -> dict[str, Any] | None:
    if not isinstance(config, Made) or config.name not in _BACKENDS:
        name = config.name if isinstance(config, Made) else ""
        said = f"a plan has no backend for {name}" if name else f"what {words(config)} is is not known here"
        sheet.lose(f"{said}: not quantized", span)
        return None
    backend = _BACKENDS[config.name]
    first = _FIRST.get(backend)
    given = _arguments(config.act, (first,) if first else ())
    options = {}
    for key, value in given.items():
        try:
            options[key] = _type_of(value) if key == "quant_type" else plain(value)
        except NotKnown as error:
            sheet.lose(
                f"the value of {shown(str(error))} is not known here: left out of the rule",
                config.act.places.get(key, config.act.span),
            )
    if isinstance(made := given.get("quant_type"), Made):
        size = made.act.keywords.get("group_size")
        options |= {"group_size": size.value} if isinstance(size, Known) else {}
        for key in made.act.keywords:
            if key != "group_size":
                sheet.lose(f"{made.name} with {key}: a rule has no such option", made.act.places[key])
    return _of(backend, options, config.act.span, sheet)


def _of(backend: str, given: Mapping[str, Any], span: Span, sheet: Sheet) -> dict[str, Any] | None:
    rule: dict[str, Any] = {"backend": backend}
    match backend:
        case "bitsandbytes":
            rule |= _bitsandbytes(given)
        case "torchao":
            kind = given.get("quant_type")
            known = next((name for name, spelled in _TORCHAO.items() if kind in spelled), None)
            if known is None:
                sheet.lose(f"a plan has no torchao format {shown(kind)}: not quantized", span)
                return None
            rule["type"] = known
            if known == "int4_weight_only" and isinstance(given.get("group_size"), int):
                rule["group_size"] = given["group_size"]
        case "quanto":
            kind = given.get("weights_dtype", "int8")
            if kind not in ("int8", "float8", "int4", "int2"):
                sheet.lose(f"a plan has no quanto format {shown(kind)}: not quantized", span)
                return None
            rule["type"] = kind
        case "gguf":
            if given.get("compute_dtype") in FLOATS:
                rule["compute_dtype"] = given["compute_dtype"]
        case _:
            sheet.lose(f"a plan has no backend {shown(backend)}: not quantized", span)
            return None
    skip = given.get("modules_to_not_convert") or given.get("llm_int8_skip_modules")
    if skip and (listed := texts(skip)) is not None:
        rule["skip"] = [re.escape(name).replace(r"\_", "_") for name in listed]
    elif skip:
        sheet.lose(f"what {shown(skip)} leaves out is not known here: not in the rule", span)
    for key in given:
        if key not in _READ[backend]:
            sheet.lose(f"{key} of {backend}: a rule has no such option", span)
    return rule


def _bitsandbytes(given: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """``fp4`` is what bitsandbytes takes for 4 bits that are not named (transformers 5.23)."""
    if not given.get("load_in_4bit"):
        yield "type", "int8"
        if isinstance(threshold := given.get("llm_int8_threshold"), (int, float)):
            yield "threshold", float(threshold)
        return
    kind = given.get("bnb_4bit_quant_type", "fp4")
    yield "type", kind if kind in ("nf4", "fp4") else "fp4"
    if given.get("bnb_4bit_compute_dtype") in FLOATS:
        yield "compute_dtype", given["bnb_4bit_compute_dtype"]
    if given.get("bnb_4bit_use_double_quant") is True:
        yield "double_quant", True


def _type_of(value: Value) -> Any:
    return value.name if isinstance(value, Made) else plain(value)


def _arguments(act: Act, names: tuple[str, ...]) -> dict[str, Value]:
    return dict(zip(names, act.args, strict=False)) | dict(act.keywords)
