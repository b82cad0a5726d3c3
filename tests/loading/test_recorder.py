"""A call as it goes over time, on the virtual accelerator."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import planner
from planner.api import attach
from planner.cli.main import run
from planner.loading.call import Outcome, attempt
from planner.loading.inputs import call_of
from planner.report.plot.chart import bands_of
from planner.virtual.device import SimDevice

FLUX = """\
version: 1
pipeline: {class: FluxPipeline, source: 'builtin:tiny-flux'}
components: POLICY
run: {prompt: a cat, num_inference_steps: 2, height: 64, width: 64, seed: 3}
"""


def recorded(
    folder: Path, policy: str = "{}", over_time: bool = True, device: Any = None
) -> tuple[Outcome, Any, Any]:
    path = folder / "x.plan.yaml"
    path.write_text(
        FLUX.replace("components: POLICY", "") if policy == "{}" else FLUX.replace("POLICY", policy)
    )
    plan = planner.load(path)
    pipe = planner.load_pipeline(plan)
    device = device or SimDevice()
    session = attach(plan, pipe, device)[0]
    outcome = attempt(session, plan, pipe, call_of(plan, pipe).arguments, over_time=over_time)
    session.remove()
    return outcome, session, device


@pytest.mark.parametrize("policy", ["{}", "{transformer: {policy: stream, resident: 50%}}"])
def test_what_is_recorded_is_what_is_measured(policy: str, tmp_path: Path) -> None:
    outcome, session, device = recorded(tmp_path, policy)
    course, measured = outcome.over_time, outcome.measured
    assert course is not None
    assert measured is not None
    copies = [i for i in course.intervals if i.lane == "copy"]
    assert sum(i.bytes for i in copies) == measured.moved >= device.ledger.moved  # which has no padding
    assert max(s.weights for s in course.samples) == measured.peak_weights
    assert max(s.weights + s.allocated for s in course.samples) == measured.peak_allocated
    assert [band.stage for band in bands_of(course)] == ["prompt", "denoise", "decode"]
    uses = [e for e in session.applied.last.events if e.do == "use"]
    computed = [i for i in course.intervals if i.lane == "compute"]
    assert [(i.component, i.stage) for i in computed] == [(e.component, e.stage) for e in uses]
    assert sum(use.times for use in course.uses) == len(uses)
    assert course.source == "measured"
    assert all(i.start <= i.end for i in course.intervals)
    moments = [s.at for s in course.samples]
    assert moments == sorted(set(moments))
    assert max(s.host for s in course.samples) > 0
    assert "copy" not in vars(device)
    assert session.applied.observers == []


def test_a_call_that_is_not_recorded_has_none(tmp_path: Path) -> None:
    assert recorded(tmp_path, over_time=False)[0].over_time is None


def test_the_picture_is_the_same_when_it_is_recorded(tmp_path: Path) -> None:
    with_it, without = recorded(tmp_path)[0], recorded(tmp_path, over_time=False)[0]
    a, b = (outcome.result.images[0].tobytes() for outcome in (with_it, without))
    assert a == b


def test_a_call_that_breaks_off_says_so(tmp_path: Path) -> None:
    path = tmp_path / "x.plan.yaml"
    path.write_text(FLUX.replace("components: POLICY\n", ""))
    plan = planner.load(path)
    pipe = planner.load_pipeline(plan)
    session = attach(plan, pipe, SimDevice())[0]

    def fails(*_: object) -> None:
        raise RuntimeError("no")

    pipe.transformer.register_forward_pre_hook(fails)
    outcome = attempt(session, plan, pipe, call_of(plan, pipe).arguments, over_time=True)
    session.remove()
    assert outcome.raised is not None
    assert outcome.over_time is not None
    assert outcome.over_time.notes[0] == "the call failed: this is what ran"
    assert outcome.over_time.intervals
    assert session.applied.observers == []


class Timed(SimDevice):
    """Keeps a time, as CUDA does: each mark is a millisecond after the last."""

    def __init__(self) -> None:
        super().__init__()
        self.lanes: list[str] = []

    def mark(self, lane: str = "compute") -> Any:
        self.lanes.append(lane)
        return len(self.lanes)

    def between(self, start: Any, end: Any) -> float:
        return (end - start) / 1e3


def test_a_device_that_keeps_time_is_asked_for_it(tmp_path: Path) -> None:
    device = Timed()
    outcome, _, _ = recorded(tmp_path, device=device)
    course = outcome.over_time
    assert course is not None
    assert not any("host" in note for note in course.notes)
    assert all(i.start % 1000 == 0 and i.end % 1000 == 0 for i in course.intervals)
    assert device.lanes.count("copy") % 2 == 0
    assert "copy" in device.lanes
    assert course.seconds * 1000 == pytest.approx(len(device.lanes) - 1)


def test_apply_draws_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "x.plan.yaml").write_text(FLUX.replace("components: POLICY\n", ""))
    words = [
        "apply",
        "x.plan.yaml",
        "--simulate",
        "--report",
        "r.json",
        "--plot",
        "x.html",
        "--trace",
        "t.json",
    ]
    assert run(words) == 0
    out = capsys.readouterr().out
    assert "wrote x.html" in out
    assert "wrote t.json" in out
    report = json.loads(Path("r.json").read_text())["measured"]
    traced = [e for e in json.loads(Path("t.json").read_text())["traceEvents"] if e["ph"] != "M"]
    counted = [e["args"] for e in traced if e["ph"] == "C" and e["name"] == "device"]
    assert max(c["weights"] for c in counted) == report["peak_weights"]
    assert max(c["allocated"] for c in counted) == report["peak_allocated"]
    moved = sum(e["args"].get("bytes", 0) for e in traced if e["ph"] == "X")
    assert moved == report["moved"]
    assert run([*words, "--out", "y.png"]) == 2
    assert "P940" in capsys.readouterr().out
    assert not Path("y.png").exists()


def test_two_files_of_one_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "x.plan.yaml").write_text(FLUX.replace("components: POLICY\n", ""))
    assert run(["apply", "x.plan.yaml", "--simulate", "--report", "a.json", "--trace", "a.json"]) != 0
    assert '--report and --trace are both "a.json"' in capsys.readouterr().out
    assert [path.name for path in tmp_path.iterdir()] == ["x.plan.yaml"]
