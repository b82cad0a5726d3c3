"""What ``[apply]`` needs, looked at without importing it."""

from __future__ import annotations

import subprocess
import sys
import tomllib
from importlib import metadata
from pathlib import Path

import pytest

from planner.diagnostics.diagnostic import PlanError
from planner.loading import packages


def test_what_is_here_is_enough() -> None:
    packages.require()


def test_each_package_that_is_missing_has_its_own_finding(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packages, "_installed", {"torch": "2.6.0a0+git", "accelerate": "0.16.0"}.get)
    with pytest.raises(PlanError) as caught:
        packages.require()
    assert [(d.code.id, d.message, d.hint) for d in caught.value.diagnostics] == [
        (
            "P901",
            'package "diffusers" is missing: applying a plan needs it, at least version 0.36',
            "pip install 'offload-planner[apply]'",
        ),
        (
            "P902",
            'package "accelerate" is version 0.16.0, at least 0.17.0 is expected',
            "pip install -U 'offload-planner[apply]'",
        ),
        (
            "P901",
            'package "transformers" is missing: applying a plan needs it, at least version 4.51',
            "pip install 'offload-planner[apply]'",
        ),
    ]
    assert all(d.code.exit_code == 4 for d in caught.value.diagnostics)


def test_looking_imports_none_of_them() -> None:
    code = (
        "import sys; from planner.loading.packages import require; require(); "
        "print([m for m in ('torch', 'diffusers', 'accelerate', 'transformers') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_the_bounds_are_those_of_the_extra() -> None:
    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text(encoding="utf-8"))
    said = dict(line.split(">=") for line in project["project"]["optional-dependencies"]["apply"])
    for name, oldest in packages.OLDEST.items():
        assert said[name].rstrip(".0") == oldest.rstrip(".0"), name
    assert metadata.version("torch")
