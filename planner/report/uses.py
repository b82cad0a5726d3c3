"""What a traced call takes, use by use, and what it takes under a schedule on a card, as tables."""

from __future__ import annotations

from pathlib import Path

from planner.predict.calibration import Calibration
from planner.predict.forecast import Forecast
from planner.predict.profile import CallProfile
from planner.predict.start import Figure, Start
from planner.report.sheet import Sheet, sheet
from planner.schedule.fit import gib


def uses_table(call: CallProfile) -> Sheet:
    """A row for each distinct use: how often, what the pipeline keeps on the device then, what the use
    allocates beside that and the weights, and how much of it is scratch that libraries can do without."""
    made = sheet("!component", "entry", ">times", ">held", ">activations", ">of it scratch", "~assumed")
    for number, use in enumerate(call.uses):
        turns = [turn for turn in call.turns if turn.use == number]
        peak, least = use.peak(), use.peak(scratch=False)
        made.add(
            use.component,
            use.entry or "forward",
            str(len(turns)),
            gib(max((turn.held for turn in turns), default=0)),
            gib(peak),
            gib(peak - least),
            "; ".join(use.notes),
        )
    return made


def forecast_table(call: Forecast) -> Sheet:
    """A row for each component's entry in a stage: how often, the most that its activations take of the
    device, its seconds in the call, those of them that wait for weights, and where its figures come from."""
    made = sheet(
        *("!stage", "!component", "entry", ">times", ">activations", ">reserved", ">seconds", ">waits"),
        "source",
    )
    before = None
    for use in call.uses:
        made.add(
            use.stage if use.stage != before else "",
            use.component,
            use.entry,
            str(use.times),
            gib(use.allocated),
            gib(use.reserved),
            seconds(use.seconds),
            seconds(use.waits),
            use.source,
        )
        before = use.stage
    return made


def forecast_words(call: Forecast) -> str:
    """``predicted: 1.24 s a call; 23.52 GiB at most by the driver's count; 46.10 GiB to the device``."""
    first = f", the first {seconds(call.first)} s" if abs(call.first - call.seconds) >= 0.005 else ""
    rates = "" if call.source == "predicted" else ", by rates in part assumed"
    short = "" if call.fits else "; an allocation finds too little there: kernels may be others, or it fails"
    return (
        f"predicted: {seconds(call.seconds)} s a call{first}{rates}; {gib(call.peak)} at most by the driver's"
        f" count; {gib(call.moved)} to the device{short}"
    )


def start_words(start: Start) -> str:
    """``predicted: load 2.51 s, apply 2.16 s before the first call; 31.42 GiB read, 31.42 GiB
    registered``."""
    both = (start.load, start.apply)
    rates = ", by rates in part assumed" if any(one.source == "assumed" for one in both) else ""
    sizes = [("read from files that are in memory", start.read)] * (start.load.seconds is not None)
    if start.apply.seconds is not None:
        sizes += [("packed", start.packed), ("registered", start.registered), ("placed", start.placed)]
    said = ", ".join(f"{gib(nbytes)} {what}" for what, nbytes in sizes if nbytes)
    figures = f"load {_figure(start.load)}, apply {_figure(start.apply)} before the first call{rates}"
    return f"predicted: {figures}" + (f"; {said}" if said else "")


def _figure(one: Figure) -> str:
    return f"not known ({one.why})" if one.seconds is None else f"{seconds(one.seconds)} s"


def calibration_words(calibration: Calibration, path: Path) -> str:
    """``calibrated: seconds of 1 use, activations of 4, the link; kept as "..."``."""
    timed = sum(use.seconds is not None for use in calibration.uses)
    sized = sum(use.allocated is not None for use in calibration.uses)
    link = "" if calibration.link is None else f", {gib(round(calibration.link))}/s to the device"
    return f'calibrated: seconds of {timed} uses, activations of {sized}{link}; kept as "{path}"'


def seconds(value: float) -> str:
    """With so many digits that something is seen."""
    return f"{value:.2f}" if value >= 1 else f"{value:.3f}"
