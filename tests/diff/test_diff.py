"""``plan diff``: meanings compared, in text, in JSON, and for git."""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from goldens import Golden

import planner
from planner.cli.main import run
from planner.diff.model import Side, diff_of
from planner.document.schema import schema_text

GOLDENS = Path(__file__).parent / "goldens"
A = """\
version: 1
pipeline: {class: FluxPipeline, source: 'builtin:tiny-flux'}
run: {prompt: a cat, num_inference_steps: 4}
"""
B = """\
version: 1
pipeline: {class: FluxPipeline, source: 'builtin:tiny-flux', dtype: bfloat16}
idle: keep
components:
  transformer: {policy: stream, resident: 50%}
  vae: {tiling: on}
quantization:
  - {component: text_encoder_2, backend: layerwise_cast, storage_dtype: float8_e4m3fn}
run: {prompt: a cat, num_inference_steps: 4}
"""


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    Path("a.plan.yaml").write_text(A)
    Path("b.plan.yaml").write_text(B)
    return tmp_path


def as_json(capsys: pytest.CaptureFixture[str], *arguments: str) -> dict[str, Any]:
    capsys.readouterr()
    assert run(["diff", *arguments, "--format", "json"]) == 0
    values: dict[str, Any] = json.loads(capsys.readouterr().out)
    jsonschema.validate(values, json.loads(schema_text("diff.v1.schema.json")))
    return values


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("plans", ["a.plan.yaml", "b.plan.yaml"]),
        ("budgets", ["a.plan.yaml", "a.plan.yaml", "--set-b", "budget.vram=4MiB"]),
        ("same", ["a.plan.yaml", "a.plan.yaml"]),
    ],
)
def test_the_text(name: str, arguments: list[str], here: Path, golden: Golden, capsys: Any) -> None:
    assert run(["diff", *arguments]) == 0
    golden(GOLDENS / f"{name}.out", capsys.readouterr().out)


def test_json_tells_the_picture_policies_and_moves(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    values = as_json(capsys, "a.plan.yaml", "b.plan.yaml")
    assert values["differ"]
    assert values["picture"]
    told = {(d["section"], *d["path"]): (d["a"], d["b"]) for d in values["differences"] if d["path"]}
    assert told["picture", "dtype"] == (None, "bfloat16")
    assert told["picture", "tiling", "vae"] == (None, True)
    assert told["picture", "quantization", "text_encoder_2"][1][0]["backend"] == "layerwise_cast"
    assert told["placements", "transformer", "policy"] == ("offload", "stream")
    assert told["budget", "idle"] == ("release", "keep")
    assert ("totals", "peak") in told


def test_text_is_no_meaning(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    longer = A.replace(
        "class: FluxPipeline, source: 'builtin:tiny-flux'",
        "source: 'builtin:tiny-flux',\n  class: FluxPipeline",
    )
    Path("c.plan.yaml").write_text("# other words\n" + longer.replace("a cat", "a dog"))
    assert not as_json(capsys, "a.plan.yaml", "c.plan.yaml")["differ"]
    assert run(["diff", "a.plan.yaml", "c.plan.yaml", "--exit-code"]) == 0


def test_two_cards(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    values = as_json(capsys, "a.plan.yaml", "a.plan.yaml", "--card-a", "12GiB", "--card-b", "24GiB")
    told = {(d["section"], *d["path"]): (d["a"], d["b"]) for d in values["differences"]}
    assert told["card", "total"] == (12 << 30, 24 << 30)
    assert not values["picture"]
    assert not as_json(capsys, "a.plan.yaml", "a.plan.yaml", "--card", "12GiB")["differ"]


def test_exit_codes(here: Path) -> None:
    assert run(["diff", "a.plan.yaml", "b.plan.yaml"]) == 0
    assert run(["diff", "a.plan.yaml", "b.plan.yaml", "--exit-code"]) == 1
    assert run(["diff", "a.plan.yaml", "a.plan.yaml", "--set-b", "budget.vram=64KiB"]) == 1
    assert run(["diff", "a.plan.yaml", "none.plan.yaml"]) == 1


def test_a_plan_and_its_lock(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["compile", "a.plan.yaml", "--card", "12GiB", "--lock"]) == 0
    assert not as_json(capsys, "a.plan.yaml", "a.plan.lock.json")["differ"]
    assert as_json(capsys, "a.plan.lock.json", "b.plan.yaml")["differ"]
    assert run(["diff", "a.plan.yaml", "a.plan.lock.json", "--set-b", "idle=keep"]) == 2
    assert run(["diff", "a.plan.yaml", "a.plan.lock.json", "--card-b", "12GiB"]) == 2
    Path("a.plan.lock.json").write_text("{}")
    assert run(["diff", "a.plan.yaml", "a.plan.lock.json"]) == 1
    assert "P952" in capsys.readouterr().out


def test_what_only_one_side_has_in_steps(here: Path) -> None:
    one, other = (planner.compile(f"{n}.plan.yaml").lock().content for n in "ab")
    there, back = (
        diff_of(Side(name="a", content=x), Side(name="b", content=y)) for x, y in ((one, other), (other, one))
    )
    assert [(d.section, d.path, d.b, d.a) for d in there.differences if d.section != "steps"] != []
    assert {(d.section, d.path) for d in there.differences} == {(d.section, d.path) for d in back.differences}


def git(*arguments: str) -> str:
    done = subprocess.run(
        ["git", "-c", "user.name=x", "-c", "user.email=x@example.com", *arguments],
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout


def test_as_a_git_difftool(here: Path) -> None:
    """The configuration that the documentation gives, with this interpreter for ``plan``."""
    page = (Path(planner.__file__).parent / "docs" / "ci.md").read_text(encoding="utf-8")
    line = next(line for line in page.splitlines() if line.startswith("git config difftool.plan.cmd"))
    command = shlex.split(line)[-1].replace("plan diff", f"{shlex.quote(sys.executable)} -m planner diff", 1)
    git("init", "-q")
    git("config", "difftool.plan.cmd", command)
    git("config", "difftool.prompt", "false")
    Path("base.plan.yaml").write_text(A)
    Path("plans").mkdir()
    Path("plans/x.plan.yaml").write_text("version: 1\nextends: ../base.plan.yaml\n")
    git("add", "-A")
    git("commit", "-qm", "one")
    Path("plans/x.plan.yaml").write_text("version: 1\nextends: ../base.plan.yaml\nidle: keep\n")
    Path("b.plan.yaml").unlink()
    Path("new.plan.yaml").write_text(A)
    git("add", "-A")
    git("commit", "-qm", "two")
    shown = git("difftool", "--tool", "plan", "HEAD~1", "HEAD", "--", "*.plan.yaml")
    assert "a  plans/x.plan.yaml" in shown
    assert "idle   release   keep" in " ".join(shown.split()).replace(
        "idle release keep", "idle   release   keep"
    )
    assert "only in a" in shown  # b.plan.yaml, removed
    assert "only in b" in shown  # new.plan.yaml
