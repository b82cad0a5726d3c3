"""The README's commands and pictures are what the code prints."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import planner
from planner.diagnostics.render import text

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def block(mark: str) -> str:
    found = re.search(rf"<!-- {mark} -->\n```\w*\n(.*?)```", README, re.DOTALL)
    assert found is not None, mark
    return found[1]


def test_the_error_is_what_is_printed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    order = "order: text_encodr -> text_encoder_2 -> unet -> vae\n"
    Path("typo.plan.yaml").write_text(f"version: 1\npipeline: StableDiffusionXLPipeline\n{order}")
    result = planner.validate("typo.plan.yaml")
    assert text(result.errors, result.sources) == block("error")


def test_the_picture_is_what_is_printed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from planner.cli.main import run

    monkeypatch.chdir(ROOT)
    out = tmp_path / "quickstart-0.png"
    assert run(["apply", "plans/quickstart.plan.yaml", "--simulate", "--out", str(out)]) == 0
    printed = capsys.readouterr().out.replace(str(out), out.name)
    assert out.stat().st_size > 0

    def without_seconds(shown: str) -> list[str]:
        # Seconds differ, and what torch counts has in it what other tests left to collect.
        timed = re.compile(
            r"(  seconds|    \w+|  (?:load|apply) s +\?|  (?:allocated|reserved) MiB|80.00 GiB,) +\d+\.\d+\b"
        )
        return [timed.sub(r"\1", line) for line in shown.splitlines()]

    assert without_seconds(printed) == without_seconds(block("picture"))


def test_the_rules_are_explained_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from hollow import hollow_flux

    from planner.cli.main import run

    hollow_flux(tmp_path / "flux-dev")
    monkeypatch.chdir(tmp_path)
    Path("flux-int8.plan.yaml").write_text(
        "version: 1\n"
        "pipeline: {class: FluxPipeline, source: ./flux-dev, dtype: bfloat16}\n"
        "quantization:\n"
        "  - {component: transformer, match: transformer_blocks, backend: torchao, type: int8_weight_only}\n"
        "  - {component: transformer, backend: layerwise_cast}\n"
        "  - {component: text_encoder_2, backend: bitsandbytes, type: nf4}\n"
    )
    assert run(["explain", "flux-int8.plan.yaml"]) == 0
    printed = capsys.readouterr().out
    assert printed.split("\n\n")[1].rstrip() == block("rules").rstrip()


@pytest.mark.parametrize("text_of_plan", re.findall(r"```yaml\n(version: 1\n.*?)```", README, re.DOTALL))
def test_the_plans_are_valid(text_of_plan: str, tmp_path: Path) -> None:
    (tmp_path / "flux.plan.yaml").write_text((ROOT / "plans/flux.plan.yaml").read_text(encoding="utf-8"))
    path = tmp_path / "readme.plan.yaml"
    path.write_text(text_of_plan, encoding="utf-8")
    assert planner.validate(path).errors == ()


@pytest.mark.parametrize("part", re.findall(r"```yaml\n(?!version)(.*?)```", README, re.DOTALL))
def test_the_parts_are_valid(part: str, tmp_path: Path) -> None:
    cls = "StableDiffusionXLControlNetImg2ImgPipeline"
    path = tmp_path / "readme.plan.yaml"
    path.write_text(f"version: 1\npipeline: {cls}\n{part}", encoding="utf-8")
    said = {problem.code.name for problem in planner.validate(path).errors}
    assert said <= {"no-such-source"}  # a file that only its reader has


def test_the_script_in_ci_runs(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(ROOT)
    (script,) = re.findall(r"```python\n(import planner .*?)```", README, re.DOTALL)
    exec(script, {})
