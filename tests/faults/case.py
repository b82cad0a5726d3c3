"""One case: which pipeline under which policy, what is being done, what fails in it, and who comes next."""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields

import torch


class Injected(RuntimeError):
    """An ordinary error."""


class InjectedMemoryError(MemoryError):
    """The host has no memory."""


class InjectedOutOfMemory(torch.OutOfMemoryError):
    """The device has none."""


class InjectedInterrupt(KeyboardInterrupt):
    """Ctrl-C."""


ERRORS: dict[str, type[BaseException]] = {
    "RuntimeError": Injected,
    "OutOfMemoryError": InjectedOutOfMemory,
    "MemoryError": InjectedMemoryError,
    "KeyboardInterrupt": InjectedInterrupt,
}

NEXT = ("probe", "call", "thread", "remove")
"""Who enters next: another thread that takes the locks, this thread's call, another's, or ``remove()``."""


@dataclass(frozen=True, slots=True)
class Case:
    """``site``: an operation of the device (``op:bind:before``), a line (``line:session/use.py:32``), a
    module's forward (``forward:after``), ``step`` or ``callback``; its ``nth`` hit raises ``error``.
    ``again``: so many lines of ours later a KeyboardInterrupt comes on top; 0 for none. ``then``: of NEXT."""

    pipeline: str
    policy: str
    phase: str
    site: str
    nth: int
    error: str
    again: int
    then: str

    @property
    def kind(self) -> str:
        """What the site is, without which."""
        return self.site.partition(":")[0] + ("+interrupt" if self.again else "")

    def __str__(self) -> str:
        return ",".join(map(str, asdict(self).values()))

    @classmethod
    def read(cls, key: str) -> Case:
        """What ``str`` gave. Raises ValueError."""
        parts = key.split(",")
        if len(parts) != len(fields(cls)):
            raise ValueError(f"a key has {len(fields(cls))} fields with commas between, not {len(parts)}")
        pipeline, policy, phase, site, nth, error, again, then = parts
        return cls(pipeline, policy, phase, site, int(nth), error, int(again), then)
