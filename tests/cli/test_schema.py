"""The schema that generated plans name: written beside them by ``plan schema -o``."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path

import pytest

import planner
from planner.cli.main import run
from planner.document.schema import schema_text
from planner.plan.write import to_yaml


def generated(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> list[str]:
    texts = []
    for arguments in (
        ["FluxPipeline"],
        ["FluxPipeline", "--improve"],
        ["--tool", "mmgp", "{profile_no: 4}", "--class", "FluxPipeline"],
        ["pipe.enable_model_cpu_offload()", "--class", "FluxPipeline"],
    ):
        assert run(["translate", *arguments]) == 0
        texts.append(capsys.readouterr().out)
    place = tmp_path / "x.plan.yaml"
    place.write_text(texts[0], encoding="utf-8")
    return [*texts, to_yaml(planner.load(place))]


def test_what_a_generated_plan_says_makes_the_schema_that_it_names(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    for text in generated(tmp_path, capsys):
        named = re.match(r"# yaml-language-server: \$schema=(\S+) ", text)
        command = re.search(r"plan (schema -o [^\s)]+)", text)
        assert named is not None
        assert command is not None
        Path(named[1]).unlink(missing_ok=True)
        assert run(shlex.split(command[1])) == 0
        assert (tmp_path / named[1]).read_text(encoding="utf-8") == schema_text()


def test_a_folder_a_newer_schema_and_a_file_of_somebody_else(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    place = tmp_path / "plan.v1.schema.json"
    assert run(["schema", "-o", str(tmp_path)]) == 0
    old = json.loads(place.read_text(encoding="utf-8")) | {"title": "an older one"}
    place.write_text(json.dumps(old), encoding="utf-8")
    assert run(["schema", "--output", str(place)]) == 0
    assert place.read_text(encoding="utf-8") == schema_text()
    mine = tmp_path / "mine.json"
    mine.write_text("{}", encoding="utf-8")
    assert run(["schema", "-o", str(mine)]) == 2
    assert mine.read_text(encoding="utf-8") == "{}"
    assert run(["schema", "-o", str(tmp_path / "nowhere" / "x.json")]) == 2
    assert "nowhere" in capsys.readouterr().err
