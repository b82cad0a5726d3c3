"""A fault of shape as a finding: what was found, what was expected, and what was probably meant."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from math import isfinite
from typing import Any

from jsonschema.exceptions import ValidationError

from planner.diagnostics.diagnostic import Code, Diagnostic, finding
from planner.diagnostics.suggest import nearest
from planner.diagnostics.table.p2_schema import (
    MISSING_KEY,
    NO_SUCH_DEVICE,
    NO_UNIT,
    ORDER_AND_STAGES,
    OVER_LIMIT,
    RUNS_OR_STAGES,
    UNKNOWN_KEY,
    WRONG_TYPE,
    WRONG_VALUE,
)
from planner.document.absent import absent
from planner.document.document import Document
from planner.document.mends import meant, reshaped
from planner.document.node import escaped
from planner.document.sizes import size_hint, unit_hint
from planner.source.limits import LISTED, NAME
from planner.version import VERSION

TOOL = "offload-planner"

_MERGE = "YAML 1.2 has no merge keys: a plan takes another's keys with extends"
_KINDS = {
    "string": "text",
    "object": "a mapping",
    "array": "a list",
    "integer": "a whole number",
    "number": "a number",
    "boolean": "true or false",
}
LOOKS = {
    "size": "a size with its unit, such as 11GiB or 80%",
    "bytes": "a size with its unit, such as 16GiB",
    "name": f"a name of up to {NAME.most} characters, without / and \\",
    "id": "letters, digits, _, - and .",
    "use": "a component or an entry point, such as unet or vae.encode",
    "loop": "a number, steps, or a share such as 12.5%",
    "device": "auto, cuda, cuda:1, xpu:0 or mps",
}


def faults_as_findings(document: Document, fault: ValidationError) -> Iterator[Diagnostic]:
    """What one fault says, at the guilty key or value; each unknown key is a finding of its own."""
    pointer = pointer_of(fault)
    span = document.spans.get(pointer)
    shown = _shown(fault.instance)
    rule: Any = fault.validator_value
    schema: Any = fault.schema
    instance: Any = fault.instance
    title = schema.get("title", "") if isinstance(schema, dict) else ""
    if fault.validator == "additionalProperties":
        known = schema["properties"]
        keys = [key for key in instance if key not in known]
        for key in keys[: LISTED.most]:
            hint = absent(list(fault.absolute_path), key, instance[key])
            unknown = _unknown(document, f"{pointer}/{escaped(key)}", key, pointer, known)
            yield replace(unknown, hint=hint) if hint else unknown
        if len(keys) > LISTED.most:
            more = f"{len(keys) - LISTED.most} more keys are unknown: this is not a plan"
            yield finding(UNKNOWN_KEY, more, span=span, pointer=pointer)
        return
    if "propertyNames" in fault.absolute_schema_path:
        span = document.key_spans.get(f"{pointer}/{escaped(str(fault.instance))}", span)
    if fault.validator == "pattern" and title == "argument":
        said = f"{shown} is no argument of a call"
        yield finding(WRONG_VALUE, said, span=span, pointer=pointer, hint="quote text that has a comma in it")
        return
    code, message, hint = _said(fault, title, shown, rule)
    hint = absent(list(fault.absolute_path), "", instance) or hint
    yield finding(code, message, span=span, pointer=pointer, hint=hint)


def _said(fault: ValidationError, title: str, shown: str, rule: Any) -> tuple[Code, str, str]:
    value: Any = fault.instance
    where = f'"{_label(list(fault.absolute_path))}" ' if fault.absolute_path else ""
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if title in ("size", "bytes") and (number or _is_number(value)):
        return NO_UNIT, f"{shown} has no unit", size_hint(float(value), share=title == "size")
    if title == "device":
        return (
            NO_SUCH_DEVICE,
            f"{shown} is no device for a plan: expected {LOOKS[title]}",
            _device_hint(value),
        )
    match fault.validator:
        case "required":
            return MISSING_KEY, f'{where or "the plan "}has no "{missing_key(fault)}"', ""
        case "not":
            return ORDER_AND_STAGES, "the plan has both order and stages", ""
        case "oneOf":
            both = "both runs and stages" if "runs" in value else "neither runs nor stages"
            return RUNS_OR_STAGES, f"the stage has {both}", ""
        case "type":
            names = [rule] if isinstance(rule, str) else rule
            kinds = " or ".join(_KINDS[kind] for kind in names if kind in _KINDS)
            if isinstance(value, float) and not isfinite(value):
                kinds = kinds.replace("a number", "a finite number")
            said = f"{where}expects {kinds}, found {_kind(value)}{shown.removeprefix('a mapping')}".rstrip()
            shape = fault.schema if isinstance(fault.schema, dict) else {}
            return WRONG_TYPE, said, reshaped(where.strip(' "'), value, shape)
        case "enum" | "const":
            allowed = [rule] if fault.validator == "const" else [one for one in rule if one is not None]
            listed = ", ".join(_shown(a).strip('"') for a in allowed)
            near = (
                nearest(value, [a for a in allowed if isinstance(a, str)]) if isinstance(value, str) else None
            )
            hint = f'did you mean "{near}"?' if near else ""
            if title == "version" and number and value > allowed[0]:
                hint = f"the plan is for a newer {TOOL}: this is {VERSION}"
            return WRONG_VALUE, f"{where}may not be {shown}: expected {listed}", hint
        case "pattern":
            hint = unit_hint(value) if title in ("size", "bytes") else ""
            return (
                WRONG_VALUE,
                f"{where}may not be {shown}: expected {LOOKS.get(title, 'another form')}",
                hint,
            )
        case "minItems" | "minLength":
            return WRONG_VALUE, f"{where}is empty", ""
        case "maxItems" | "maxProperties":
            return OVER_LIMIT, f"{where}has {len(value):,} entries: at most {rule:,}", ""
        case "maxLength":
            return OVER_LIMIT, f"{where}has {len(value):,} characters: at most {rule:,}", ""
        case "maximum":
            return OVER_LIMIT, f"{where}is {shown}: at most {rule:,}", ""
        case "minimum":
            return WRONG_VALUE, f"{where}is {shown}: at least {rule}", ""
    return WRONG_VALUE, f"{where}may not be {shown}", ""


def _unknown(document: Document, pointer: str, key: str, parent: str, known: Any) -> Diagnostic:
    path = [int(part) if part.isdecimal() else part for part in parent.split("/")[1:]]
    where = f' under "{_label(path)}"' if parent else ""
    return finding(
        UNKNOWN_KEY,
        f'no key "{key}"{where} in {TOOL} {VERSION}',
        span=document.key_spans.get(pointer),
        pointer=pointer,
        hint=_MERGE if key == "<<" else meant(path, key, known),
    )


def missing_key(fault: ValidationError) -> str:
    """The library reports each missing key by itself, and names it only in its message."""
    keys: list[str] = fault.validator_value  # type: ignore[assignment]
    return next(key for key in keys if fault.message.startswith(repr(key)))


def pointer_of(fault: ValidationError) -> str:
    """The JSON pointer of the guilty value."""
    return "".join(f"/{escaped(str(part))}" for part in fault.absolute_path)


def _label(path: list[str | int]) -> str:
    """What a value is called: its key, or ``stages[0]`` for a place in a list."""
    key = next((part for part in reversed(path) if isinstance(part, str)), "")
    after = path[len(path) - path[::-1].index(key) :] if key else path
    return key + "".join(f"[{part}]" for part in after)


def _is_number(value: Any) -> bool:
    return isinstance(value, str) and value.strip().replace(".", "", 1).isdecimal()


def _device_hint(value: Any) -> str:
    kind = value.partition(":")[0].lower() if isinstance(value, str) else ""
    if kind == "cpu":
        return "to try a plan without an accelerator: plan apply FILE --simulate"
    if kind.startswith(("gpu", "nvidia", "rocm", "hip")):
        return "torch calls it cuda, on AMD too"
    near = nearest(kind, ("auto", "cuda", "xpu", "mps", "npu"))
    return f'did you mean "{near}"?' if near else ""


def _kind(value: Any) -> str:
    if value is None:
        return ""
    names = {bool: "", str: "text ", dict: "a mapping", list: "a list "}
    return names.get(type(value), "a number ")


def _shown(value: Any) -> str:
    if isinstance(value, dict):
        return "a mapping"
    if value is None:
        return "nothing"
    text = json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= 60 else text[:57] + "..."
