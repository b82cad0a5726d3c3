"""A card's file to a CardData, or what is wrong with it, with line and column."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from jsonschema import Draft202012Validator, TypeChecker
from jsonschema.validators import extend

from planner.cards.data import HOSTS, CardData, Host, Link, Source
from planner.cards.kernels import Kernels
from planner.cards.rates import Table
from planner.cards.schema import KINDS, SHAPES, schema
from planner.diagnostics.diagnostic import Diagnostic, errors, finding
from planner.diagnostics.suggest import did_you_mean
from planner.diagnostics.table.p1_document import NOT_A_MAPPING
from planner.diagnostics.table.p2_schema import MISSING_KEY
from planner.diagnostics.table.p9_card import CARD_PATH, CARD_TABLE
from planner.document.document import Document, document_from
from planner.document.file import text_of
from planner.document.parse import parse
from planner.document.wording import faults_as_findings, missing_key
from planner.source.text import SourceText


def read_card(path: Path) -> tuple[CardData | None, list[Diagnostic], tuple[SourceText, ...]]:
    """The card in a file, what is wrong with it, and its text (for lines and carets)."""
    source, found = text_of(path, None)
    if source is None:
        return None, found, ()
    card, found = card_of(source)
    return card, found, (source,)


def card_of(source: SourceText) -> tuple[CardData | None, list[Diagnostic]]:
    """The card that a text says."""
    node, found = parse(source)
    if node is None or errors(found):
        return None, found
    if node.mapping is None:
        return None, [*found, finding(NOT_A_MAPPING, "a card is a mapping, and this is not", span=node.span)]
    document = document_from(node, (source,))
    found += _shape(document)
    if not errors(found):
        found += _tables(document)
        found += _paths(document)
    return (None if errors(found) else _made(document.values)), found


def _shape(document: Document) -> Iterator[Diagnostic]:
    types = Draft202012Validator.TYPE_CHECKER.redefine("number", _is_finite)
    checker: Any = extend(Draft202012Validator, type_checker=types)  # type: ignore[no-untyped-call]
    validator = checker(schema())
    faults = sorted(validator.iter_errors(document.values), key=lambda e: list(map(str, e.absolute_path)))
    for fault in faults:
        if fault.validator == "required" and not fault.absolute_path:
            said = f'the card has no "{missing_key(fault)}"'
            yield finding(MISSING_KEY, said, span=document.spans.get(""), pointer="")
        else:
            yield from faults_as_findings(document, fault)


def _is_finite(checker: TypeChecker, value: Any) -> bool:
    """A number that can be computed with: YAML has ``.inf`` and ``.nan``, too."""
    return (
        isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) <= sys.float_info.max
    )


def _tables(document: Document) -> Iterator[Diagnostic]:
    for way in ("to_device", "to_host"):
        for kind in ("pinned", "pageable"):
            yield from _rows(document, ("link", way, kind), {2: "bytes"})
    for kind, tables in document.values.get("rates", {}).items():
        widths = {2: "bytes" if kind in ("memory", "group_norm") else "FLOPs"}
        if kind in KINDS:
            widths[KINDS[kind] + 1] = SHAPES[kind]
        for dtype in tables:
            yield from _rows(document, ("rates", kind, dtype), widths)


def _rows(document: Document, path: tuple[str, ...], widths: Mapping[int, str]) -> Iterator[Diagnostic]:
    rows: Any = document.values
    for key in path:
        rows = rows[key]
    seen: set[tuple[float, ...]] = set()
    for i, row in enumerate(rows):
        pointer = "/" + "/".join(path) + f"/{i}"
        sizes = tuple(row[:-1])
        said = ""
        if len(row) not in widths:
            forms = " or ".join(f"{width} ({sizes}, rate)" for width, sizes in sorted(widths.items()))
            said = f"a row of {'.'.join(path)} has {forms} numbers, this one {len(row)}"
        elif len(row) != len(rows[0]):
            said = f"the first row has {len(rows[0])} numbers, this one {len(row)}"
        elif sizes in seen:
            said = f"the size {', '.join(f'{size:g}' for size in sizes)} stands above already"
        seen.add(sizes)
        if said:
            yield finding(CARD_TABLE, said, span=document.spans.get(pointer), pointer=pointer)


def _paths(document: Document) -> Iterator[Diagnostic]:
    known = {pointer[1:].replace("/", ".") for pointer in document.spans if pointer}
    seen: set[str] = set()
    for key in ("measured", "assumed"):
        for i, path in enumerate(document.values.get(key, ())):
            pointer = f"/{key}/{i}"
            span = document.spans.get(pointer)
            if path not in known:
                near = did_you_mean(path, [name for name in known if name.count(".") == path.count(".")])
                hint = near if near.startswith("did") else ""
                said = f'nothing stands at "{path}" in this file'
                yield finding(CARD_PATH, said, span=span, pointer=pointer, hint=hint)
            elif path in seen:
                said = f'"{path}" is listed twice'
                yield finding(CARD_PATH, said, span=span, pointer=pointer)
            seen.add(path)


def _made(said: Mapping[str, Any]) -> CardData:
    memory, link, kernels = said["memory"], said["link"], said["kernels"]
    sources: dict[str, Source] = {"": said["source"]}
    sources |= dict.fromkeys(said.get("measured", ()), "measured")
    sources |= dict.fromkeys(said.get("assumed", ()), "assumed")
    rates, host = said.get("rates", {}), said.get(HOSTS)
    return CardData(
        name=said["name"],
        aliases=tuple(said.get("aliases", ())),
        backend=said.get("backend", "cuda"),
        capability=said.get("capability", ""),
        sms=int(said["sms"]),
        total=int(memory["total"]),
        context=int(memory["context"]),
        registered=int(memory.get("registered", 0)),
        to_device=_link(link["to_device"]),
        to_host=_link(link["to_host"]),
        register=float(link["register"]),
        launch=float(said["launch"]),
        dispatch=float(said["dispatch"]),
        bandwidth=float(memory["bandwidth"]),
        peak={dtype: float(rate) for dtype, rate in said["peak"].items()},
        rates={
            kind: {dtype: _table(rows) for dtype, rows in tables.items()} for kind, tables in rates.items()
        },
        host=None if host is None else Host(read=float(host["read"]), pack=float(host["pack"])),
        kernels=Kernels(sms=int(said["sms"]), **kernels),
        versions=dict(said.get("versions", {})),
        sources=sources,
        notes=tuple(said.get("notes", ())),
    )


def _link(said: Mapping[str, Any]) -> Link:
    return Link(pinned=_table(said["pinned"]), pageable=_table(said["pageable"]))


def _table(rows: Any) -> Table:
    return Table(tuple((tuple(map(float, row[:-1])), float(row[-1])) for row in rows))
