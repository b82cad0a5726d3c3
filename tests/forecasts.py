"""Forecasts of a call that never was, for what draws them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from planner.predict.forecast import Forecast, Interval, Lane, Sample, Source, UseForecast

MIB = 1 << 20
CONTEXT = 780 * MIB
STEPS, BLOCKS = 4, 6


def forecast(
    *, slower: float = 1.0, more: int = 0, source: Source = "predicted", pinned: int = 6000 * MIB
) -> Forecast:
    """An encoder that leaves, a denoiser that streams in ``STEPS`` of ``BLOCKS``, a decoder. ``slower`` by
    this factor, ``more`` bytes of activations."""
    intervals = tuple(_intervals(slower))
    samples: list[Sample] = []
    high = 0
    for at, weights, allocated in _memory(slower):
        high = max(high, allocated + more)
        reserved = high + 64 * MIB
        driver = CONTEXT + weights + reserved
        samples.append(
            Sample(
                at=at,
                weights=weights,
                allocated=allocated + more,
                reserved=reserved,
                driver=driver,
                pinned=pinned,
                host=9000 * MIB,
            )
        )
    seconds = max(i.end for i in intervals) / 1e6
    return Forecast(
        uses=tuple(_uses(source)),
        intervals=intervals,
        samples=tuple(samples),
        peak=max(s.driver for s in samples),
        seconds=seconds,
        first=seconds + 0.4,
        source=source,
    )


def _intervals(slower: float) -> Iterator[Interval]:
    def interval(
        lane: Lane, name: str, stage: str, component: str, start: int, took: int, size: int = 0
    ) -> Interval:
        begin, end = round(start * slower), round((start + took) * slower)
        return Interval(
            lane=lane, name=name, stage=stage, component=component, start=begin, end=end, bytes=size
        )

    yield interval("copy", "text_encoder", "prompt", "text_encoder", 0, 180_000, 4500 * MIB)
    yield interval("compute", "text_encoder", "prompt", "text_encoder", 180_000, 90_000)
    at = 270_000
    for step in range(STEPS):
        for block in range(BLOCKS):
            begin = at + (step * BLOCKS + block) * 50_000
            name = f"transformer_blocks.{block}"
            yield interval("copy", name, "denoise", "transformer", begin, 41_000, 340 * MIB)
            yield interval("compute", name, "denoise", "transformer", begin + 41_000, 47_000)
    at += STEPS * BLOCKS * 50_000 + 60_000
    yield interval("compute", "decode", "decode", "vae", at, 140_000)


def _memory(slower: float) -> Iterator[tuple[int, int, int]]:
    yield 0, 4500 * MIB, 0
    yield round(180_000 * slower), 4500 * MIB, 150 * MIB
    yield round(270_000 * slower), 2100 * MIB, 20 * MIB
    for step in range(STEPS):
        for block in range(BLOCKS):
            at = 270_000 + (step * BLOCKS + block) * 50_000
            yield round((at + 41_000) * slower), 2440 * MIB, (900 + 40 * (block % 2)) * MIB
    end = 270_000 + STEPS * BLOCKS * 50_000 + 60_000
    yield round(end * slower), 160 * MIB, 2600 * MIB
    yield round((end + 140_000) * slower), 160 * MIB, 12 * MIB


def _uses(source: Source) -> Iterator[UseForecast]:
    first = UseForecast(
        stage="prompt",
        component="text_encoder",
        entry="forward",
        times=1,
        allocated=150 * MIB,
        reserved=214 * MIB,
        needed=214 * MIB,
        seconds=0.09,
        waits=0.18,
        source=source,
    )
    yield first
    yield replace(
        first, stage="denoise", component="transformer", times=STEPS, allocated=940 * MIB, waits=0.041
    )
    yield replace(
        first, stage="decode", component="vae", entry="decode", allocated=2600 * MIB, seconds=0.14, waits=0
    )
