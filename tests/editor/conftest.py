from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from editor.server import Server, command


@pytest.fixture(scope="session")
def server() -> Iterator[Server]:
    """A server with the schema that ships."""
    if command() is None:
        pytest.skip("no node, or no yaml-language-server")
    running = Server(Path(__file__).parents[2] / "schemas" / "plan.v1.schema.json")
    yield running
    running.close()
