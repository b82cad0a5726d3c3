"""P95x: locks: compiled plans kept as files."""

from __future__ import annotations

from planner.diagnostics.diagnostic import Code, Severity

LOCK_MISSING = Code(
    id="P951",
    name="lock-missing",
    severity=Severity.ERROR,
    help="A lock was asked for (--check, --locked) and the plan has none: NAME.plan.lock.json beside "
    "NAME.plan.yaml. Nothing was loaded.",
    wrong="plan validate flux.plan.yaml --locked",
    right="plan compile flux.plan.yaml --lock\nplan validate flux.plan.yaml --locked",
)
LOCK_BROKEN = Code(
    id="P952",
    name="lock-broken",
    severity=Severity.ERROR,
    help="The file is no lock that this version can read: it is no JSON (a merge left half done), has "
    "another format, or lacks something. It is written anew and not mended.",
    wrong="echo '<<<<<<<' > flux.plan.lock.json && plan compile flux.plan.yaml --check",
    right="plan compile flux.plan.yaml --lock && plan compile flux.plan.yaml --check",
)
LOCK_CHANGED = Code(
    id="P953",
    name="lock-changed",
    severity=Severity.ERROR,
    help="A lock has a digest of all that it says, and this one's is another: it was changed after it was "
    "written. What it says is not believed. The digest tells of slips and half-merged files; it is no "
    "signature, and whoever can compute it can change both.",
    wrong="sed -i s/0.42.1/0.41.0/ flux.plan.lock.json && plan compile flux.plan.yaml --check",
    right="plan compile flux.plan.yaml --lock && plan compile flux.plan.yaml --check",
)
LOCK_STALE = Code(
    id="P954",
    name="lock-stale",
    severity=Severity.ERROR,
    help="The plan compiles to something else than its lock says: it was edited, its weights are others, "
    "diffusers or the planner has another version. Each finding is one item, with what it was and what "
    "it is. If that was meant, write the lock anew.",
    wrong="plan compile flux.plan.yaml --lock && plan compile flux.plan.yaml --check --set budget.vram=8GiB",
    right="plan compile flux.plan.yaml --lock && plan compile flux.plan.yaml --check",
)

CODES = (LOCK_MISSING, LOCK_BROKEN, LOCK_CHANGED, LOCK_STALE)
