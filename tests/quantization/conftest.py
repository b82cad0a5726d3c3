"""A cache of its own for the built-ins; the libraries' deprecations of their own quantizers are not ours."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from quantized import write_lora
from unpacking import in_python


@pytest.fixture(scope="session", autouse=True)
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("home")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OFFLOAD_PLANNER_HOME", str(folder))
        yield folder


@pytest.fixture(scope="session", autouse=True)
def _unpacking() -> None:
    in_python()


@pytest.fixture(scope="session")
def lora(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_lora(tmp_path_factory.mktemp("lora"))
