"""A document against the JSON Schema: every fault at the guilty key or value."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from functools import cache
from typing import Any

from jsonschema import Draft202012Validator
from jsonschema.exceptions import ValidationError
from jsonschema.validators import extend

from planner.diagnostics.diagnostic import Diagnostic
from planner.diagnostics.suggest import nearest
from planner.diagnostics.table import (
    p1_document,
    p2_schema,
    p3_plan,
    p3_quantization,
    p3_target,
    p4_graph,
    p6_schedule,
)
from planner.document.document import Document
from planner.document.language.plan import schema
from planner.document.requires import check_requires
from planner.document.wording import faults_as_findings, missing_key, pointer_of
from planner.source.shipped import shipped

NAME = "plan.v1.schema.json"

SEEN = tuple(
    code for code in p2_schema.CODES if code not in (p2_schema.OTHER_VERSION, p2_schema.UNKNOWN_PACKAGE)
)
"""Codes of faults of shape: the schema that ships rejects a file that has one of them."""

UNSEEN = (
    *p1_document.CODES,  # text that is no YAML of our kind, other files, --set
    *(p2_schema.OTHER_VERSION, p2_schema.UNKNOWN_PACKAGE),  # compares versions and knows names
    *p3_plan.CODES,  # what one part of a plan says of another, sums and shares
    *(*p3_target.CODES, *p3_quantization.CODES),  # what the pipeline and the backends have
    *p4_graph.CODES,  # rings
    *p6_schedule.CODES,  # bytes
)
"""Codes of what the language's own schema does not see: a file that has none of SEEN may have these. What
editors are given sees some of it (``planner.editor``)."""


def schema_text(name: str = NAME) -> str:
    """A schema as it ships: in the wheel beside this package, in a checkout at the top."""
    return (shipped("schemas") / name).read_text(encoding="utf-8")


def check_schema(document: Document) -> tuple[Diagnostic, ...]:
    """Everything about the document's shape that is wrong. ``requires`` is checked first, and alone.

    Each file that it was put together from is judged as it is written, and then the whole.
    """
    needed = tuple(check_requires(document))
    if needed:
        return needed
    found = [d for part in document.parts for d in check_part(part)]
    return tuple(dict.fromkeys([*found, *_found(document, _validator("whole"))]))


def check_part(part: Document) -> tuple[Diagnostic, ...]:
    """What is wrong with a file's shape where it lies on top of another, or below."""
    return tuple(_found(part, _validator("part")))


def _found(document: Document, validator: Any) -> Iterator[Diagnostic]:
    faults = sorted(validator.iter_errors(document.values), key=lambda e: list(map(str, e.absolute_path)))
    strange = {
        pointer_of(e): [key for key in e.instance if key not in e.schema["properties"]]
        for e in faults
        if e.validator == "additionalProperties" and isinstance(e.schema, dict)
    }
    for fault in faults:
        if not _explained(fault, strange.get(pointer_of(fault), ())):
            yield from faults_as_findings(document, fault)


def _explained(fault: ValidationError, strange: Sequence[str]) -> bool:
    """A key is missing because it is misspelt; or the value is no mapping, which is said already."""
    if fault.validator == "oneOf":
        if not isinstance(fault.instance, dict):
            return True
        wanted = [] if "runs" in fault.instance else ["runs", "stages"]
    elif fault.validator == "required":
        wanted = [missing_key(fault)]
    else:
        return False
    return any(nearest(key, wanted) for key in strange)


@cache
def _validator(kind: str) -> Any:
    """The schema with its choice made: what a base says is a part, whether or not it extends another."""
    checker: Any = extend(Draft202012Validator, {"pattern": _pattern})  # type: ignore[no-untyped-call]
    made = {key: rule for key, rule in schema().items() if key not in ("if", "then", "else")}
    return checker({**made, "$ref": f"#/$defs/{kind}"})


def _pattern(_: Any, pattern: str, value: Any, __: Any) -> Iterator[ValidationError]:
    """As JSON Schema means it (ECMA-262): ``$`` is the very end."""
    ends = pattern.removesuffix("$") + r"\Z" if pattern.endswith("$") else pattern
    if isinstance(value, str) and not re.search(ends, value):
        yield ValidationError(f"{value!r} does not match {pattern!r}")
