"""Are the packages of ``[apply]`` here, and new enough? Looks without importing them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from importlib import metadata
from importlib.util import find_spec

from packaging.version import InvalidVersion, Version

from planner.diagnostics.diagnostic import Diagnostic, PlanError, finding
from planner.diagnostics.table.p9_machine import PACKAGE_MISSING, PACKAGE_TOO_OLD

OLDEST = {"torch": "2.6", "diffusers": "0.36", "accelerate": "0.17.0", "transformers": "4.51"}
"""As the extra ``apply`` of the distribution says, which a test compares."""

INSTALL = "pip install 'offload-planner[apply]'"


def require() -> None:
    """Returns when a session can work here. Raises PlanError with a finding for each package that is
    missing or too old."""
    if found := tuple(_findings(_installed)):
        raise PlanError(found)


def _findings(installed: Callable[[str], str | None]) -> Iterator[Diagnostic]:
    for name, oldest in OLDEST.items():
        version = installed(name)
        if version is None:
            said = f'package "{name}" is missing: applying a plan needs it, at least version {oldest}'
            yield finding(PACKAGE_MISSING, said, hint=INSTALL)
        elif _older(version, oldest):
            said = f'package "{name}" is version {version}, at least {oldest} is expected'
            yield finding(PACKAGE_TOO_OLD, said, hint=INSTALL.replace("install", "install -U"))


def _installed(name: str) -> str | None:
    """A version; "" when the package can be imported and does not say which it is."""
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return "" if find_spec(name) is not None else None


def _older(version: str, oldest: str) -> bool:
    try:
        # A pre-release or local build (2.6.0a0+git) has what its release has.
        return Version(Version(version).base_version) < Version(oldest)
    except InvalidVersion:
        return False
