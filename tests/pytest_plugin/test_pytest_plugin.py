"""``pytest --plans``: each plan a test. Driven with pytester, as its users drive it."""

from __future__ import annotations

import io
import os
import subprocess
import sys
import tomllib
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout
from importlib import import_module, metadata
from pathlib import Path
from types import SimpleNamespace

import pytest

from planner.cli.main import run

ROOT = Path(__file__).parents[2]
GOOD = "version: 1\npipeline: {class: StableDiffusionXLPipeline, source: 'builtin:tiny-sdxl'}\n"
AWAY = "version: 1\npipeline: {class: FluxPipeline, source: black-forest-labs/FLUX.1-dev}\n"
WRONG = GOOD + "order: text_encodr -> unet -> vae\n"
WARNS = GOOD + "order: unet -> text_encoder -> vae\n"
NAME = "offload-plans"
pytest_plugins = ["pytester"]


@pytest.fixture
def project(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> pytest.Pytester:
    path = [str(ROOT), os.environ.get("PYTHONPATH", "")]
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, path)))
    return pytester


def apart(project: pytest.Pytester, *arguments: str) -> pytest.RunResult:
    """pytest in a process of its own, as its users run it."""
    return project.runpytest_subprocess(*ours(), *arguments)


def within(project: pytest.Pytester, *arguments: str) -> pytest.RunResult:
    """pytest in this process, which has everything imported."""
    return project.runpytest_inprocess(*ours(), *arguments)


def ours() -> tuple[str, ...]:
    """Where the entry point is not installed, what loads the plugin as if it were."""
    there = NAME in metadata.entry_points(group="pytest11").names
    return () if there else ("-p", "planner.pytest_plugin")


def plans(project: pytest.Pytester, **texts: str) -> None:
    folder = project.mkdir("plans")
    for name, text in texts.items():
        (folder / f"{name}.plan.yaml").write_text(text, encoding="utf-8")


def test_the_entry_point_leads_to_the_plugin() -> None:
    said = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    module = import_module(said["project"]["entry-points"]["pytest11"][NAME])
    assert hasattr(module, "pytest_addoption")


def test_each_plan_is_a_test(project: pytest.Pytester) -> None:
    plans(project, good=GOOD, wrong=WRONG, away=AWAY)
    project.makepyfile("def test_mine(): pass")
    result = apart(project, "--plans", "plans/", "-v")
    result.assert_outcomes(passed=3, failed=1)
    result.stdout.fnmatch_lines(
        [
            "*plans/away.plan.yaml::validate PASSED*",
            "*plans/good.plan.yaml::validate PASSED*",
            "*plans/wrong.plan.yaml::validate FAILED*",
            '*wrong.plan.yaml:3:8: "StableDiffusionXLPipeline" has no component "text_encodr" *P302*',
            "3 | order: text_encodr -> unet -> vae",
            '  = did you mean "text_encoder"?',
        ]
    )
    result.stdout.no_fnmatch_line("*Traceback*")
    result.stdout.no_fnmatch_line("*runtest*")


def test_one_plan_by_its_id_a_glob_and_a_file_named_twice(project: pytest.Pytester) -> None:
    plans(project, good=GOOD, wrong=WRONG)
    found = within(project, "--plans", "plans/g*.plan.yaml", "--plans", "plans/good.plan.yaml")
    found.assert_outcomes(passed=1)
    only = within(project, "--plans", "plans", "plans/good.plan.yaml::validate", "-k", "good")
    only.assert_outcomes(passed=1, deselected=1)


def test_without_the_option_nothing_is_collected(project: pytest.Pytester) -> None:
    plans(project, wrong=WRONG)
    project.makepyfile("def test_mine(): pass")
    apart(project).assert_outcomes(passed=1)


def test_strict_and_a_card(project: pytest.Pytester) -> None:
    plans(project, warns=WARNS)
    within(project, "--plans", "plans").assert_outcomes(passed=1)
    within(project, "--plans", "plans", "--plans-strict").assert_outcomes(failed=1)
    small = within(project, "--plans", "plans", "--plans-card", "64KiB")
    small.assert_outcomes(failed=1)
    small.stdout.fnmatch_lines(["*P60*"])


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--plans", "nowhere"], "*--plans: no file *nowhere"),
        (["--plans", "empty"], '*--plans: no file named [*].plan.yaml in *empty"'),
        (["--plans", "plans", "--plans-card", "12"], '*expected a size such as 12GiB, found "12"'),
    ],
)
def test_usage(project: pytest.Pytester, arguments: list[str], said: str) -> None:
    plans(project, good=GOOD)
    project.mkdir("empty")
    result = within(project, *arguments)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines([said])


def here(command: list[str], **_: object) -> subprocess.CompletedProcess[str]:
    """In the place of ``subprocess.run``: a command of ``plan`` in this process, which has torch already."""
    assert command[:3] == [sys.executable, "-m", "planner"]
    out, err = io.StringIO(), io.StringIO()
    with redirect_stdout(out), redirect_stderr(err):
        code = run(command[3:])
    return subprocess.CompletedProcess(command, code, out.getvalue(), err.getvalue())


# In a process of its own planner/docs/ci.md has it run in every run of the tests.
@pytest.mark.parametrize("way", [within, pytest.param(apart, marks=pytest.mark.wide)])
def test_a_plan_is_run_where_its_weights_are_here(
    way: Callable[..., pytest.RunResult], project: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    good = GOOD + "run: {prompt: a cat, num_inference_steps: 1, height: 64, width: 64}\n"
    plans(project, good=good, away=AWAY, fails=good.replace("height: 64", "height: 63"), wrong=WRONG)
    if way is within:
        monkeypatch.setattr("planner.pytest_plugin.subprocess", SimpleNamespace(run=here))
    result = way(project, "--plans", "plans", "--plans-simulate", "-rs", "-v")
    result.stdout.fnmatch_lines_random(
        [
            "*good.plan.yaml::validate PASSED*",
            "*good.plan.yaml::simulate PASSED*",
            "*fails.plan.yaml::validate PASSED*",
            "*fails.plan.yaml::simulate FAILED*",
            "plan apply --simulate ended with 4",
            '*away.plan.yaml*"black-forest-labs/FLUX.1-dev" is not on this disk',
            "*wrong.plan.yaml*the plan is wrong",
        ]
    )
    assert not list(project.path.glob("*.png"))
