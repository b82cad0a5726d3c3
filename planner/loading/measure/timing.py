"""Seconds of work on a device."""

from __future__ import annotations

import time
from collections.abc import Callable
from statistics import median
from typing import Any

import torch

AT_LEAST = 0.01
"""Seconds that one sample takes, so that events' own resolution does not count."""
SAMPLES = 3
AHEAD, AT_MOST = 40e-6, 20e-3
"""Seconds for which the device is kept busy before each call of a sample, and before all of them: the host
gets ahead meanwhile, and what is timed is the device."""
CLOCK = 2e9
"""Of the device, at most, in cycles a second: torch's sleeping kernel counts these."""


def seconds_of(work: Callable[[], Any], device: torch.device, *, at_least: float = AT_LEAST) -> float:
    """Of one call of ``work``, once it is warm: the median of a few samples of as many calls as take
    ``at_least`` seconds together, by the device's own clock."""
    for _ in range(2):
        work()
    once = _sample(work, 1, device)
    times = max(1, min(500, round(at_least / max(once, 1e-7))))
    return median(_sample(work, times, device) for _ in range(SAMPLES))


def wait(device: torch.device) -> None:
    """Until the device has done all that it was told."""
    if device.type != "cpu":
        torch.get_device_module(device).synchronize(device)


def _hold(seconds: float) -> None:
    cuda: Any = torch.cuda
    cuda._sleep(int(seconds * CLOCK))


def event() -> Any:
    """One of CUDA's, that knows when it was passed."""
    cuda: Any = torch.cuda
    return cuda.Event(enable_timing=True)


def _sample(work: Callable[[], Any], times: int, device: torch.device) -> float:
    wait(device)
    if device.type != "cuda":
        start = time.perf_counter()
        for _ in range(times):
            work()
        wait(device)
        return (time.perf_counter() - start) / times
    begin, end = event(), event()
    _hold(min(times * AHEAD, AT_MOST))
    begin.record()
    for _ in range(times):
        work()
    end.record()
    end.synchronize()
    return float(begin.elapsed_time(end)) / 1e3 / times
