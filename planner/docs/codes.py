"""The page of codes, from the table of codes."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import groupby

from planner.diagnostics.codes import all_codes
from planner.diagnostics.diagnostic import Code
from planner.docs.markdown import fence, joined, table

FAMILIES = {
    "P0": "The tool",
    "P1": "Text and files",
    "P2": "Shape",
    "P3": "Names, and what a pipeline has",
    "P4": "Stages and their order",
    "P5": "What the compiler chose",
    "P6": "What fits",
    "P7": "Runs",
    "P8": "Translation",
    "P9": "Machines, packages and outputs",
}


def page() -> str:
    """Every code: what it means, a wrong and a right example."""
    known = list(all_codes().values())
    return joined(
        "# Codes",
        "Each finding has a code. `plan explain P302` prints what is here of one, `plan explain --all` a "
        "line of each; `# plan: ignore[P302]` at the end of a line silences it there.",
        *(
            part
            for family, codes in groupby(known, lambda code: code.id[:2])
            for part in _family(family, codes)
        ),
    )


def _family(family: str, codes: Iterator[Code]) -> Iterator[str]:
    mine = list(codes)
    yield f"## {family}xx: {FAMILIES[family]}"
    yield table(
        ["code", "name", "weight"],
        [[f"[{code.id}](#{anchor(code)})", code.name, code.severity.value] for code in mine],
    )
    for code in mine:
        yield f"### {code.id} {code.name}"
        yield f"{code.severity.value.capitalize()}, exit {_exit(code)}. {code.help}"
        yield joined("Wrong:", fence(code.wrong), "Right:", fence(code.right))


def anchor(code: Code) -> str:
    """The fragment of a code's heading."""
    return f"{code.id}-{code.name}".lower()


def _exit(code: Code) -> int:
    return code.exit_code if code.severity.value == "error" else 0
