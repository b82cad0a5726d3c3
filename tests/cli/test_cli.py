"""The command: what it prints where, and what it ends with."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import jsonschema
import pytest

import planner
from planner.cli.main import run
from planner.cli.verbs import VERBS
from planner.diagnostics.codes import all_codes
from planner.document.language.plan import schema
from planner.document.schema import schema_text

PLANS = Path(__file__).parents[2] / "plans"
GOOD = """\
version: 1
pipeline: {class: StableDiffusionXLPipeline, source: 'builtin:tiny-sdxl'}
budget: {vram: 8MiB}
"""


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "good.plan.yaml").write_text(GOOD)
    (tmp_path / "bad.plan.yaml").write_text(GOOD.replace("budget", "bugdet"))
    return tmp_path


def test_validate_searches_the_folder(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (here / "inner").mkdir()
    (here / "inner/also.plan.yaml").write_text(GOOD)
    (here / ".hidden").mkdir()
    (here / ".hidden/no.plan.yaml").write_text("nonsense")
    (here / "other.yaml").write_text("nonsense")
    assert run(["validate"]) == 1
    out, err = capsys.readouterr()
    assert "bad.plan.yaml:3:1" in out
    assert err.splitlines() == [
        "bad.plan.yaml: 1 error",
        "good.plan.yaml: ok",
        f"{Path('inner/also.plan.yaml')}: ok",
        "3 plans, 1 of them wrong: 1 error",
    ]


def test_findings_go_to_stdout_in_every_format(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for form in ("json", "sarif"):
        assert run(["validate", "--format", form]) == 1
        out, err = capsys.readouterr()
        assert "P201" in json.dumps(json.loads(out))
        assert err == ""
    assert run(["validate", "--format", "github", "bad.plan.yaml"]) == 1
    assert capsys.readouterr().out.startswith("::error file=bad.plan.yaml,line=3,col=1")


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["validate", "good.plan.yaml"], 0),
        (["validate", "bad.plan.yaml"], 1),
        (["validate", "missing.plan.yaml"], 1),
        (["validate", "empty-folder"], 2),
        (["validate", "good.plan.yaml", "--set", "nonsense"], 2),
        (["validate", "good.plan.yaml", "--set", "budget.vram=64KiB"], 1),
        (["validate", "good.plan.yaml", "--target", "FluxPipeline"], 1),
        (["compile", "good.plan.yaml"], 0),
        (["compile", "bad.plan.yaml"], 1),
        (["compile", "good.plan.yaml", "--check"], 1),
        (["compile", "good.plan.yaml", "--lock", "--check"], 2),
        (["explain", "good.plan.yaml"], 0),
        (["explain", "P302"], 0),
        (["explain", "P999"], 2),
        (["explain", "good.plan.yaml", "--plot", "x.pdf"], 2),
        (["explain", "P302", "--plot", "x.html"], 2),
        (["apply", "bad.plan.yaml", "--simulate"], 1),
        (["apply", "good.plan.yaml", "--simulate", "--dry-run"], 0),
        (["apply", "good.plan.yaml", "--locked"], 1),
        (["translate", "a->b"], 2),
        (["translate", "FluxPipeline"], 0),
        (["fit", "FluxPipeline", "--vram", "12GiB"], 2),
        (["diff", "good.plan.yaml", "good.plan.yaml", "--exit-code"], 0),
        (["diff", "missing.plan.yaml", "good.plan.yaml"], 1),
        (["nonsense"], 2),
        (["validate", "--nonsense"], 2),
        ([], 2),
        (["--help"], 0),
        (["--version"], 0),
    ],
)
def test_exit_codes(here: Path, arguments: list[str], code: int) -> None:
    (here / "empty-folder").mkdir()
    assert run(arguments) == code


def test_strict_counts_warnings_and_what_was_not_checked(here: Path) -> None:
    assert run(["validate", "good.plan.yaml", "--strict"]) == 0
    (here / "hub.plan.yaml").write_text("version: 1\npipeline: {class: FluxPipeline, source: a/b}\n")
    assert run(["validate", "hub.plan.yaml"]) == 0
    assert run(["validate", "hub.plan.yaml", "--strict"]) == 1


def test_a_fault_of_ours_says_so(
    here: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object, **__: object) -> None:
        raise planner.InternalError("the schedule does not hold")

    monkeypatch.setattr("planner.cli.compile.compile", broken)
    assert run(["compile", "good.plan.yaml"]) == 3
    out, err = capsys.readouterr()
    assert out == ""
    assert "not of your plan: the schedule does not hold" in err


def test_an_interrupt(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("planner.cli.compile.compile", interrupted)
    assert run(["compile", "good.plan.yaml"]) == 130


def test_a_near_miss_of_a_verb(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["vlidate"]) == 2
    assert 'did you mean "validate"?' in capsys.readouterr().err


def test_every_code_is_explained(capsys: pytest.CaptureFixture[str]) -> None:
    for code in all_codes().values():
        assert run(["explain", code.name]) == 0
        out = capsys.readouterr().out
        assert out.startswith(f"{code}   ")
        assert "wrong:" in out
        assert "right:" in out


def test_the_schedule_is_a_file_with_a_schema(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["compile", "good.plan.yaml", "--format", "json"]) == 0
    first = capsys.readouterr().out
    assert run(["compile", "good.plan.yaml", "--format", "json"]) == 0
    assert capsys.readouterr().out == first
    jsonschema.validate(json.loads(first), json.loads(schema_text("schedule.v1.schema.json")))
    assert str(here) not in first


def test_the_schema_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["schema"]) == 0
    schema = json.loads(capsys.readouterr().out)
    jsonschema.Draft202012Validator.check_schema(schema)


def test_everything_in_the_language_is_described_with_an_example() -> None:
    def keys(schema: object, at: str) -> list[str]:
        if not isinstance(schema, dict):
            return []
        missing = []
        for name, child in schema.get("properties", {}).items():
            if not child.get("description") or not child.get("examples"):
                missing.append(f"{at}.{name}")
        for name, child in schema.items():
            if isinstance(child, dict):
                missing += keys(child, f"{at}.{name}")
        return missing

    language = schema()
    assert keys(language, "") == []
    assert all(d.get("description") and d.get("examples") for d in language["$defs"].values())
    validator = jsonschema.Draft202012Validator(language)
    for name, prop in language["properties"].items():
        for example in prop["examples"]:
            wrong = list(validator.iter_errors({"version": 1, "pipeline": "X", name: example}))
            assert wrong == [], (name, example)


def test_a_plan_as_yaml_reads_back(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["explain", "good.plan.yaml", "--as", "yaml", "--set", "budget.vram=9MiB"]) == 0
    (here / "again.plan.yaml").write_text(capsys.readouterr().out)
    plan = planner.load(here / "again.plan.yaml")
    assert plan.budget.vram is not None
    assert plan.budget.vram.bytes == 9 << 20
    assert plan.name == "good"


def test_importing_loads_no_torch() -> None:
    code = (
        "import sys, planner; assert planner.validate(sys.argv[1]); planner.compile(sys.argv[1]);"
        "bad = {'torch', 'diffusers', 'transformers', 'accelerate'} & set(sys.modules); assert not bad, bad"
    )
    subprocess.run([sys.executable, "-c", code, str(PLANS / "quickstart.plan.yaml")], check=True)


def test_help_lists_every_verb(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["--help"]) == 0
    out = capsys.readouterr().out
    assert all(verb in out for verb in VERBS)
