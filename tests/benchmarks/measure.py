"""One mode, timed: seconds, what the driver and the allocator show, host memory, and the picture's hash."""

from __future__ import annotations

import gc
import hashlib
import threading
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch

from planner.loading.meter import Meter

from .modes import entered
from .sizes import Size


def measure(
    mode: str, pipe: Any, size: Size, steps: list[int], device: torch.device, small: bool, calls: int
) -> dict[str, Any]:
    """A record of the mode; ``failed`` holds the end of a traceback instead of raising. Of ``calls`` with
    each number of steps the first learns, watched by a thread that asks the driver; others are timed."""
    made: dict[str, Any] = {"mode": mode, "runs": []}
    try:
        _into(made, mode, pipe, size, steps, device, small, calls)
    except Exception:
        made["failed"] = traceback.format_exc()[-1500:]
    return made


def _into(
    made: dict[str, Any],
    mode: str,
    pipe: Any,
    size: Size,
    steps: list[int],
    device: torch.device,
    small: bool,
    calls: int,
) -> None:
    torch.zeros(1, device=device)  # the device is there before anything is counted
    _clean(device)
    before = _resident_set()
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")  # the peak counts from here
    start = time.perf_counter()
    with entered(mode, pipe, device) as session:
        _sync(device)
        made["apply_s"] = time.perf_counter() - start
        for count in steps:
            for call in range(calls):
                made["runs"].append(_run(pipe, size.call(small), count, device, session, watched=call == 0))
                if "first_s" not in made:
                    made["first_s"] = time.perf_counter() - start
            if session is not None and session.applied.last.departures:
                made["departures"] = session.applied.last.departures
        made["ram"] = _resident_set("VmHWM") - before if before else None


def _run(
    pipe: Any, arguments: dict[str, Any], steps: int, device: torch.device, session: Any, *, watched: bool
) -> dict[str, Any]:
    if session is None:
        _clean(device)
    target: Any = session.device if session is not None else SimpleNamespace(name=device)
    meter = Meter(target)
    meter.start()
    if session is not None:
        session.applied.observers.append(meter.observe)
    generator = torch.Generator("cpu").manual_seed(1)
    with _driver(device, watched) as seen:
        _sync(device)
        start = time.perf_counter()
        result = pipe(**arguments, num_inference_steps=steps, output_type="pt", generator=generator)
        _sync(device)
        seconds = time.perf_counter() - start
    meter.stop()
    if session is not None:
        session.applied.observers.remove(meter.observe)
    picture = result[0].float().cpu()
    return {
        "steps": steps,
        "seconds": seconds,
        "allocated": meter.allocated,
        "reserved": meter.reserved,
        "driver": max(seen, default=None),
        "moved": session.applied.last.moved if session is not None else None,
        "stages": session.applied.last.seconds if session is not None else None,
        "picture": hashlib.sha256(picture.numpy().tobytes()).hexdigest()[:16],
        "finite": bool(picture.isfinite().all()),
    }


@contextmanager
def _driver(device: torch.device, watched: bool) -> Iterator[list[int]]:
    """The bytes in use on the device, by the driver's own count, every 2 ms."""
    seen: list[int] = []
    query = getattr(torch.get_device_module(device), "mem_get_info", None)
    done = threading.Event()

    def watch() -> None:
        while not done.wait(0.002):
            free, total = query(device)  # type: ignore[misc]
            seen.append(total - free)

    thread = threading.Thread(target=watch, daemon=True)
    if watched and query is not None and device.type == "cuda":
        thread.start()
        try:
            yield seen
        finally:
            done.set()
            thread.join()
    else:
        yield seen


def device_of(name: str) -> torch.device:
    """The device of that name; the virtual one is installed first."""
    if name.startswith("sim"):
        from planner.virtual import backend

        backend.install()
    return torch.device(name)


def _clean(device: torch.device) -> None:
    gc.collect()
    module = torch.get_device_module(device)
    if hasattr(module, "empty_cache"):
        module.empty_cache()


def _sync(device: torch.device) -> None:
    torch.accelerator.synchronize(device) if device.type != "sim" else None


def _resident_set(key: str = "VmRSS") -> int:
    """Bytes of this process in host memory, now or at the peak; 0 where the system does not say."""
    with suppress(OSError):
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith(key):
                return int(line.split()[1]) * 1024
    return 0
