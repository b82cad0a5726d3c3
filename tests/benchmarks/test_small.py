"""The benchmark runs, small and on the virtual device; its figures mean nothing there."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner
from rich.console import Console

from benchmarks.__main__ import main, table


@pytest.mark.parametrize("pipeline", ["wan", "tiny-flux"])
def test_every_mode_gives_the_same_picture(pipeline: str, tmp_path: Path) -> None:
    modes = "resident plan: plan:idle=keep translated model"
    asked = [pipeline, "--small", "--one", "--device", "sim:0", "--steps", "1", "--modes", modes]
    result = CliRunner().invoke(main, asked)
    records = [json.loads(line) for line in result.output.splitlines() if line.startswith("{")]
    assert [record["mode"] for record in records] == modes.split(), result.output
    assert [record.get("failed") for record in records] == [None] * 5
    assert len({run["picture"] for record in records for run in record["runs"]}) == 1
    console = Console(width=200, record=True, file=open(tmp_path / "table", "w", encoding="utf-8"))  # noqa: SIM115
    console.print(table(pipeline, records))
    assert "DIFFERS" not in console.export_text()


def test_quantized_plans_give_the_picture_of_their_peers() -> None:
    pictures: dict[str, str] = {}
    for modes in ("cast: int8:", "cast-model", "int8-model"):  # a peer leaves the pipeline as it made it
        asked = ["tiny-flux", "--small", "--one", "--device", "sim:0", "--steps", "1", "--modes", modes]
        result = CliRunner().invoke(main, asked)
        records = [json.loads(line) for line in result.output.splitlines() if line.startswith("{")]
        assert [record.get("failed") for record in records] == [None] * len(modes.split()), result.output
        pictures |= {record["mode"]: record["runs"][-1]["picture"] for record in records}
    assert pictures["cast:"] == pictures["cast-model"]
    assert pictures["int8:"] == pictures["int8-model"]
    assert pictures["cast:"] != pictures["int8:"]
