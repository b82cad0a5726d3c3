"""``torch.sim``: what scripts and libraries ask of a device module, as ``torch.cuda`` answers it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import torch

from planner.virtual.memory import METER


class SimModule:
    """One card, always there, its work done when the call returns."""

    def is_initialized(self) -> bool:
        """As torch.cuda.is_initialized."""
        return True

    def is_available(self) -> bool:
        """As torch.cuda.is_available."""
        return True

    def _is_in_bad_fork(self) -> bool:
        return False

    def _lazy_init(self) -> None:
        return None

    def device_count(self) -> int:
        """One."""
        return 1

    def current_device(self) -> int:
        """0."""
        return 0

    def set_device(self, device: Any) -> None:
        """As torch.cuda.set_device. Raises RuntimeError for another index than 0."""
        index = device if isinstance(device, int) else (torch.device(device).index or 0)
        if index != 0:
            raise RuntimeError(f"sim error: invalid device ordinal {index}, there is only sim:0")

    @contextmanager
    def device(self, device: Any) -> Iterator[None]:
        """As torch.cuda.device."""
        self.set_device(0 if device is None else device)
        yield

    def get_device_name(self, device: Any = None) -> str:
        """A name for tables."""
        return "virtual accelerator"

    def get_device_properties(self, device: Any = None) -> SimpleNamespace:
        """``name`` and ``total_memory`` in bytes."""
        return SimpleNamespace(name=self.get_device_name(), total_memory=METER.total, major=0, minor=0)

    def get_device_capability(self, device: Any = None) -> tuple[int, int]:
        """No compute capability."""
        return (0, 0)

    # --- random numbers: the CPU's, see planner.virtual.generator

    def manual_seed(self, seed: int) -> None:
        """Nothing: the default generator is the CPU's, which torch.manual_seed sets itself."""

    def manual_seed_all(self, seed: int) -> None:
        """Nothing, as for manual_seed."""

    def seed(self) -> None:
        """Nothing, as for manual_seed."""

    def get_rng_state(self, device: Any = None) -> torch.Tensor:
        """The state of the default generator."""
        return torch.get_rng_state()

    def set_rng_state(self, state: torch.Tensor, device: Any = None) -> None:
        """Set the default generator."""
        torch.set_rng_state(state)

    # --- memory, in bytes

    def memory_allocated(self, device: Any = None) -> int:
        """In live tensors and pieces."""
        return METER.allocated

    def memory_reserved(self, device: Any = None) -> int:
        """The same: nothing is cached."""
        return METER.allocated

    def max_memory_allocated(self, device: Any = None) -> int:
        """The most since the last reset."""
        return METER.peak

    def max_memory_reserved(self, device: Any = None) -> int:
        """The same."""
        return METER.peak

    def reset_peak_memory_stats(self, device: Any = None) -> None:
        """Peaks start again at what is live."""
        METER.peak = METER.allocated

    reset_max_memory_allocated = reset_peak_memory_stats

    def memory_stats(self, device: Any = None) -> dict[str, int]:
        """The figures above under the names that torch.cuda.memory_stats gives them."""
        return {
            "allocated_bytes.all.current": METER.allocated,
            "allocated_bytes.all.peak": METER.peak,
            "reserved_bytes.all.current": METER.allocated,
            "reserved_bytes.all.peak": METER.peak,
        }

    def mem_get_info(self, device: Any = None) -> tuple[int, int]:
        """Free and total."""
        return METER.total - METER.allocated, METER.total

    def set_per_process_memory_fraction(self, fraction: float, device: Any = None) -> None:
        """As torch.cuda's: what passes the share raises torch's OutOfMemoryError. 1 lifts it."""
        METER.limit = None if fraction >= 1 else int(METER.total * fraction)

    def get_per_process_memory_fraction(self, device: Any = None) -> float:
        """The share in force."""
        return 1.0 if METER.limit is None else METER.limit / METER.total

    def empty_cache(self) -> None:
        """Nothing is cached."""

    def ipc_collect(self) -> None:
        """Nothing to collect."""

    # --- order of work: operations are done when they return

    def synchronize(self, device: Any = None) -> None:
        """All work is done."""

    def current_stream(self, device: Any = None) -> Stream:
        """The only stream."""
        return Stream()

    default_stream = current_stream

    @contextmanager
    def stream(self, stream: Any) -> Iterator[None]:
        """As torch.cuda.stream."""
        yield

    def Stream(self, *args: Any, **kwargs: Any) -> Stream:
        """A stream."""
        return Stream()

    def Event(self, *args: Any, **kwargs: Any) -> Event:
        """An event."""
        return Event()

    def get_amp_supported_dtype(self) -> list[torch.dtype]:
        """What torch.autocast asks a backend."""
        return [torch.float16, torch.bfloat16]

    def is_bf16_supported(self, *args: Any, **kwargs: Any) -> bool:
        """As on the CPU."""
        return True


class Event:
    """Done as soon as it is recorded."""

    def record(self, stream: Any = None) -> None:
        """Nothing to wait for."""

    def wait(self, stream: Any = None) -> None:
        """Already done."""

    def query(self) -> bool:
        """Done."""
        return True

    def synchronize(self) -> None:
        """Already done."""

    def elapsed_time(self, other: Any) -> float:
        """Milliseconds; there is no clock here."""
        return 0.0


class Stream:
    """In order with everything else."""

    def wait_stream(self, stream: Any) -> None:
        """Already done."""

    def wait_event(self, event: Any) -> None:
        """Already done."""

    def record_event(self, event: Event | None = None) -> Event:
        """An event that is done."""
        return event or Event()

    def query(self) -> bool:
        """Done."""
        return True

    def synchronize(self) -> None:
        """Already done."""
