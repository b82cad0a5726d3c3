"""The least budgets are looked for and held to less, small and on the virtual device."""

from __future__ import annotations

import json
from pathlib import Path

from click.testing import CliRunner

from benchmarks.least import main
from benchmarks.test_start import tiny_configs


def test_a_budget_of_each_kind_and_calls_with_less(tmp_path: Path) -> None:
    asked = ["--cases", "tiny", "--configs", str(tiny_configs(tmp_path, height=128, width=128))]
    more = ["--device", "sim:0", "--card", "h200", "--steps", "1", "--calls", "1", "--shares", "1,0.9"]
    result = CliRunner().invoke(main, [*asked, *more])
    assert result.exit_code == 0, result.output
    lines = [json.loads(line) for line in result.stdout.splitlines() if line.startswith("{")]
    assert [(line["level"], line["share"]) for line in lines] == [
        (level, share) for level in ("fits", "runs") for share in (1.0, 0.9)
    ]
    assert lines[0]["mib"] > lines[2]["mib"] > 1
    assert all(line["failed"] is None for line in lines)
