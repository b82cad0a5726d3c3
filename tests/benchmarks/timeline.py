"""``python -m tests.benchmarks.timeline sdxl plan:idle=keep``: when the device computed, and when it copied.

A warm call under torch's profiler, on CUDA: a row for each stretch of time, with the share in which kernels
ran and in which bytes came from the host, and the calls of the driver in which the host waited.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

import click

KINDS = ("kernel", "to the device", "back")

WAITED = 0.5e-3
"""Seconds: shorter calls of the driver are not told."""


class Span(NamedTuple):
    """Seconds from the first event on; ``kind`` is one of KINDS, or "" on the host."""

    start: float
    end: float
    kind: str
    name: str


class Row(NamedTuple):
    """``busy``: by kind, the share of the stretch from ``start`` on."""

    start: float
    busy: dict[str, float]
    waited: tuple[Span, ...]


def rows(spans: Iterable[Span], stretch: float) -> list[Row]:
    """One for each ``stretch`` seconds; spans of a kind that overlap add up."""
    busy: dict[int, dict[str, float]] = defaultdict(lambda: defaultdict(float))
    waited: dict[int, list[Span]] = defaultdict(list)
    last = 0
    for span in spans:
        first, last_here = int(span.start // stretch), int(span.end // stretch)
        last = max(last, last_here)
        if not span.kind:
            waited[first].append(span)
            continue
        for at in range(first, last_here + 1):
            inside = min(span.end, (at + 1) * stretch) - max(span.start, at * stretch)
            busy[at][span.kind] += inside / stretch
    return [Row(at * stretch, dict(busy[at]), tuple(waited[at])) for at in range(last + 1)]


def _spans(profile: Any) -> Iterator[Span]:
    events = sorted(profile.profiler.kineto_results.events(), key=lambda event: event.start_ns())
    for event in events:
        start = (event.start_ns() - events[0].start_ns()) / 1e9
        end, name = start + event.duration_ns() / 1e9, event.name()
        if str(event.device_type()).endswith("CUDA"):
            kind = "to the device" if "HtoD" in name else "back" if "DtoH" in name else "kernel"
            yield Span(start, end, kind, name)
        elif end - start > WAITED:
            yield Span(start, end, "", name)


@click.command(help=__doc__)
@click.argument("pipeline")
@click.argument("mode")
@click.option("--steps", default=4)
@click.option("--stretch", default=20.0, help="Milliseconds of a row.")
def main(pipeline: str, mode: str, steps: int, stretch: float) -> None:
    import torch

    from .modes import entered
    from .sizes import SIZES, builtin

    if not torch.cuda.is_available():
        raise click.ClickException("a timeline needs CUDA")
    device = torch.device("cuda:0")
    size = SIZES.get(pipeline) or builtin(pipeline)
    pipe = size.make(False, device)
    pipe.set_progress_bar_config(disable=True)

    def call() -> None:
        pipe(**size.call(False), num_inference_steps=steps, output_type="pt")
        torch.cuda.synchronize(device)

    with entered(mode, pipe, device):
        call()
        call()
        with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CUDA]) as profile:
            call()
    for row in rows(_spans(profile), stretch / 1e3):
        shares = "  ".join(f"{kind} {row.busy.get(kind, 0):4.0%}" for kind in KINDS)
        told = "  ".join(f"{span.name} {(span.end - span.start) * 1e3:.1f} ms" for span in row.waited[:4])
        click.echo(f"{row.start * 1e3:7.0f} ms  {shares}  {told}")


if __name__ == "__main__":
    main()
