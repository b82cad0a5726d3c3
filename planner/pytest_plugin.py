"""A pytest plugin: ``pytest --plans plans/`` makes each plan a test, ``--plans-simulate`` a run of it too.

pytest finds it by the entry point ``offload-plans``. Without ``--plans`` it does nothing.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from planner.schedule.card import Card


def pytest_addoption(parser: pytest.Parser) -> None:
    """The options, as ``plan validate`` has them."""
    group = parser.getgroup("offload plans")
    group.addoption(
        "--plans",
        action="append",
        default=[],
        metavar="FILE|DIR|GLOB",
        help="check these plans too, each as a test; a folder is searched for *.plan.yaml",
    )
    group.addoption(
        "--plans-simulate",
        action="store_true",
        help="also run each plan whose weights are here, on a virtual accelerator (needs the extra [apply])",
    )
    group.addoption("--plans-strict", action="store_true", help="warnings fail, and what was not checked")
    group.addoption("--plans-card", metavar="SIZE", help="whether each fits a card of this size: 12GiB")


def pytest_configure(config: pytest.Config) -> None:
    """Adds the plans to what is collected."""
    if asked := config.getoption("--plans"):
        files = _search(asked, config.invocation_params.dir)
        config.stash[_FILES] = frozenset(files)
        config.stash[_CARD] = _card(config.getoption("--plans-card"))
        config.args += [str(file) for file in files]


def pytest_collect_file(file_path: Path, parent: pytest.Collector) -> pytest.Collector | None:
    """A plan that was asked for is a file of tests."""
    if file_path not in parent.config.stash.get(_FILES, frozenset()):
        return None
    made: PlanFile = PlanFile.from_parent(parent, path=file_path)
    return made


_FILES = pytest.StashKey[frozenset[Path]]()
_CARD = pytest.StashKey["Card | None"]()


def _search(asked: list[str], folder: Path) -> list[Path]:
    """As ``plan validate`` finds them; nothing found is a usage error."""
    from planner.cli.search import plans
    from planner.diagnostics.diagnostic import PlanError

    try:
        found = [Path(folder, file).resolve() for file in plans(folder / one for one in asked)]
    except PlanError as error:
        raise pytest.UsageError(*(f"--plans: {problem.message}" for problem in error.diagnostics)) from None
    missing = [str(file) for file in found if not file.is_file()]
    if missing:
        raise pytest.UsageError(f"--plans: no file {', '.join(missing)}")
    return found


class PlanFile(pytest.File):
    """One plan: ``validate``, and ``simulate`` where that was asked for."""

    def collect(self) -> Iterator[pytest.Item]:
        """The tests of this plan."""
        yield Validate.from_parent(self, name="validate")
        if self.config.getoption("--plans-simulate"):
            yield Simulate.from_parent(self, name="simulate")


class Wrong(Exception):
    """What ``plan`` says of a plan; shown as it is, without a traceback."""


class _Item(pytest.Item):
    def repr_failure(self, excinfo: pytest.ExceptionInfo[BaseException], style: object = None) -> str:
        """The findings, as the command prints them."""
        if isinstance(excinfo.value, Wrong):
            return str(excinfo.value)
        return str(super().repr_failure(excinfo))

    def reportinfo(self) -> tuple[Path, int | None, str]:
        """The plan, by its path."""
        return self.path, 0, f"{self.name} {self.path.name}"


class Validate(_Item):
    """Fails where ``plan validate`` does; other findings are a section of the report."""

    def runtest(self) -> None:
        """Checks the plan; no torch, no network."""
        from planner.api import validate
        from planner.diagnostics.render import text

        # as its user would name it
        path = Path(os.path.relpath(self.path))
        result = validate(path, strict=self.config.getoption("--plans-strict"), card=self.config.stash[_CARD])
        said = text(result.diagnostics, result.sources)
        if not result.ok:
            raise Wrong(said)
        if said:
            self.add_report_section("call", "findings", said)


class Simulate(_Item):
    """Fails where ``plan apply --simulate`` does; skipped where the weights are not here."""

    def runtest(self) -> None:
        """Runs the plan in a process of its own: the virtual accelerator is one a process."""
        away = _away(self.path)
        if away:
            raise pytest.skip.Exception(away, _use_item_location=True)
        with TemporaryDirectory() as out:
            command = [sys.executable, "-m", "planner", "apply", str(self.path), "--simulate", "--out", out]
            done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            ended = f"plan apply --simulate ended with {done.returncode}"
            raise Wrong("\n".join((done.stdout + done.stderr, ended)))


def _away(path: Path) -> str:
    """Why a plan cannot be run here; nothing of a hub is downloaded for a test."""
    from planner.api import validate
    from planner.target.place import BUILTIN, place_of

    result = validate(path)
    plan = result.plan
    if plan is None or not result.ok:
        return "the plan is wrong"
    sources = [plan.pipeline.source, *(said.source for said in plan.components.values() if said.source)]
    for source in sources:
        if source is None:
            return "the plan names no source"
        if not source.startswith(BUILTIN) and not place_of(source, path.parent).here:
            return f'"{source}" is not on this disk'
    return ""


def _card(size: str | None) -> Card | None:
    from planner.plan.units import amount
    from planner.schedule.card import imagined
    from planner.source.text import Span

    if size is None:
        return None
    found = amount(size, Span(file="--plans-card", line=1, column=1))
    if found is None or found.bytes is None:
        raise pytest.UsageError(f'--plans-card: expected a size such as 12GiB, found "{size}"')
    return imagined(found.bytes)
