"""``plan apply`` from the file to the picture, and ``planner.apply`` in a script."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import torch

import planner
from planner.cards.shipped import shipped_card
from planner.cli.main import run
from planner.document.schema import schema_text
from planner.loading.inputs import call_of
from planner.loading.outputs import save
from planner.schedule.card import SIMULATED
from planner.virtual.device import SimDevice

PLANS = Path(__file__).parents[2] / "plans"
FLUX = "version: 1\npipeline: {class: FluxPipeline, source: 'builtin:tiny-flux'}\n"
RUN = "run: {prompt: a cat, num_inference_steps: 2, height: 64, width: 64, seed: 3}\n"


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "x.plan.yaml").write_text(FLUX + RUN)
    return tmp_path


@pytest.mark.parametrize("name", ["quickstart", "tiny-flux"])
def test_the_picture_is_that_of_the_whole_pipeline(name: str, here: Path) -> None:
    path = PLANS / f"{name}.plan.yaml"
    assert run(["apply", str(path), "--simulate", "--out", "planned.png", "--report", "r.json"]) == 0
    plan = planner.load(path)
    pipe = planner.load_pipeline(plan)
    SimDevice()
    pipe.to("sim:0")
    call = call_of(plan, pipe)
    (whole,) = save(pipe(**call.arguments), plan, "whole.png", seed=call.seed)
    assert Path("planned.png").read_bytes() == whole.read_bytes()
    report = json.loads(Path("r.json").read_text())
    jsonschema.validate(report, json.loads(schema_text("report.v1.schema.json")))
    assert report["measured"]["misses"] == []
    assert report["measured"]["peak_weights"] == report["promised"]["peak_weights"]
    assert report["measured"]["moved"] == report["promised"]["moved"]


@pytest.fixture
def on_a_card(monkeypatch: pytest.MonkeyPatch) -> None:
    """A virtual device of which a card's rates are known."""
    card = replace(SIMULATED, data=shipped_card("h200"))
    monkeypatch.setattr("planner.cli.apply._device", lambda plan, simulate: (SimDevice(), card))


def test_what_loading_and_applying_take_beside_what_was_predicted(
    here: Path, on_a_card: None, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["apply", "x.plan.yaml", "--simulate", "--out", "x.png", "--report", "r.json"]) == 0
    out = capsys.readouterr().out
    report = json.loads(Path("r.json").read_text())
    jsonschema.validate(report, json.loads(schema_text("report.v1.schema.json")))
    said, took = report["promised"], report["measured"]
    assert min(said["load"], said["apply"], took["load"], took["apply"]) > 0
    start = planner.compile("x.plan.yaml", card="h200").start
    assert start is not None
    assert start.load.seconds == pytest.approx(said["load"], abs=1e-5)
    assert start.apply.seconds == pytest.approx(said["apply"], rel=0.02)
    assert out.count("predicted: load ") == 1
    for key in ("load", "apply"):
        assert re.search(rf"^  {key} s +{said[key]:.1f} +{took[key]:.1f}$", out, re.M), out


def test_what_is_converted_is_not_predicted_once_it_was_loaded(here: Path, on_a_card: None) -> None:
    half = ["--set", "pipeline.dtype=bfloat16", "--report", "r.json", "--out", "x.png"]
    assert run(["apply", "x.plan.yaml", "--simulate", *half]) == 0
    report = json.loads(Path("r.json").read_text())
    assert report["promised"]["load"] is None
    assert report["promised"]["apply"] > 0


def test_a_run_of_which_no_rates_are_known_is_timed_all_the_same(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["apply", "x.plan.yaml", "--simulate", "--out", "x.png", "--report", "r.json"]) == 0
    assert "predicted" not in capsys.readouterr().out
    report = json.loads(Path("r.json").read_text())
    assert report["promised"]["load"] is report["promised"]["apply"] is None
    assert min(report["measured"]["load"], report["measured"]["apply"]) > 0


def test_a_dry_run_says_what_both_will_take(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["apply", "x.plan.yaml", "--dry-run", "--card", "h200"]) == 0
    assert "  predicted: load 0." in capsys.readouterr().out


def test_a_video(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["apply", str(PLANS / "tiny-wan.plan.yaml"), "--simulate"]) == 0
    assert (here / "tiny-wan-0.mp4").stat().st_size > 0
    assert "wrote tiny-wan-0.mp4" in capsys.readouterr().out


def test_a_use_that_did_not_happen_is_a_departure(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The same component is used in another stage, where the plan has it too."""
    order = "order=[vae, text_encoder, text_encoder_2, transformer, vae]"
    assert run(["apply", "x.plan.yaml", "--simulate", "--out", "x.png", "--set", order]) == 0
    out = capsys.readouterr().out
    assert 'order    1 departure\n           vae in "vae" did not run' in out
    assert "P761" in out
    assert "P759" not in out


def test_streams(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["apply", "x.plan.yaml", "--simulate"]) == 0
    out, err = capsys.readouterr()
    assert "denoise" in err
    assert "━" in err
    assert "━" not in out
    assert "wrote x-3.png   seed 3" in out
    assert run(["apply", "x.plan.yaml", "--simulate"]) == 0
    assert "wrote x-3-2.png" in capsys.readouterr().out


def test_a_dry_run_makes_nothing(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["apply", "x.plan.yaml", "--simulate", "--dry-run"]) == 0
    assert "transformer" in capsys.readouterr().out
    assert [p.name for p in here.iterdir()] == ["x.plan.yaml"]


def test_an_argument_that_the_pipeline_does_not_take(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["apply", "x.plan.yaml", "--simulate", "--set", "run.promt=a dog"]) == 1
    assert 'did you mean "prompt"?' in capsys.readouterr().out


def test_a_pipeline_that_raises(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["apply", "x.plan.yaml", "--simulate", "--set", "run.max_sequence_length=9999"]) == 4
    out = capsys.readouterr().out
    assert "P004 run-failed" in out
    assert "9999" in out
    assert not list(here.glob("*.png"))


def test_a_budget_that_activations_pass(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["apply", "x.plan.yaml", "--simulate", "--set", "budget.vram=5MiB"]) == 5
    out = capsys.readouterr().out
    assert "P005 over-budget" in out
    assert "over budget by" in out
    assert (here / "x-3.png").exists()


def test_a_budget_that_the_weights_pass(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    less = ["--set", "budget.vram=4MiB", "--set", "components.transformer=offload"]
    assert run(["apply", "x.plan.yaml", "--simulate", *less]) == 1
    assert "P601 component-too-large" in capsys.readouterr().out


def test_what_does_not_fit_whole_streams(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["apply", "x.plan.yaml", "--simulate", "--out", "whole.png"]) == 0
    less = ["--set", "budget.vram=4MiB", "--report", "r.json"]
    assert run(["apply", "x.plan.yaml", "--simulate", "--out", "streamed.png", *less]) in (0, 5)
    assert "stream" in capsys.readouterr().out
    assert (here / "whole.png").read_bytes() == (here / "streamed.png").read_bytes()
    report = json.loads(Path("r.json").read_text())
    assert report["measured"]["misses"] == []
    assert report["measured"]["peak_weights"] == report["promised"]["peak_weights"] <= 4 << 20


def test_a_pipeline_of_ones_own(here: Path) -> None:
    (here / "mine.py").write_text(
        "import planner\ndef make():\n    return planner.load_pipeline('x.plan.yaml')\n"
    )
    own = ["--from", "mine:make", "--out", "mine.png", "--report", "r.json"]
    assert run(["apply", "x.plan.yaml", "--simulate", *own]) == 0
    took = json.loads(Path("r.json").read_text())["measured"]
    assert took["load"] is None, "it is their code that loads it"
    assert took["apply"] > 0
    assert run(["apply", "x.plan.yaml", "--simulate", "--out", "ours.png"]) == 0
    assert (here / "mine.png").read_bytes() == (here / "ours.png").read_bytes()


def test_an_output_that_cannot_be(here: Path) -> None:
    assert run(["apply", "x.plan.yaml", "--simulate", "--out", "x.docx"]) == 2
    assert run(["apply", "x.plan.yaml", "--simulate", "--report", "no/such/folder/r.json"]) == 4


@pytest.mark.parametrize(
    "rule",
    [
        "backend: torchao, type: int8_weight_only",
        "backend: quanto, type: int8",
        "backend: layerwise_cast, storage_dtype: float8_e4m3fn",
    ],
)
def test_a_quantized_component(here: Path, rule: str) -> None:
    assert run(["apply", "x.plan.yaml", "--simulate", "--out", "plain.png"]) == 0
    (here / "q.plan.yaml").write_text(FLUX + RUN + f"quantization: [{{component: transformer, {rule}}}]\n")
    assert run(["apply", "q.plan.yaml", "--simulate", "--out", "q.png", "--report", "q.json"]) == 0
    assert (here / "q.png").read_bytes() != (here / "plain.png").read_bytes()
    report = json.loads((here / "q.json").read_text())
    assert report["measured"]["misses"] == []
    assert report["measured"]["peak_weights"] == report["promised"]["peak_weights"]


def test_missing_packages_are_named(
    here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("planner.loading.packages._installed", lambda name: None)
    assert run(["apply", "x.plan.yaml", "--simulate"]) == 4
    out = capsys.readouterr().out
    assert 'package "torch" is missing' in out
    assert "pip install 'offload-planner[apply]'" in out


class TestScript:
    """The one line that changes in a user's own script."""

    def pipe(self) -> Any:
        return planner.load_pipeline("x.plan.yaml")

    def image(self, pipe: Any) -> torch.Tensor:
        made = pipe("a cat", num_inference_steps=2, height=64, width=64, output_type="pt",
                    generator=torch.Generator().manual_seed(0)).images  # fmt: skip
        return torch.as_tensor(made).cpu()

    def test_apply_and_remove(self, here: Path) -> None:
        plain = self.image(self.pipe())
        pipe = self.pipe()
        session = planner.apply("x.plan.yaml", pipe, device="sim:0")
        assert torch.equal(self.image(pipe), plain)
        report = session.report()
        assert report.measured.departures == ()
        assert "transformer" in str(report)
        session.remove()
        assert torch.equal(self.image(pipe), plain)

    def test_as_a_context_manager(self, here: Path) -> None:
        pipe = self.pipe()
        cls = type(pipe)
        with planner.apply("x.plan.yaml", pipe, device="sim:0") as session:
            assert type(pipe) is not cls
            assert session.resident() == ()
        assert type(pipe) is cls

    def test_another_dtype_is_an_error_that_changes_nothing(self, here: Path) -> None:
        pipe = self.pipe()
        before = dict(pipe.__dict__)
        with pytest.raises(planner.PlanError) as caught:
            planner.apply("x.plan.yaml", pipe, device="sim:0", overrides=["pipeline.dtype=float16"])
        assert "dtype-differs" in [d.code.name for d in caught.value.diagnostics]
        assert pipe.__dict__ == before

    def test_a_report_before_a_call(self, here: Path) -> None:
        with (
            planner.apply("x.plan.yaml", self.pipe(), device="sim:0") as session,
            pytest.raises(RuntimeError),
        ):
            session.report()

    def test_what_is_not_made_yet_says_so(self, here: Path) -> None:
        with pytest.raises(planner.PlanError, match="not made yet"):
            planner.simulate("x.plan.yaml")


@pytest.mark.parametrize("how", [["--simulate"], ["--simulate", "--dry-run"]])
@pytest.mark.parametrize("name", ["none.png", "notes.txt", "folder"])
def test_an_image_that_cannot_be_read_is_told_before_weights_are(
    how: list[str], name: str, here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from planner.loading import pipeline

    def never(*_: object, **__: object) -> None:
        raise AssertionError("weights were read")

    monkeypatch.setattr(pipeline, "load_pipeline", never)
    (here / "notes.txt").write_text("no image")
    (here / "folder").mkdir()
    plan = here / "image.plan.yaml"
    source = "pipeline: {class: StableDiffusionXLImg2ImgPipeline, source: 'builtin:tiny-sdxl'}"
    plan.write_text(f"version: 1\n{source}\nrun: {{prompt: x, image: {name}}}\n")
    assert run(["apply", str(plan), *how]) == 4
    assert f'image.plan.yaml:3:25: cannot read "{name}"' in capsys.readouterr().out


def test_what_a_call_that_raised_has_not_is_told(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path("x.plan.yaml").write_text(FLUX + "run: {num_inference_steps: 2, height: 64, width: 64}\n")
    assert run(["apply", "x.plan.yaml", "--simulate"]) == 4
    assert "= run has no prompt: --set run.prompt=TEXT" in capsys.readouterr().out
    assert run(["apply", "x.plan.yaml", "--simulate", "--set", "run.prompt=a cat"]) == 0
