"""Every operation of a device, counted by name; any of them can be made to fail.

What may fail is whatever the protocol has, so that a harness finds new operations by itself: one run counts
them (``device.operations``), and then one run for each lets the nth fail.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import wraps
from inspect import isfunction
from types import MappingProxyType
from typing import Any, Literal, Protocol, TypeVar


class InjectedFailure(RuntimeError):
    """Raised where nobody said what."""


Error = BaseException | type[BaseException] | Callable[[], BaseException]


@dataclass(frozen=True, slots=True, kw_only=True)
class Fail:
    """The ``nth`` call (from 1) of the operation ``op``, or of all together where ``op`` is ``*``, raises
    ``error``: an exception, or what makes one. ``before``: nothing has happened then. ``after``: it took
    effect, and the caller has no result; what it would have had alone is gone, as if collected."""

    op: str = "*"
    nth: int = 1
    error: Error = InjectedFailure
    when: Literal["before", "after"] = "before"

    def __str__(self) -> str:
        return f"{self.when} {self.op} {self.nth}"


class Operations:
    """What was called so far, and what is to fail."""

    def __init__(self, fails: Iterable[Fail] = ()) -> None:
        self._fails = tuple(fails)
        self._counts: Counter[str] = Counter()

    @property
    def counts(self) -> Mapping[str, int]:
        """By name, how often it was called, the calls that failed too."""
        return MappingProxyType(dict(sorted(self._counts.items())))

    @property
    def total(self) -> int:
        """Of all together."""
        return self._counts.total()

    def call(self, op: str) -> Fail | None:
        """Count a call of ``op``: what is to fail of it. Raises what is to be raised before."""
        self._counts[op] += 1
        count = {"*": self.total, op: self._counts[op]}
        due = next((fail for fail in self._fails if count.get(fail.op) == fail.nth), None)
        if due is not None and due.when == "before":
            raise made(due)
        return due


def made(fail: Fail) -> BaseException:
    """The exception to raise, which says where it is from."""
    error = fail.error if isinstance(fail.error, BaseException) else fail.error()
    error.add_note(f"injected {fail}")
    return error


class Operated(Protocol):
    """A device that is called through ``operated``."""

    operations: Operations

    def before_operation(self) -> None:
        """An operation is about to begin; it was counted, and does not fail before."""

    def lost(self, result: Any) -> None:
        """``result`` was made and nobody has it."""


D = TypeVar("D", bound=type[Operated])


def operated(protocol: type) -> Callable[[D], D]:
    """Counts, and lets fail, every method of a class that ``protocol`` has too."""

    def decorate(cls: D) -> D:
        for name, method in vars(protocol).items():
            if not name.startswith("_") and isfunction(method) and name in vars(cls):
                setattr(cls, name, _counted(name, vars(cls)[name]))
        return cls

    return decorate


def _counted(name: str, method: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(method)
    def operation(self: Operated, *args: Any, **kwargs: Any) -> Any:
        due = self.operations.call(name)
        self.before_operation()
        result = method(self, *args, **kwargs)
        if due is None:
            return result
        self.lost(result)
        del result  # not for as long as the exception has this frame
        raise made(due)

    return operation
