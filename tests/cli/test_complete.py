"""What a shell completes, asked as click's scripts for shells ask it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from planner.cli.main import command, run
from planner.diagnostics.codes import all_codes
from planner.target.catalogue import Catalogue, versions


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    for name in (
        "a.plan.yaml",
        "b.yaml",
        "plans/c.plan.yaml",
        "plans/deep/d.plan.yml",
        ".hidden/e.plan.yaml",
    ):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("")
    return tmp_path


def test_cards() -> None:
    assert completed("plan explain a.plan.yaml --card rtx-40") == [
        f"plain rtx-{n}" for n in (4060, 4070, 4080, 4090)
    ]
    assert completed("plan explain a.plan.yaml --card my") == ["file my"]


def completed(words: str) -> list[str]:
    """The last word of ``words`` completed; names, without click's kinds."""
    from click.shell_completion import ShellComplete

    *before, last = words.split(" ")
    complete = ShellComplete(command, {}, "plan", "_PLAN_COMPLETE")
    return [f"{item.type} {item.value}" for item in complete.get_completions(before[1:], last)]


def plain(*words: str) -> list[str]:
    return [f"plain {word}" for word in words]


@pytest.mark.parametrize("verb", ["validate", "explain", "apply", "compile"])
def test_plan_files(verb: str) -> None:
    found = completed(f"plan {verb} ")
    assert found[:2] == plain("a.plan.yaml", "plans/c.plan.yaml")
    assert completed(f"plan {verb} pl")[:1] == plain("plans/c.plan.yaml")
    assert completed(f"plan {verb} plans/d") == plain("plans/deep/d.plan.yml")
    assert completed(f"plan {verb} nowhere/") == ["file nowhere/"]


def test_codes() -> None:
    assert completed("plan explain P30") == plain(*(code for code in all_codes() if code.startswith("P30")))
    assert completed("plan explain p302") == plain("P302")
    assert plain("unknown-component")[0] in completed("plan explain unkn")
    assert completed("plan explain ")[2:] == plain(*all_codes())


@pytest.mark.parametrize("words", ["translate", "translate --class", "validate --target", "explain --target"])
def test_classes(words: str) -> None:
    names = Catalogue(versions()[0]).names()
    assert completed(f"plan {words} ") == plain(*names)
    assert completed(f"plan {words} FluxK") == plain(*(name for name in names if name.startswith("FluxK")))
    assert completed(f"plan {words} ./fo") == ["dir ./fo"]


def test_verbs_and_plans_that_ship() -> None:
    assert completed("plan va") == plain("validate")
    assert completed("plan new sdxl-") == plain("sdxl-controlnet", "sdxl-img2img")


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_script_for_a_shell(
    shell: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("_PLAN_COMPLETE", f"{shell}_source")
    if shell == "bash":
        monkeypatch.setattr("click.shell_completion.BashComplete._check_version", staticmethod(lambda: None))
    with pytest.raises(SystemExit) as ended:
        run([])
    assert ended.value.code == 0
    assert "_PLAN_COMPLETE" in capsys.readouterr().out


def test_no_torch() -> None:
    code = (
        "import sys, os; os.environ.update(_PLAN_COMPLETE='bash_complete', COMP_CWORD='3',"
        " COMP_WORDS='plan validate --target Flux')\n"
        "from planner.cli.main import run\n"
        "try: run([])\n"
        "except SystemExit: pass\n"
        "assert 'torch' not in sys.modules and 'diffusers' not in sys.modules"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "plain,FluxPipeline" in done.stdout
