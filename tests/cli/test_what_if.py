"""``plan explain --set KEY=A,B``: a line for each value."""

from __future__ import annotations

from pathlib import Path

import pytest

from planner.cli.main import run

PLAN = str(Path(__file__).parents[2] / "plans" / "quickstart.plan.yaml")


def test_a_line_for_each_value(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["explain", PLAN, "--card", "24GiB", "--set", "budget.vram=900MiB,2GiB,1MiB"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split()[:3] == ["budget.vram", "weights", "moved"]
    assert [line.split()[0] for line in lines[1:4]] == ["900MiB", "2GiB", "1MiB"]
    assert "P60" in lines[3] + "".join(lines[4:])


def test_of_what_does_not_compile_the_error_is_told_not_a_note(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """In 2 GiB, that a component streams is a note before the error."""
    path = tmp_path / "x.plan.yaml"
    source = "black-forest-labs/FLUX.1-dev"
    path.write_text(
        f"version: 1\npipeline: {{class: FluxPipeline, source: {source}, dtype: bfloat16}}\n"
        "run: {prompt: a cat}\n"
    )
    sets = ["--set", "budget.vram=12GiB,2GiB", "--set", "idle=release,keep"]
    assert run(["explain", str(path), "--card", "rtx-4090", *sets]) == 0
    for line in capsys.readouterr().out.splitlines()[3:5]:
        assert line.startswith("2GiB")
        assert "P6" in line
        assert "P501" not in line


def test_each_with_each(capsys: pytest.CaptureFixture[str]) -> None:
    sets = ["--set", "idle=keep,release", "--set", "budget.vram=1GiB,2GiB"]
    assert run(["explain", PLAN, "--card", "24GiB", *sets]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split()[:2] == ["idle", "budget.vram"]
    assert [line.split()[0] for line in lines[1:5]] == ["keep", "keep", "release", "release"]


def test_what_loading_and_applying_take_stands_in_each_line(capsys: pytest.CaptureFixture[str]) -> None:
    sets = ["--set", "components.vae=resident,offload", "--set", "pipeline.dtype=float32,bfloat16"]
    assert run(["explain", PLAN, "--card", "h200", *sets]) == 0
    head, *lines = capsys.readouterr().out.splitlines()[:5]
    assert head.split()[-2:] == ["load", "apply"]
    rows = [line.split()[-2:] for line in lines]
    assert [load == "?" for load, _ in rows] == [False, True] * 2, "files in float32 are converted"
    assert all(float(apply) > 0 for _, apply in rows)
    assert run(["explain", PLAN, "--card", "h200"]) == 0
    assert f"predicted: load {rows[0][0]} s, apply " in capsys.readouterr().out
    assert run(["explain", PLAN, "--card", "24GiB"]) == 0
    assert "predicted" not in capsys.readouterr().out


def test_a_comma_that_a_value_has(capsys: pytest.CaptureFixture[str]) -> None:
    sets = ["--set", 'run.prompt="a fox, red"', "--set", "exclude=[vae,unet]"]
    assert run(["explain", PLAN, "--card", "24GiB", *sets]) == 0
    assert "stage" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("key", "values"),
    [
        ("run.height", ["64", "128"]),
        ("run.guidance_scale", ["1.0", "2"]),
        ("pipeline.dtype", ["float16", "bfloat16"]),
        ("pipeline.class", ["StableDiffusionXLPipeline", "StableDiffusionXLPAGPipeline"]),
        ("components.unet.policy", ["stream", "resident"]),
    ],
)
def test_values_of_any_key(key: str, values: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """What only the call refuses, too; a text that it takes stays one beside them."""
    sets = ["--set", f"{key}={','.join(values)}", "--set", "run.prompt=a,b", "--set", "budget.vram=1GiB,2GiB"]
    assert run(["explain", PLAN, "--card", "24GiB", *sets]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split()[:3] == [key, "budget.vram", "weights"]
    assert [line.split()[0] for line in lines[1:5]] == [v for v in values for _ in range(2)]


def test_what_is_wrong_is_wrong(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["explain", PLAN, "--set", "budget.vrm=1GiB"]) == 1
    assert "P201" in capsys.readouterr().out
    assert run(["explain", PLAN, "--card", "24GiB", "--set", "idle=keep,release", "--plot", "x.html"]) == 2
    assert "--plot" in capsys.readouterr().err


def test_validate_checks_activations_beside_weights(capsys: pytest.CaptureFixture[str]) -> None:
    small = ["validate", PLAN, "--card", "24GiB", "--set", "budget.vram=780MiB"]
    assert run(small) == 0
    assert run([*small, "--activations"]) == 1
    assert "P607" in capsys.readouterr().out
    without = ["validate", PLAN, "--activations", "--set", "pipeline.source=null"]
    assert run(without) != 0
    assert "P903" in capsys.readouterr().out
