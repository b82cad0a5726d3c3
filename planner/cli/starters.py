"""The plans that ship, as a start for one's own: what each is, and the files that a copy is made of."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from planner.document.read import read_document
from planner.plan.write import HEAD
from planner.source.shipped import shipped

ENDS = ".plan.yaml"
_SCHEMA = re.compile(r"\A# yaml-language-server:.*\n")
_COMMENT = re.compile(r"\A(?:#.*\n)+")


@dataclass(frozen=True, slots=True)
class Starter:
    """``about``: the first sentence of its comment; ``files``: its text and those of the plans below it, by
    file name."""

    name: str
    cls: str
    about: str
    files: Mapping[str, str]


def names() -> tuple[str, ...]:
    """Of all plans that ship, sorted."""
    return tuple(sorted(path.name.removesuffix(ENDS) for path in shipped("plans").glob(f"*{ENDS}")))


def starter(name: str) -> Starter:
    """The one of this name, one of ``names()``. The plans that it extends come with it, and each names the
    schema where ``plan schema -o`` writes it."""
    document, _, _ = read_document(shipped("plans") / f"{name}{ENDS}")
    assert document is not None, name
    pipeline = document.values["pipeline"]
    files = {Path(source.name).name: _at_home(source.text) for source in document.sources}
    return Starter(
        name=name,
        cls=pipeline["class"] if isinstance(pipeline, dict) else str(pipeline),
        about=_first_sentence(files[f"{name}{ENDS}"]),
        files=files,
    )


def _at_home(text: str) -> str:
    return _SCHEMA.sub(lambda _: HEAD, text)


def _first_sentence(text: str) -> str:
    comment = _COMMENT.match(_SCHEMA.sub("", text))
    said = " ".join(_words(comment[0])) if comment else ""
    return re.split(r"(?<=\.)\s(?=[A-Z])", said)[0].rstrip(".:")


def _words(comment: str) -> Iterator[str]:
    return (line.lstrip("# ").strip() for line in comment.splitlines())
