"""A cache of its own for the built-ins, plans from text, pipelines that load from folders of a few KB."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from planner.api import load
from planner.plan.model import Plan

MakePlan = Callable[[str], Plan]


@pytest.fixture(scope="session")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("home")


@pytest.fixture(autouse=True)
def _own_cache(home: Path) -> Iterator[None]:
    before = os.environ.get("OFFLOAD_PLANNER_HOME")
    os.environ["OFFLOAD_PLANNER_HOME"] = str(home)
    yield
    if before is None:
        del os.environ["OFFLOAD_PLANNER_HOME"]
    else:
        os.environ["OFFLOAD_PLANNER_HOME"] = before


@pytest.fixture
def make_plan(tmp_path: Path) -> MakePlan:
    """A plan from the text after ``version: 1``, in a file of the test's folder."""

    def make(text: str) -> Plan:
        path = tmp_path / "x.plan.yaml"
        path.write_text(f"version: 1\n{text}\n", encoding="utf-8")
        return load(path)

    return make
