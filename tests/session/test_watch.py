"""The clock of a placed component's blocks, on a device that is behind the host."""

from __future__ import annotations

from typing import Any

import pytest

from planner.streaming.timer import Timer


class Behind:
    """Marks are indexs; it has passed those up to ``at``, and going on costs a wait."""

    def __init__(self) -> None:
        self.marks, self.at = 0, 0

    def mark(self) -> int:
        self.marks += 1
        return self.marks

    def passed(self, mark: int) -> bool:
        return mark <= self.at

    def between(self, start: int, end: int) -> float:
        self.at = max(self.at, end)
        return float(end - start)


@pytest.mark.parametrize("wait", [False, True])
def test_what_blocks_took_is_read_once_when_all_of_it_is_done_or_waited_for(wait: bool) -> None:
    device: Any = Behind()
    clock = Timer(device)
    clock.running = True
    for index in (3, 5):
        clock.start(index)
        clock.stop()
    device.at = 3
    assert clock.read() == {}
    assert device.at == 3  # nobody waited
    if not wait:
        device.at = 4
    assert clock.read(wait=wait) == {3: 1.0, 5: 1.0}
    assert clock.read(wait=True) == {}
