"""What a call made, as the body of an answer."""

from __future__ import annotations

import io
import tempfile
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from planner.diagnostics.diagnostic import Diagnostic
from planner.loading.kinds import SUFFIXES
from planner.loading.outputs import outputs_of, sample_rate_of, save
from planner.plan.model import Plan
from planner.plan.run import SEED
from planner.report.model import Measured
from planner.serving.request import as_json

JSON, ZIP = "application/json", "application/zip"
TYPES = {".png": "image/png", ".mp4": "video/mp4", ".wav": "audio/wav"}
"""Of the default suffix of each kind of output."""
NO_DATE = (1980, 1, 1, 0, 0, 0)
"""The first that a zip can say: the same outputs are the same bytes."""
PREFIX = "Offload-Plan"


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """``type``: of the content; ``measured``: of the call, None where nothing came of it; ``code``: of the
    finding that it failed with."""

    status: int
    body: bytes
    type: str
    headers: Mapping[str, str] = field(default_factory=dict)
    measured: Measured | None = None
    code: str = ""


def answer(result: Any, plan: Plan, pipe: Any, measured: Measured) -> Answer:
    """The bytes that ``plan apply`` would have written: of one output its file, of several a zip of the
    files, uncompressed. Raises PlanError for what cannot be written."""
    with tempfile.TemporaryDirectory(prefix="offload-plan-") as folder:
        to = Path(folder) / f"output{SUFFIXES[outputs_of(result)[0].kind][0]}"
        paths = save(result, plan, to, sample_rate=sample_rate_of(pipe))
        kind, body = _packed(paths)
    figures = {"Seed": plan.run[SEED], "Seconds": f"{measured.total:.3f}"}
    figures |= {"Weights-Peak-Bytes": measured.peak_weights, "Moved-Bytes": measured.moved}
    headers = {f"{PREFIX}-{name}": str(value) for name, value in figures.items()}
    return Answer(status=200, body=body, type=kind, headers=headers, measured=measured)


def refusal(status: int, found: Sequence[Diagnostic], headers: Mapping[str, str] | None = None) -> Answer:
    """Findings in place of a picture."""
    return Answer(
        status=status,
        body=as_json(tuple(found)),
        type=JSON,
        headers=headers or {},
        code=found[0].code.id if found else "",
    )


def _packed(paths: Sequence[Path]) -> tuple[str, bytes]:
    if len(paths) == 1:
        return TYPES[paths[0].suffix], paths[0].read_bytes()
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w", zipfile.ZIP_STORED) as file:
        for path in paths:
            file.writestr(zipfile.ZipInfo(path.name, NO_DATE), path.read_bytes())
    return ZIP, made.getvalue()
