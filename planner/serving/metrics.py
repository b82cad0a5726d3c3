"""What a replica tells Prometheus, through Ray's own exporter."""

from __future__ import annotations

from ray.serve.metrics import Counter, Gauge, Histogram

from planner.serving.answer import Answer

PREFIX = "offload_plan_serve"
SECONDS = (0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 25.0, 50.0, 100.0, 250.0, 500.0)


class Metrics:
    """Of one replica; Ray adds the tags deployment, replica and application, and ``ray_`` before names."""

    def __init__(self) -> None:
        self._calls = Counter(f"{PREFIX}_calls", "Calls that have their output")
        self._failures = Counter(f"{PREFIX}_failures", "Calls that failed, by code", tag_keys=("code",))
        self._cancelled = Counter(f"{PREFIX}_cancelled", "Calls whose client went away")
        self._seconds = Histogram(f"{PREFIX}_call_seconds", "Seconds of a call", boundaries=[*SECONDS])
        self._moved = Counter(f"{PREFIX}_moved_bytes", "Weights copied to the device")
        self._peak = Gauge(f"{PREFIX}_weights_peak_bytes", "The most weights on the device")
        self._most = 0

    def answered(self, answer: Answer) -> None:
        """A call ended."""
        if answer.measured is None:
            self._failures.inc(tags={"code": answer.code})
            return
        self._calls.inc()
        self._seconds.observe(answer.measured.total)
        if answer.measured.moved:
            self._moved.inc(answer.measured.moved)
        self._most = max(self._most, answer.measured.peak_weights)
        self._peak.set(self._most)

    def cancelled(self) -> None:
        """A call was not wanted any more."""
        self._cancelled.inc()
