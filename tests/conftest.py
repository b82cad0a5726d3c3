"""Golden files: ``pytest --update-golden`` writes what the code says now."""

from __future__ import annotations

import gc
import os
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from goldens import Golden
from hypothesis import HealthCheck, settings

from planner.loading import cache, calibrations
from planner.source.limits import SECONDS
from planner.tracing import cached

UNTIMED = [HealthCheck.too_slow, HealthCheck.function_scoped_fixture]
settings.register_profile("untimed", deadline=None, suppress_health_check=UNTIMED)
settings.load_profile("untimed")  # how busy a machine is decides no test


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--update-golden", action="store_true", help="write golden files in place of comparing")
    parser.addoption("--faults", type=int, default=0, help="so many injected faults for each of tests/faults")


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """A worker has a half in order, and what it takes from the other at the end: what the tests of a module
    share is made once. xdist's own ``load`` deals out ever fewer tests at a time."""
    if config.getoption("dist") != "load":
        return None
    from xdist.scheduler import WorkStealingScheduling

    return WorkStealingScheduling(config, log)


_module: list[object] = []
"""That of the test before."""


def pytest_runtest_setup(item: pytest.Item) -> None:
    """What is there when a module's tests begin is not looked at again by the collector: all of torch and
    transformers takes half a second each time."""
    module = item.getparent(pytest.Module)
    if _module != [module]:
        _module[:] = [module]
        gc.collect()
        gc.freeze()


@pytest.fixture
def golden(request: pytest.FixtureRequest) -> Golden:
    """``golden(path, text)``: the file has this text."""

    def compare(path: Path, text: str) -> None:
        if request.config.getoption("--update-golden"):
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
        assert path.exists(), f"{path} is missing: run pytest --update-golden and read what it wrote"
        assert text == path.read_text(encoding="utf-8")

    return compare


@pytest.fixture
def alone_on_the_card() -> Iterator[None]:
    """What other tests still hold on the virtual card is not counted, and no limit is left: a budget that
    caps the card is for one test's own. Some of it stays for as long as the process, as diffusers' caches of
    positions do, and some goes in the middle of a later test, as what a failed test's frames hold."""
    from planner.virtual.memory import METER

    METER.restart()
    yield
    METER.limit = None


@pytest.fixture
def searches_end_soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """A pattern that does not end takes an eighth of the time that a user's may take."""
    monkeypatch.setattr("planner.plan.pattern.SECONDS", SimpleNamespace(most=SECONDS.most / 8))


@pytest.fixture(autouse=True)
def _no_card(monkeypatch: pytest.MonkeyPatch) -> None:
    """``plan explain`` speaks of the card that is there: in tests there is none, whatever runs them."""
    monkeypatch.setattr("planner.cli.card.found", lambda plan: None)


@pytest.fixture(autouse=True)
def _own_cache(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> None:
    """What this machine measured or traced for its user changes no test, and no test leaves any for them."""
    own = tmp_path_factory.getbasetemp() / "home"
    for module in (calibrations, cached):
        monkeypatch.setattr(module, "home", lambda: cache.home() if cache.HOME in os.environ else own)
