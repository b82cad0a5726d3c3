"""A document against the JSON Schema: every fault at the guilty key or value."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from difflib import get_close_matches
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any

from jsonschema import Draft202012Validator
from jsonschema.exceptions import ValidationError
from jsonschema.validators import extend
from packaging.specifiers import InvalidSpecifier, SpecifierSet

from planner.diagnostics.diagnostic import Code, Diagnostic, finding
from planner.diagnostics.suggest import did_you_mean, nearest
from planner.diagnostics.table.p2_schema import (
    MISSING_KEY,
    NO_SUCH_DEVICE,
    NO_UNIT,
    ORDER_AND_STAGES,
    OTHER_VERSION,
    RUNS_OR_STAGES,
    UNKNOWN_KEY,
    WRONG_TYPE,
    WRONG_VALUE,
)
from planner.document.document import Document
from planner.document.node import escaped
from planner.version import VERSION

TOOL = "offload-planner"
SELF = (TOOL, "planner")
"""What ``requires`` may call this tool: the distribution, or what Python imports."""
PACKAGES = (
    *SELF,
    *("accelerate", "bitsandbytes", "diffusers", "gguf", "optimum-quanto", "peft", "safetensors"),
    *("tokenizers", "torch", "torchao", "transformers"),
)
"""Packages that a plan may require, to tell a slip of the pen from a package that we do not know."""
NAME = "plan.v1.schema.json"
MANY = 20
"""Unknown keys of one mapping that are listed: a file with more is not a plan."""

_MERGE = "YAML 1.2 has no merge keys: a plan takes another's keys with extends"
_KINDS = {
    "string": "text",
    "object": "a mapping",
    "array": "a list",
    "integer": "a whole number",
    "number": "a number",
    "boolean": "true or false",
    "null": "nothing",
}
_LOOKS = {
    "size": "a size with its unit, such as 11GiB or 80%",
    "bytes": "a size with its unit, such as 16GiB",
    "name": "a name of up to 100 characters, without / and \\",
    "id": "letters, digits, _, - and .",
    "use": "a component or an entry point, such as unet or vae.encode",
    "loop": "a number, steps, or a share such as 12.5%",
    "device": "auto, cuda, cuda:1, xpu:0 or mps",
}


def schema_text(name: str = NAME) -> str:
    """A schema as it ships: in the wheel beside this package, in a checkout at the top."""
    packaged = resources.files("planner") / "schemas" / name
    if packaged.is_file():
        return packaged.read_text(encoding="utf-8")
    return (Path(__file__).parents[2] / "schemas" / name).read_text(encoding="utf-8")


def check_schema(document: Document) -> tuple[Diagnostic, ...]:
    """Everything about the document's shape that is wrong. ``requires`` is checked first, and alone."""
    needed = tuple(_requires(document))
    if needed:
        return needed
    faults = sorted(_validator().iter_errors(document.values), key=lambda e: list(map(str, e.absolute_path)))
    strange = {
        _pointer(e): [key for key in e.instance if key not in e.schema["properties"]]
        for e in faults
        if e.validator == "additionalProperties" and isinstance(e.schema, dict)
    }
    return tuple(
        problem
        for fault in faults
        if not _explained(fault, strange.get(_pointer(fault), ()))
        for problem in _problems(document, fault)
    )


def _explained(fault: ValidationError, strange: Sequence[str]) -> bool:
    """A key is missing because it is misspelt; or the value is no mapping, which is said already."""
    if fault.validator == "oneOf":
        if not isinstance(fault.instance, dict):
            return True
        wanted = [] if "runs" in fault.instance else ["runs", "stages"]
    elif fault.validator == "required":
        wanted = [_missing(fault)]
    else:
        return False
    return any(nearest(key, wanted) for key in strange)


@cache
def _validator() -> Any:
    checker: Any = extend(Draft202012Validator, {"pattern": _pattern})  # type: ignore[no-untyped-call]
    return checker(json.loads(schema_text()))


def _pattern(_: Any, pattern: str, value: Any, __: Any) -> Iterator[ValidationError]:
    """As JSON Schema means it (ECMA-262): ``$`` is the very end, ``\\d`` and ``\\w`` are ASCII."""
    ends = pattern.removesuffix("$") + r"\Z" if pattern.endswith("$") else pattern
    if isinstance(value, str) and not re.search(ends, value, re.ASCII):
        yield ValidationError(f"{value!r} does not match {pattern!r}")


def _requires(document: Document) -> Iterator[Diagnostic]:
    said = document.values.get("requires")
    if not isinstance(said, dict):
        return
    for package, text in said.items():
        pointer = f"/requires/{escaped(package)}"
        # A misspelt package would require nothing. Far names stay: any package may be required.
        if package not in PACKAGES and (near := get_close_matches(package, PACKAGES, n=1, cutoff=0.85)):
            yield finding(
                UNKNOWN_KEY,
                f'no package "{package}" is known',
                span=document.key_spans[pointer],
                pointer=pointer,
                hint=f'did you mean "{near[0]}"?',
            )
        if not isinstance(text, str):
            continue
        span = document.spans[pointer]
        try:
            wanted = SpecifierSet(text)
        except InvalidSpecifier:
            hint = "write it as pip does: '>=0.40,<1'"
            yield finding(
                OTHER_VERSION, f'"{text}" is no version specifier', span=span, pointer=pointer, hint=hint
            )
            continue
        if package in SELF and not wanted.contains(VERSION, prereleases=True):
            yield finding(
                OTHER_VERSION,
                f"the plan asks for {package} {text}, this is {VERSION}",
                span=span,
                pointer=pointer,
            )


def _problems(document: Document, fault: ValidationError) -> Iterator[Diagnostic]:
    pointer = _pointer(fault)
    span = document.spans.get(pointer)
    shown = _shown(fault.instance)
    rule: Any = fault.validator_value
    schema: Any = fault.schema
    instance: Any = fault.instance
    title = schema.get("title", "") if isinstance(schema, dict) else ""
    if fault.validator == "additionalProperties":
        known = schema["properties"]
        keys = [key for key in instance if key not in known]
        for key in keys[:MANY]:
            yield _unknown(document, f"{pointer}/{escaped(key)}", key, pointer, known)
        if len(keys) > MANY:
            more = f"{len(keys) - MANY} more keys are unknown: this is not a plan"
            yield finding(UNKNOWN_KEY, more, span=span, pointer=pointer)
        return
    if "propertyNames" in fault.absolute_schema_path:
        span = document.key_spans.get(f"{pointer}/{escaped(str(fault.instance))}", span)
    if fault.validator == "pattern" and title == "argument":
        said = f"{shown} is no argument of a call"
        yield finding(WRONG_VALUE, said, span=span, pointer=pointer, hint="quote text that has a comma in it")
        return
    code, message, hint = _said(fault, title, shown, rule)
    yield finding(code, message, span=span, pointer=pointer, hint=hint)


def _said(fault: ValidationError, title: str, shown: str, rule: Any) -> tuple[Code, str, str]:
    value: Any = fault.instance
    where = f'"{_label(list(fault.absolute_path))}" ' if fault.absolute_path else ""
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if title in ("size", "bytes") and (number or _is_number(value)):
        return NO_UNIT, f"{shown} has no unit", f"did you mean {value}GiB?"
    if title == "device":
        return (
            NO_SUCH_DEVICE,
            f"{shown} is no device for a plan: expected {_LOOKS[title]}",
            _device_hint(value),
        )
    match fault.validator:
        case "required":
            return MISSING_KEY, f'{where or "the plan "}has no "{_missing(fault)}"', ""
        case "not":
            return ORDER_AND_STAGES, "the plan has both order and stages", ""
        case "oneOf":
            both = "both runs and stages" if "runs" in value else "neither runs nor stages"
            return RUNS_OR_STAGES, f"the stage has {both}", ""
        case "type":
            kinds = " or ".join(_KINDS[kind] for kind in ([rule] if isinstance(rule, str) else rule))
            return (
                WRONG_TYPE,
                f"{where}expects {kinds}, found {' '.join(filter(None, (_kind(value), shown)))}",
                "",
            )
        case "enum" | "const":
            allowed = [rule] if fault.validator == "const" else list(rule)
            listed = ", ".join(_shown(a).strip('"') for a in allowed)
            near = (
                nearest(value, [a for a in allowed if isinstance(a, str)]) if isinstance(value, str) else None
            )
            hint = f'did you mean "{near}"?' if near else ""
            if title == "version" and number and value > rule:
                hint = f"the plan is for a newer {TOOL}: this is {VERSION}"
            return WRONG_VALUE, f"{where}may not be {shown}: expected {listed}", hint
        case "pattern":
            hint = _unit_hint(value) if title in ("size", "bytes") else ""
            return (
                WRONG_VALUE,
                f"{where}may not be {shown}: expected {_LOOKS.get(title, 'another form')}",
                hint,
            )
        case "minItems" | "minLength":
            return WRONG_VALUE, f"{where}is empty", ""
        case "minimum" | "maximum":
            least = fault.validator == "minimum"
            return WRONG_VALUE, f"{where}is {shown}: at {'least' if least else 'most'} {rule}", ""
    return WRONG_VALUE, f"{where}may not be {shown}", ""


def _unknown(document: Document, pointer: str, key: str, parent: str, known: Any) -> Diagnostic:
    path = [int(part) if part.isdecimal() else part for part in parent.split("/")[1:]]
    where = f' under "{_label(path)}"' if parent else ""
    return finding(
        UNKNOWN_KEY,
        f'no key "{key}"{where} in {TOOL} {VERSION}',
        span=document.key_spans.get(pointer),
        pointer=pointer,
        hint=_MERGE if key == "<<" else did_you_mean(key, known),
    )


def _missing(fault: ValidationError) -> str:
    """The library reports each missing key by itself, and names it only in its message."""
    keys: list[str] = fault.validator_value  # type: ignore[assignment]
    return next(key for key in keys if fault.message.startswith(repr(key)))


def _pointer(fault: ValidationError) -> str:
    return "".join(f"/{escaped(str(part))}" for part in fault.absolute_path)


def _label(path: list[str | int]) -> str:
    """What a value is called: its key, or ``stages[0]`` for a place in a list."""
    key = next((part for part in reversed(path) if isinstance(part, str)), "")
    after = path[len(path) - path[::-1].index(key) :] if key else path
    return key + "".join(f"[{part}]" for part in after)


def _is_number(value: Any) -> bool:
    return isinstance(value, str) and value.strip().replace(".", "", 1).isdecimal()


def _unit_hint(value: str) -> str:
    """``11gb`` and ``11G`` as they were probably meant."""
    said = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([kmg]?)(i?)(b?)\s*", value, re.ASCII | re.IGNORECASE)
    if said is None:
        return ""
    number, power, binary, byte = said.groups()
    return f"did you mean {number}{power.upper()}{'i' if power and (binary or not byte) else ''}B?"


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
    names = {bool: "", str: "text", dict: "a mapping", list: "a list"}
    return names.get(type(value), "a number")


def _shown(value: Any) -> str:
    if isinstance(value, dict):
        return ""
    if value is None:
        return "nothing"
    text = json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= 60 else text[:57] + "..."
