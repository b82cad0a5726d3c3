"""The operator's picture, byte for byte, at 80 columns and without colour."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from models import MIB, plan, stage, target
from rich.text import Text

from planner.graph.build import build_graph
from planner.plan.model import Amount, Plan
from planner.predict.start import Figure, Start
from planner.report.build import report_of
from planner.report.model import BudgetInfo, DeviceInfo, Measured, Report
from planner.report.render import (
    host_words,
    measured_table,
    picture,
    report_text,
    timeline_table,
    to_text,
    wrote_line,
)
from planner.report.units import unit_for
from planner.report.uses import start_words
from planner.schedule.lower import lower
from planner.schedule.model import Schedule
from planner.schedule.timeline import Row, timeline

FLUX = {"text_encoder": 235, "text_encoder_2": 9083, "transformer": 22702, "vae": 160}
CARD = DeviceInfo(name="cuda:0", kind="NVIDIA GeForce RTX 4090", total=24564 * MIB, free=24210 * MIB)
ROOM = BudgetInfo(budget=23552 * MIB, overhead=430 * MIB)


def made() -> tuple[Plan, Schedule]:
    said = plan(
        [
            stage("prompt", "text_encoder text_encoder_2"),
            stage("denoise", "transformer", loop="steps"),
            stage("decode", "vae.decode"),
        ],
        vram=23552,
    )
    where = replace(said.pipeline, source="black-forest-labs/FLUX.1-dev", dtype="bfloat16")
    said = replace(said, name="flux-24gb", pipeline=where)
    graph, _ = build_graph(said, target(FLUX))
    assert graph is not None
    schedule, found = lower(graph)
    assert schedule is not None, found
    return said, schedule


def report(**measured: Any) -> Report:
    said, schedule = made()
    assert schedule.peak is not None
    assert schedule.moved is not None
    figures: dict[str, Any] = {
        "peak_weights": schedule.peak,
        "moved": schedule.moved,
        "seconds": {"prompt": 3.24, "denoise": 40.06, "decode": 0.5},
        "total": 44.81,
    }
    return report_of(
        schedule,
        said,
        Measured(**(figures | measured)),
        CARD,
        budget=ROOM,
        seed=0,
        outputs=["pictures/flux-24gb-0.png"],
    )


def test_before_a_run() -> None:
    said, schedule = made()
    assert (
        to_text(picture(said, schedule, CARD, ROOM), 80)
        == """\
flux-24gb   XPipeline   black-forest-labs/FLUX.1-dev   bfloat16
device      cuda:0 NVIDIA GeForce RTX 4090, 23.99 GiB, 23.64 free
budget      23.00 GiB = 0.42 context + 22.58 for us
image       same as without a plan

  stage     component        policy    moves GiB   peak GiB
  prompt    text_encoder     offload        0.23       0.23
            text_encoder_2   offload        8.87       9.10
  denoise   transformer      offload       22.17      22.17   < peak
  decode    vae              offload        0.16       0.16
  host RAM  31.43 GiB      why: plan explain x.plan.yaml
"""
    )


@pytest.mark.parametrize(
    ("pinned", "words"),
    [
        (24 << 30, "31.43 GiB, 24.00 of it pinned"),
        (32 << 30, "31.43 GiB"),
        (1 << 30, "31.43 GiB, 1.00 of it pinned"),
    ],
)
def test_how_much_is_pinned_where_the_plan_limits_it(pinned: int, words: str) -> None:
    said, schedule = made()
    budget = replace(said.budget, pinned=Amount(bytes=pinned, text="", span=said.span))
    assert host_words(replace(said, budget=budget), schedule) == words


def test_after_a_run() -> None:
    shown = to_text(measured_table(report(peak_allocated=22900 * MIB, peak_reserved=23000 * MIB)), 80)
    assert (
        shown
        == """\
                  promised   measured
  weights GiB        22.17      22.17
  allocated GiB                 22.36
  reserved GiB                  22.46   within budget
  moved GiB          31.43      31.43
  seconds                        44.8   (without load)
    prompt                        3.2
    denoise                      40.1
    decode                        0.5
  order    as planned
"""
    )


def test_what_loading_and_applying_took_is_beside_what_was_predicted() -> None:
    before = report(load=3.14, apply=2.06)
    shown = to_text(measured_table(before), 80).split("\n")
    assert shown[3:6] == [
        "  load s               ?        3.1",
        "  apply s              ?        2.1",
        "  seconds                      44.8   (without load)",
    ]
    promised = replace(before.promised, load=2.51, apply=None)
    shown = to_text(measured_table(replace(before, promised=promised)), 80).split("\n")
    assert shown[3:5] == ["  load s             2.5        3.1", "  apply s              ?        2.1"]
    untimed = replace(report(apply=2.06), promised=promised)
    assert "load s" not in to_text(measured_table(untimed), 80)


def start(**said: Any) -> Start:
    known = Figure(seconds=2.512, source="predicted")
    sizes = {"read": 31 << 30, "packed": 90 << 20, "registered": 30 << 30, "placed": 0}
    return Start(**{"load": known, "apply": replace(known, seconds=0.25), **sizes, **said})


def test_what_is_predicted_of_both_in_a_line() -> None:
    unknown = Figure(seconds=None, source="not known", why="unet: quantized weights are loaded")
    assert start_words(start()) == (
        "predicted: load 2.51 s, apply 0.250 s before the first call; 31.00 GiB read from files that are in "
        "memory, 90.00 MiB packed, 30.00 GiB registered"
    )
    assert start_words(start(load=unknown, placed=1 << 30)) == (
        "predicted: load not known (unet: quantized weights are loaded), apply 0.250 s before the first "
        "call; 90.00 MiB packed, 30.00 GiB registered, 1.00 GiB placed"
    )
    assumed = Figure(seconds=2.0, source="assumed")
    assert start_words(start(load=assumed, apply=replace(unknown, why="LoRAs are laid out"))) == (
        "predicted: load 2.00 s, apply not known (LoRAs are laid out) before the first call, by rates in "
        "part assumed; 31.00 GiB read from files that are in memory"
    )


def test_what_went_otherwise_is_said_line_by_line() -> None:
    shown = to_text(
        measured_table(
            report(
                peak_reserved=23552 * MIB,
                departures=('"vae" ran in stage "denoise"', "text_encoder_2 did not run"),
                misses=("unet.conv_in.weight",),
            )
        ),
        80,
    )
    assert shown.split("\n")[2:4] == [
        "  reserved GiB                 23.00   over budget by 430.0 MiB",
        "  moved GiB         31.43      31.43",
    ]
    assert shown.split("\n")[8:] == [
        "  order    2 departures",
        '           "vae" ran in stage "denoise"',
        "           text_encoder_2 did not run",
        "  misses   1 miss",
        "           unet.conv_in.weight",
        "",
    ]
    assert "  misses   none\n" in to_text(measured_table(report(misses=())), 80)


def test_a_whole_report_is_what_str_gives() -> None:
    whole = str(report())
    assert whole == report_text(report(), 100)
    assert whole.startswith("flux-24gb   XPipeline   black-forest-labs/FLUX.1-dev   bfloat16\n")
    assert whole.endswith("  order    as planned\nwrote flux-24gb-0.png   seed 0\n")


def test_small_pipelines_are_told_in_small_units() -> None:
    rows = [row("a", moves=700 << 10, peak=5 << 20), row("b", moves=None, peak=None)]
    assert (
        to_text(timeline_table(rows), 80)
        == """\
  stage   component   policy    moves MiB   peak MiB
  s       a           offload        0.68       5.00
          b           offload           ?          ?
"""
    )
    assert [unit_for([n]).text(n) for n in (0, 1023, 1024, (1 << 30) - 1, 1 << 30)] == [
        "0 B",
        "1023 B",
        "1.00 KiB",
        "1024.0 MiB",
        "1.00 GiB",
    ]


def test_what_is_not_known_is_said() -> None:
    said = plan("unet -> vae")
    graph, _ = build_graph(said, target({"unet": None, "vae": 20}))
    assert graph is not None
    schedule, _ = lower(graph)
    assert schedule is not None
    assert (
        to_text(picture(said, schedule, "sim:0"), 80)
        == """\
x        XPipeline
device   sim:0
budget   none set, so whether it fits is not checked
image    same as without a plan

  stage   component   policy    moves MiB   peak MiB
  unet    unet        offload           ?          ?
  vae     vae         offload       20.00      20.00   < peak
  host RAM  20.00 MiB and what is not known      why: plan explain x.plan.yaml
"""
    )


@pytest.mark.parametrize("width", [40, 60, 80, 100, 200])
def test_no_figure_is_cut_at_any_width(width: int) -> None:
    _, schedule = made()
    shown = to_text(timeline_table(timeline(schedule)), width)
    assert all(len(line) <= width for line in shown.split("\n"))
    assert all(figure in shown for figure in ("22.17", "8.87", "0.23", "< peak"))


def test_files_with_brackets_are_no_markup() -> None:
    shown = wrote_line(["a[red]b.png", "c.png"], None)
    assert isinstance(shown, Text)
    assert to_text(shown) == "wrote a[red]b.png, c.png\n"


def row(component: str, *, moves: int | None, peak: int | None) -> Row:
    return Row(stage="s", component=component, policy="offload", moves=moves, peak=peak, highest=False)
