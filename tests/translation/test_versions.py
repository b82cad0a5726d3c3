"""The lint of every supported diffusers version, as it is checked in."""

from __future__ import annotations

from pathlib import Path

import pytest
from goldens import Golden

from planner.diagnostics.table.p8_translate import DEFECTS
from planner.target import catalogue
from planner.translation.lint import lint

SNAPSHOTS = Path(__file__).parent / "lint"


@pytest.mark.parametrize("version", catalogue.versions())
def test_the_defects_of_a_version(version: str, golden: Golden) -> None:
    lines = []
    for name in catalogue.names(version):
        target = catalogue.find(name, version)
        assert target is not None
        found = lint(target)
        if any(d.code in DEFECTS for d in found):
            lines.append(f'{name}: "{target.sequence}"')
            lines += [f"  {d.message} [{d.code}]" for d in found if d.code in DEFECTS]
    golden(SNAPSHOTS / f"{version}.txt", "\n".join(lines) + "\n")
