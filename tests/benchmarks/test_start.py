"""What loading and applying take is timed and predicted, small and on the virtual device."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from benchmarks.start import main
from planner.loading.builtin import builtin_folder
from planner.tracing.hollow import parts_of


def tiny_configs(folder: Path, **call: int) -> Path:
    """A file in the form of measured.json with one small pipeline, "tiny"."""
    cls, parts, _ = parts_of(builtin_folder("tiny-flux", None))
    said = {
        "name": "tiny",
        "class": cls,
        "call": call,
        "tiling": False,
        "image": False,
        "parts": {
            name: {"library": part.library, "cls": part.cls, "config": dict(part.config), "dtype": "bfloat16"}
            for name, part in parts.items()
        },
    }
    configs = folder / "configs.json"
    configs.write_text(json.dumps({"prompt": "a fox", "pipelines": [said]}))
    return configs


def test_both_beside_what_was_predicted(tmp_path: Path) -> None:
    configs = tiny_configs(tmp_path)
    asked = ["--cases", "tiny", "--configs", str(configs), "--device", "sim:0", "--card", "h200"]
    result = CliRunner().invoke(main, [*asked, "--folder", str(tmp_path), "--host-bytes", str(1 << 20)])
    assert result.exit_code == 0, result.output
    first, less, placing = (json.loads(line) for line in result.stdout.splitlines() if line.startswith("{"))
    for line in (first, less, placing):
        assert len(line["m"]["load"]) == len(line["m"]["apply"]) == 2
        assert min(*line["m"]["load"], *line["m"]["apply"]) > 0
        assert line["p"]["load"]["seconds"] > 0
        assert line["p"]["read"] == line["p_here"]["read"] > 1 << 20
        assert line["p"]["apply"]["seconds"] != pytest.approx(line["p_here"]["apply"]["seconds"], rel=1e-6)
    assert first["p"]["placed"] == less["p"]["placed"] == 0 < placing["p"]["placed"]
