"""Which plans ``validate`` looks at, and what it says of all of them."""

from __future__ import annotations

import io
import json
import sys
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from planner.cli.main import run
from planner.cli.verbs import GROUPS, VERBS
from planner.diagnostics.codes import all_codes
from planner.document.schema import schema_text

GOOD = """\
version: 1
pipeline: {class: StableDiffusionXLPipeline, source: 'builtin:tiny-sdxl'}
budget: {vram: 8MiB}
"""
BAD = GOOD.replace("budget", "bugdet")
SCHEMA = json.loads(schema_text("findings.v1.schema.json"))


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    for name in ("a", "sub/b", "sub/deep/c", ".hidden/d", "sub/.git/e", ".github/sub/f"):
        path = tmp_path / f"{name}.plan.yaml"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(GOOD)
    return tmp_path


def looked_at(arguments: list[str], capsys: Any) -> tuple[int, list[str]]:
    code = run(["validate", "--format", "json", *arguments])
    said = json.loads(capsys.readouterr().out)
    jsonschema.validate(said, SCHEMA)
    return code, [Path(f["file"]).as_posix() for f in said["files"]]


@pytest.mark.parametrize(
    ("arguments", "names"),
    [
        ([], ["a", "sub/b", "sub/deep/c"]),
        (["sub"], ["sub/b", "sub/deep/c"]),
        ([".hidden"], [".hidden/d"]),
        (["sub/*.plan.yaml"], ["sub/b"]),
        (["**/*.yaml"], ["a", "sub/b", "sub/deep/c"]),
        (["s*"], ["sub/b", "sub/deep/c"][:0]),
        ([".", "--exclude", "deep"], ["a", "sub/b"]),
        ([".", "--exclude", "sub/*"], ["a"]),
        ([".", "--exclude", "b.plan.yaml", "--exclude", "./a*"], ["sub/deep/c"]),
        (["a.plan.yaml", ".", "a.plan.yaml"], ["a", "sub/b", "sub/deep/c"]),
        (["a.plan.yaml", "--exclude", "a*"], ["a"]),
    ],
)
def test_hidden_folders_are_left_out_and_each_file_is_taken_once(
    here: Path, arguments: list[str], names: list[str], capsys: Any
) -> None:
    code, found = looked_at(arguments, capsys)
    assert found == [f"{name}.plan.yaml" for name in names]
    assert code == (0 if names else 2)


@pytest.mark.parametrize("arguments", [["none/*.yaml"], ["sub", "--exclude", "*"], [".hidden/sub"]])
def test_a_search_that_finds_nothing_says_so(here: Path, arguments: list[str], capsys: Any) -> None:
    (here / ".hidden/sub").mkdir()
    assert run(["validate", *arguments]) == 2
    assert "P002" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("text", "code"), [(GOOD, 0), (BAD, 1), ("", 1), ("extends: a.plan.yaml\nversion: 1\n", 0)]
)
def test_standard_input(
    here: Path, text: str, code: int, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    def typed() -> None:
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(text.encode())))

    typed()
    assert run(["validate", "-"]) == code
    typed()
    assert run(["explain", "-"]) == code
    typed()
    capsys.readouterr()
    assert looked_at(["-"], capsys) == (code, ["<stdin>"])
    if code:
        typed()
        assert run(["validate", "-", "--format", "github"]) == code
        assert "file=" not in capsys.readouterr().out


def test_what_is_not_utf8_on_standard_input(monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"\xff\xfe")))
    assert run(["validate", "-"]) == 1
    assert "not UTF-8" in capsys.readouterr().out


def test_the_verdict_is_of_all_and_of_each(here: Path, capsys: Any) -> None:
    (here / "bad.plan.yaml").write_text(BAD)
    (here / "hub.plan.yaml").write_text("version: 1\npipeline: {class: FluxPipeline, source: a/b}\n")
    assert run(["validate", "--format", "json", "a.plan.yaml", "bad.plan.yaml", "hub.plan.yaml"]) == 1
    said = json.loads(capsys.readouterr().out)
    jsonschema.validate(said, SCHEMA)
    assert [(f["verdict"], f["errors"]) for f in said["files"]] == [("ok", 0), ("errors", 1), ("ok", 0)]
    assert (said["verdict"], said["exit_code"], said["summary"]["plans"]) == ("errors", 1, 3)
    assert said["statistics"]["P201"] == 1
    assert said["summary"]["notes"] == sum(f["notes"] for f in said["files"]) > 0


def test_a_summary_and_statistics_for_people(here: Path, capsys: Any) -> None:
    (here / "bad.plan.yaml").write_text(BAD)
    assert run(["validate", "--statistics"]) == 1
    out, err = capsys.readouterr()
    assert err.splitlines()[-1] == "4 plans, 1 of them wrong: 1 error"
    assert "    1   P201 unknown-key" in out


@pytest.mark.parametrize("verb", [["validate"], ["compile"]])
def test_an_error_is_in_the_form_that_was_asked_for(here: Path, verb: list[str], capsys: Any) -> None:
    assert run([*verb, "--format", "json", "missing.plan.yaml"]) == 1
    jsonschema.validate(json.loads(capsys.readouterr().out), SCHEMA)
    assert run(["validate", "missing.plan.yaml"]) == 1  # and the next is text again
    assert not capsys.readouterr().out.startswith("{")


def test_every_code_is_listed(capsys: Any) -> None:
    assert run(["explain", "--all"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines[1:]] == list(all_codes())
    assert run(["explain"]) == run(["explain", "P302", "--all"]) == 2


def test_only_an_error_is_headed_with_an_exit_code(capsys: Any) -> None:
    for code in all_codes().values():
        assert run(["explain", code.id]) == 0
        head = capsys.readouterr().out.splitlines()[0]
        assert ("exit 0" in head) is (code.severity.value != "error")


def test_help_shows_what_there_is_with_an_example_each(capsys: Any) -> None:
    assert run(["--help"]) == 0
    shown = capsys.readouterr().out
    assert [line[:-1] for line in shown.splitlines() if line.endswith(":")][1:-1] == ["Options", *GROUPS][1:]
    for name, verb in VERBS.items():
        assert verb.example in shown
        assert verb.example.split()[1] == name
        assert run([name, "--help"]) == 0
        assert verb.example in " ".join(capsys.readouterr().out.split())
