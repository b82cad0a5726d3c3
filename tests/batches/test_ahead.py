"""What a dry run tells is what the run then does, and by which rule where it cannot be known."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import planner
from planner.batches import foresee, shapes
from planner.batches.ahead import Ahead
from planner.batches.worker import Worker
from planner.cards.shipped import card_at
from planner.cli.main import run
from planner.schedule.card import Card, imagined, imagined_as

CLASSES = {
    "tiny-flux": ("FluxPipeline", ("text_encoder", "text_encoder_2", "transformer", "vae")),
    "tiny-sdxl": ("StableDiffusionXLPipeline", ("text_encoder", "text_encoder_2", "unet", "vae")),
    "tiny-wan": ("WanPipeline", ("text_encoder", "transformer", "vae")),
}
OFTEN = {("tiny-flux", "stream"), ("tiny-sdxl", "offload")}
"""All others are ``wide``."""
EACH = [
    pytest.param(name, policy, marks=[] if (name, policy) in OFTEN else [pytest.mark.wide])
    for name in CLASSES
    for policy in ("offload", "stream", "resident")
]
RUN = {"prompt": "a cat", "num_inference_steps": 1, "height": 64, "width": 64}
SHIPPED = """\
version: 1
pipeline: {class: FluxPipeline, source: black-forest-labs/FLUX.1-dev, dtype: bfloat16}
budget: {vram: 11GiB}
run: {prompt: a cat, num_inference_steps: 28, height: 1024, width: 1024}
"""
H200 = imagined_as(card_at("h200"))


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def plan(name: str, policy: str | None = None, budget: str | None = None) -> None:
    """``x.plan.yaml`` of a built-in pipeline."""
    cls, parts = CLASSES[name]
    said: dict[str, Any] = {"version": 1, "pipeline": {"class": cls, "source": f"builtin:{name}"}, "run": RUN}
    if name == "tiny-wan":
        said["run"] = {**RUN, "num_frames": 5}
    if policy is not None:
        said["components"] = {part: {"policy": policy} for part in parts}
    if budget is not None:
        said["budget"] = {"vram": budget}
    Path("x.plan.yaml").write_text(json.dumps(said))


def rows(*values: dict[str, Any]) -> None:
    """``r.jsonl``, each with an id."""
    Path("r.jsonl").write_text("\n".join(json.dumps({"id": f"r{n}", **v}) for n, v in enumerate(values)))


def ahead(card: Card | None = None, **options: Any) -> Ahead:
    made = planner.batch(
        "x.plan.yaml", "r.jsonl", "out", simulate=card is None, dry_run=True, card=card, **options
    )
    assert made.ahead is not None
    return made.ahead


def simulated() -> list[tuple[int, int]]:
    """Peak and moved bytes of each row."""
    planner.batch("x.plan.yaml", "r.jsonl", "out", simulate=True)
    found = map(json.loads, Path("out/results.jsonl").read_text().splitlines())
    return [(one["peak"], one["moved"]) for one in found]


@pytest.mark.parametrize(("name", "policy"), EACH)
def test_weights_and_moves_are_those_of_a_run(here: Path, name: str, policy: str) -> None:
    plan(name, policy)
    rows({}, {})
    told, simply = ahead(H200), ahead()
    assert told.found == simply.found == ()
    assert told.peak is not None
    assert told.peak > H200.context > 0  # and weights, activations
    (first, moved), (later, again) = simulated()
    assert told.weights == simply.weights == max(first, later) > 0
    assert (told.moved, told.later) == (moved, again)
    assert simply.moved == moved
    assert (moved > 0) is (policy != "resident")


@pytest.mark.wide
@pytest.mark.parametrize("budget", ["7600KiB", "6MiB", "4500KiB"])
def test_weights_under_a_budget_are_those_of_a_run(here: Path, budget: str) -> None:
    plan("tiny-sdxl", budget=budget)
    rows({}, {})
    told = ahead()
    assert {peak for peak, _ in simulated()} == {told.weights}


def test_rows_of_equal_shape_are_traced_once(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plan("tiny-flux")
    rows({}, {"prompt": "a longer prompt"}, {"height": 128}, {"num_inference_steps": 3}, {"seed": 4})
    traced: list[tuple[Any, ...]] = []

    def profile(plan: planner.Plan, **options: Any) -> Any:
        traced.append(tuple(plan.run.get(key) for key in ("prompt", "height", "num_inference_steps")))
        return planner.api.profile(plan, **options)

    monkeypatch.setattr(foresee, "profile", profile)
    told = ahead(H200)
    assert traced == [("a cat", 128, 1), ("a cat", 64, 3), ("a longer prompt", 64, 1)]
    assert told.largest == "r2"
    assert told.seconds is not None
    assert "rows' time: 5 as predicted; loading the pipeline is not among it" in told.notes
    monkeypatch.setattr(shapes, "MOST", 1)
    traced.clear()
    few = ahead(H200)
    assert len(traced) == 1
    assert few.peak == told.peak
    assert "1 of 3 shapes of rows were traced, 8 are at the most" in few.notes
    assert any("4 in proportion to the next larger shape" in note for note in few.notes)


def test_seconds_are_of_all_rows_over_the_workers(here: Path) -> None:
    plan("tiny-flux")
    rows({})
    one = ahead(H200).seconds
    rows(*[{}] * 9)
    nine, by_three = ahead(H200).seconds, ahead(H200, workers=3).seconds
    assert one is not None
    assert nine is not None
    assert by_three is not None
    row = (nine - one) / 8  # what only the first call of a worker takes is in each once
    assert 0 < row <= one
    assert by_three == pytest.approx(one + 2 * row)


def test_what_is_known_without_rates(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    plan("tiny-flux")
    Path("r.jsonl").write_text('{"id": "a"}\n{"id": "big", "height": 128}\n')
    told = ahead()
    assert (told.largest, told.peak, told.seconds) == ("big", None, None)
    assert told.weights == 8327168
    assert told.disk == round((64 + 128) * 64 * 3 * 1.01)
    one = ahead(limit=1)
    assert one.largest == "big"  # which a run with this limit begins with
    Path("out").mkdir()
    assert replace(ahead(limit=1), free=0) == replace(one, free=0)
    assert (
        run(["batch", "x.plan.yaml", "--inputs", "r.jsonl", "--out", "out", "--simulate", "--dry-run"]) == 0
    )
    shown = capsys.readouterr().out
    assert 'the largest is "big", at its peak 7.94 MiB of weights on the device' in shown
    assert "no rates of virtual accelerator are known" in shown
    assert planner.batch("x.plan.yaml", "r.jsonl", "out", simulate=True, limit=1).done == 1
    left = ahead()
    took = json.loads(Path("out/results.jsonl").read_text().splitlines()[0])["seconds"]
    assert left.seconds == took
    assert left.disk == Path("out/big.png").stat().st_size
    assert (
        "rows' time: 1 as finished rows of other shapes; loading the pipeline is not among it" in left.notes
    )


def test_finished_rows_tell_of_those_of_their_shape(here: Path) -> None:
    plan("tiny-flux")
    rows({})
    assert planner.batch("x.plan.yaml", "r.jsonl", "out", simulate=True).done == 1
    took = json.loads(Path("out/results.jsonl").read_text())["seconds"]
    rows({}, {"prompt": "a dog"}, {"seed": 3})
    assert ahead().seconds == 2 * took


def test_a_call_that_cannot_be_traced(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def profile(plan: planner.Plan, **options: Any) -> Any:
        raise RuntimeError("no\n meta kernel")

    plan("tiny-flux")
    rows({})
    monkeypatch.setattr(foresee, "profile", profile)
    told = ahead(H200)
    assert (told.peak, told.weights, told.seconds) == (None, 8327168, None)
    assert told.notes[-1] == "activations are not predicted: no meta kernel"
    assert "the peak is of weights alone, and activations come on top" in told.notes[0]


def test_the_largest_call_alone_cannot_be_traced(here: Path) -> None:
    """Of a hub's model that ships, a call of another size, without its configs."""
    Path("x.plan.yaml").write_text(SHIPPED)
    rows({}, {"height": 1536, "width": 1536})
    told = ahead(imagined_as(card_at("rtx-4070")))
    assert (told.largest, told.peak) == ("r1", None)
    assert told.notes[0].endswith('the call of "r1" is not traced')
    assert told.notes[-1].startswith("activations are not predicted: ")
    rows({})
    told = ahead(imagined_as(card_at("rtx-4070")))
    assert told.peak is not None
    assert told.seconds is not None


def test_a_row_that_does_not_fit(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    plan("tiny-flux")
    rows({}, {"height": 4096, "width": 4096})
    told = ahead(imagined(2 << 30))
    assert {d.code.id for d in told.found} >= {"P607"}
    assert (told.largest, told.peak, told.weights) == ("r1", None, None)
    command = ["batch", "x.plan.yaml", "--inputs", "r.jsonl", "--out", "out"]
    assert run([*command, "--card", "h200"]) == 2
    assert "--card is for --dry-run" in capsys.readouterr().err
    with pytest.raises(planner.PlanError, match="a card is for a dry run"):
        planner.batch("x.plan.yaml", "r.jsonl", "out", card=H200)


def test_pictures_decide_a_shape_by_their_size(here: Path) -> None:
    from PIL import Image

    plan("tiny-flux")
    made = planner.load("x.plan.yaml")
    for name, size in (("a", (8, 8)), ("b", (8, 8)), ("c", (8, 16))):
        Image.new("RGB", size).save(f"{name}.png")
    shape = {name: shapes.shape_of(made, {"image": f"{name}.png", "seed": 1}) for name in "abc"}
    assert shape["a"] == shape["b"] != shape["c"]
    assert shapes.shape_of(made, {"image": ["a.png", "c.png"]}) != shape["a"]


def test_a_cluster_whose_cards_nobody_knows(here: Path) -> None:
    plan("tiny-flux")
    rows({})
    made = planner.batch("x.plan.yaml", "r.jsonl", "out", engine="ray", dry_run=True)
    assert made.ahead is not None
    assert made.ahead.peak is None
    assert made.ahead.notes[0].endswith("activations come on top: no card is known")
    made = planner.batch("x.plan.yaml", "r.jsonl", "out", engine="ray", dry_run=True, card=H200)
    assert made.ahead is not None
    assert made.ahead.peak is not None


def test_a_worker_on_cuda_is_told_of_the_largest_row(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a GPU: what it would be told, and that a session that is told of it makes the same picture."""
    plan("tiny-flux")
    rows({}, {"height": 128})
    assert planner.batch("x.plan.yaml", "r.jsonl", "out", simulate=True).done == 2
    pictures = [Path(f"out/r{n}.png").read_bytes() for n in (0, 1)]
    told: list[foresee.Foretold] = []
    foretold = Worker._foretold

    def on_cuda(self: Worker) -> foresee.Foretold | None:
        assert foretold(self) is None  # it is simulated
        with monkeypatch.context() as there:
            there.setattr("planner.session.machine.card_on", lambda device: H200)
            there.setattr(self, "device", SimpleNamespace(name=SimpleNamespace(type="cuda")))
            found = foretold(self)
        assert found is not None
        told.append(found)
        return found

    monkeypatch.setattr(Worker, "_foretold", on_cuda)
    assert planner.batch("x.plan.yaml", "r.jsonl", "o2", simulate=True).done == 2
    (one,) = told
    assert one.call is not None
    assert one.call.arguments["height"] == 128
    assert one.card == H200
    assert [Path(f"o2/r{n}.png").read_bytes() for n in (0, 1)] == pictures
