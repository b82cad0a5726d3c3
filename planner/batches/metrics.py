"""A batch's figures for Prometheus, as the text file that node_exporter's textfile collector reads.

A file and no port: it needs no free one and no firewall, and tells what came of the batch after its end, too.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from planner.diagnostics.diagnostic import PlanError, finding
from planner.diagnostics.table.p9_batch import METRICS_MISSING
from planner.diagnostics.table.p9_machine import OUTPUT_UNWRITABLE

PREFIX = "offload_plan_batch"
Ended = Callable[[Mapping[str, Any] | None, bool], None]


def metrics(path: Path | None, plan: str, rows: int) -> Ended:
    """What is told of each row that ended: its record, and whether it has its output. ``path`` is then
    written anew, in one step, and has the figures of this run of the batch: ``rows`` were to run.

    Raises PlanError without prometheus_client (P983) and where the file cannot be written (P919); later, when
    rows run, it is only not written.
    """
    if path is None:
        return lambda record, good: None
    if find_spec("prometheus_client") is None:
        said = "--metrics needs prometheus_client, which is not installed"
        raise PlanError([finding(METRICS_MISSING, said, hint="pip install 'offload-planner[metrics]'")])
    from prometheus_client import CollectorRegistry, Counter, Gauge, Summary, write_to_textfile

    registry = CollectorRegistry()
    given: dict[str, Any] = {"labelnames": ["plan"], "registry": registry}
    done = Counter(f"{PREFIX}_rows_done", "Rows that have their output", **given).labels(plan)
    failed = Counter(f"{PREFIX}_rows_failed", "Rows that were set aside", **given).labels(plan)
    left = Gauge(f"{PREFIX}_rows_left", "Rows that did not end yet", **given).labels(plan)
    rate = Gauge(f"{PREFIX}_rows_per_minute", "Rows that ended, since the start", **given).labels(plan)
    seconds = Summary(f"{PREFIX}_row_seconds", "Seconds of a call", **given).labels(plan)
    moved = Counter(f"{PREFIX}_moved_bytes", "Weights copied to devices", **given).labels(plan)
    peak = Gauge(f"{PREFIX}_weights_peak_bytes", "The most weights on a device", **given).labels(plan)
    began, number, most = time.monotonic(), 0, 0
    left.set(rows)

    def ended(record: Mapping[str, Any] | None, good: bool) -> None:
        nonlocal number, most
        number += 1
        (done if good else failed).inc()
        left.set(rows - number)
        rate.set(number * 60 / max(time.monotonic() - began, 1e-9))
        if record is not None and record["seconds"] is not None:
            most = max(most, record["peak"])
            seconds.observe(record["seconds"])
            moved.inc(record["moved"])
            peak.set(most)
        with suppress(OSError):
            write_to_textfile(str(path), registry)

    try:
        write_to_textfile(str(path), registry)
    except OSError as error:
        said = f'cannot write "{path}": {error.strerror or error}'
        raise PlanError([finding(OUTPUT_UNWRITABLE, said)]) from error
    return ended
