"""Offload plans: one YAML file says in which order a diffusers pipeline's components run, and in how
much memory; it is checked without a GPU, compiled, and applied to the loaded pipeline.

Importing this loads no torch.
"""

from __future__ import annotations

from planner.api import (
    activations,
    apply,
    calibrated,
    catalogue,
    compile,
    load,
    load_pipeline,
    profile,
    simulate,
    translate,
    validate,
)
from planner.batches.batch import Batch, batch
from planner.diagnostics.diagnostic import Code, Diagnostic, InternalError, PlanError, Severity
from planner.fitting.fit import Fitted, fit
from planner.plan.model import Plan
from planner.schedule.model import Schedule
from planner.stages.results import Compiled, Validation
from planner.version import VERSION as __version__

__all__ = [
    "Batch",
    "Code",
    "Compiled",
    "Diagnostic",
    "Fitted",
    "InternalError",
    "Plan",
    "PlanError",
    "Schedule",
    "Severity",
    "Validation",
    "__version__",
    "activations",
    "apply",
    "batch",
    "calibrated",
    "catalogue",
    "compile",
    "fit",
    "load",
    "load_pipeline",
    "profile",
    "simulate",
    "translate",
    "validate",
]
