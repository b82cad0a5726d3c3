"""The bar of a run: exact steps, and everything as it was afterwards."""

from __future__ import annotations

import io
from types import SimpleNamespace
from typing import Any

import numpy
import pytest
import torch
from models import plan, stage, target
from pipelines.all import build, run, same
from pipelines.plans import plan_for
from pipelines.registry import one_a_family
from rich.console import Console
from tqdm import tqdm

from planner.graph.build import build_graph
from planner.loading.progress import progress, reading, totals
from planner.schedule.lower import lower
from planner.target.loaded import describe

SIZES = {"text_encoder": 10, "unet": 100, "vae": 20}


class Pipe:
    """Steps its bar as diffusers' pipelines do, with guidance: two uses of the UNet a step."""

    def __init__(self, session: Any, steps: int) -> None:
        self.session = session
        self.steps = steps

    def progress_bar(self, iterable: Any = None, total: int | None = None) -> Any:
        raise AssertionError("the pipeline's own bar is off")

    def tell(self, what: str, name: str) -> None:
        for observer in self.session.applied.observers:
            observer(what, name)

    def __call__(self) -> None:
        self.tell("stage", "prompt")
        self.tell("use", "text_encoder")
        with self.progress_bar(total=self.steps) as bar:
            for number in range(self.steps):
                if number == 0:
                    self.tell("stage", "denoise")
                self.tell("use", "unet")
                self.tell("use", "unet")
                bar.update()
                bar.set_postfix(loss=1)
        self.tell("stage", "decode")
        self.tell("use", "vae")


def session() -> Any:
    made = plan(
        [
            stage("prompt", "text_encoder"),
            stage("denoise", "unet", loop="steps"),
            stage("decode", "vae.decode"),
        ]
    )
    graph, _ = build_graph(made, target(SIZES))
    assert graph is not None
    schedule, _ = lower(graph)
    return made, SimpleNamespace(schedule=schedule, applied=SimpleNamespace(observers=[]))


def shown(steps: int) -> str:
    made, under = session()
    out = io.StringIO()
    pipe = Pipe(under, steps)
    with progress(under, made, pipe, Console(file=out, width=60, color_system=None)):
        pipe()
    assert under.applied.observers == []
    assert "progress_bar" not in pipe.__dict__
    return out.getvalue()


def test_a_line_a_stage_with_its_steps() -> None:
    lines = [line.split()[:2] for line in shown(4).strip().splitlines()]
    assert lines == [["prompt", "1/1"], ["denoise", "4/4"], ["decode", "1/1"]]


def test_steps_are_those_that_the_pipeline_makes() -> None:
    assert "denoise 3/3" in shown(3)


def test_all_is_as_it_was_after_an_exception() -> None:
    made, under = session()
    pipe = Pipe(under, 2)
    pipe.__dict__["progress_bar"] = mine = pipe.progress_bar
    with (
        pytest.raises(RuntimeError, match="in the middle"),
        progress(under, made, pipe, Console(file=io.StringIO())),
    ):
        raise RuntimeError("in the middle")
    assert under.applied.observers == []
    assert pipe.__dict__["progress_bar"] is mine


def test_an_iterable_is_counted_too() -> None:
    made, under = session()
    out = io.StringIO()
    pipe: Any = Pipe(under, 0)
    with progress(under, made, pipe, Console(file=out, width=60, color_system=None)):
        seen = []
        for item in pipe.progress_bar(["a", "b"]):
            pipe.tell("stage", "denoise")
            seen.append(item)
    assert seen == ["a", "b"]
    assert "denoise 2/2" in out.getvalue()


@pytest.mark.parametrize(
    "made",
    [
        lambda: [3, 4, 5],
        lambda: (n for n in (3, 4, 5)),
        lambda: range(3, 6),
        lambda: torch.tensor([3, 4, 5]),
        lambda: numpy.array([3, 4, 5]),
        lambda: torch.tensor([3]),
        lambda: torch.tensor([]),
        list,
    ],
    ids=["list", "generator", "range", "tensor", "array", "one", "none", "empty"],
)
def test_what_is_iterated_is_what_a_bar_of_tqdm_gives(made: Any) -> None:
    model, under = session()
    pipe: Any = Pipe(under, 0)
    with progress(under, model, pipe, Console(file=io.StringIO())):
        bar, usual = pipe.progress_bar(made()), tqdm(made(), disable=True)
        assert bar.total == usual.total
        assert [int(n) for n in bar] == [int(n) for n in usual]


def test_a_bar_has_whatever_a_bar_of_tqdm_has() -> None:
    made, under = session()
    pipe: Any = Pipe(under, 0)
    with progress(under, made, pipe, Console(file=io.StringIO())):
        with pipe.progress_bar(total=4) as bar:
            bar.update()
            bar.update(2)
            bar.set_description("a")
            bar.set_postfix_str("b")
            bar.write("", file=io.StringIO())
            bar.refresh()
            assert (bar.n, bar.total) == (3, 4)
        assert {name for name in dir(tqdm(disable=True)) if name[0] != "_"} <= {*dir(bar)}


def test_a_bar_that_is_dropped_late_ends_no_other() -> None:
    made, under = session()
    out = io.StringIO()
    pipe: Any = Pipe(under, 0)
    with progress(under, made, pipe, Console(file=out, width=60, color_system=None)):
        bar = pipe.progress_bar(total=9)
        bar = pipe.progress_bar(total=2)  # the first is deleted now
        pipe.tell("stage", "denoise")
        bar.update(2)
        bar.close()
    assert "denoise 2/2" in out.getvalue()


@pytest.mark.parametrize("name", one_a_family())
def test_a_class_has_its_result_with_a_bar(name: str) -> None:
    pipe = build(name)
    graph, _ = build_graph(plan_for(pipe), describe(pipe))
    assert graph is not None
    schedule, _ = lower(graph)
    under = SimpleNamespace(schedule=schedule, applied=SimpleNamespace(observers=[]))
    whole = run(pipe, name)
    with progress(under, plan_for(pipe), pipe, Console(file=io.StringIO())):
        assert same(run(pipe, name), whole)


def test_totals_are_counts_shares_of_the_steps_or_not_known() -> None:
    made, under = session()
    object.__setattr__(made, "run", {"num_inference_steps": 30})
    assert totals(under.schedule, made) == {"prompt": 1, "denoise": 30, "decode": 1}
    object.__setattr__(made, "run", {})
    assert totals(under.schedule, made) == {"prompt": 1, "denoise": None, "decode": 1}


@pytest.mark.parametrize(("total", "shown"), [(3 << 20, "weights 3.0/3.0 MiB"), (0, "")])
def test_a_bar_of_bytes(total: int, shown: str) -> None:
    console = Console(file=io.StringIO(), width=100)
    with reading(total, console) as tell:
        for _ in range(3):
            tell(total // 3)
    assert isinstance(console.file, io.StringIO)
    assert console.file.getvalue().startswith(shown)
    assert bool(console.file.getvalue().strip()) is bool(shown)


def test_colours_that_are_wanted_make_no_terminal_of_a_file(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    with reading(10) as tell:
        for _ in range(10):
            tell(1)
    written = capfd.readouterr().err
    assert len(written.splitlines()) == 1
    assert "\x1b" not in written
