"""Every code is provoked and asserted somewhere: by its example, in a golden text, or by name in a test.

Two codes that change places fail a test then, since each is asked for where it is provoked.
"""

from __future__ import annotations

import re
from pathlib import Path

from examples import EXAMPLES

from planner.diagnostics.codes import all_codes

TESTS = Path(__file__).parents[1]
TABLES = {Path(__file__).name, "examples.py", "test_examples.py", "test_diagnostics.py"}
"""Tests of the table itself: that they name a code provokes nothing."""


def asserted() -> dict[str, list[str]]:
    """The ids of codes, and the files in which a test asks for them."""
    codes = all_codes()
    found: dict[str, list[str]] = {code: [] for code in codes}
    names = {code.name: code.id for code in codes.values()}
    for path in sorted(TESTS.rglob("*")):
        if path.suffix not in (".py", ".out") or path.name in TABLES:
            continue
        text = path.read_text(encoding="utf-8", errors="replace")
        quoted = names.keys() & {*re.findall(r"\"([a-z0-9-]+)\"", text)}
        said = {*re.findall(r"\bP\d{3}\b", text)} | {names[name] for name in quoted}
        for code in said & codes.keys():
            found[code].append(path.relative_to(TESTS).as_posix())
    return found


def test_every_code_is_provoked_by_a_test_that_asks_for_it() -> None:
    found = asserted()
    missing = {code.id for code in all_codes().values() if not found[code.id] and code not in EXAMPLES}
    assert not missing, sorted(missing)
