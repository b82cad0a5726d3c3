"""Why a pipeline did not load: the libraries' exceptions, told apart and put in a plan's words."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

from planner.diagnostics.diagnostic import Code, Diagnostic, finding
from planner.diagnostics.table.p9_machine import (
    CLASS_DIFFERS,
    HUB_UNREACHABLE,
    LOADING_FAILED,
    PACKAGE_MISSING,
    PICKLED,
    REMOTE_CODE,
    SOURCE_DAMAGED,
    SOURCE_NOT_FOUND,
    WEIGHTS_MISSING,
)
from planner.loading.pickles import HINT, refused
from planner.loading.trusted import HINT as TRUST
from planner.loading.trusted import Untrusted
from planner.plan.model import Plan

_UNREACHABLE = ("LocalEntryNotFoundError", "OfflineModeIsEnabled", "ConnectionError", "ConnectError")
_NOT_THERE = ("RepositoryNotFoundError", "GatedRepoError", "RevisionNotFoundError", "DisabledRepoError")
_NEEDS = re.compile(r"requires the (\w+) library|No module named '(\w+)|pip install (?:-U )?([\w-]+)")


def explain(error: BaseException, plan: Plan, folder: Path | None) -> Diagnostic:
    """The finding for what ``from_pretrained`` raised; ``folder``: the source, where it is on this disk."""
    said = [*_chain(error)]
    names = {cls.__name__ for e in said for cls in type(e).__mro__}
    texts = " ".join(str(e) for e in said)
    source = plan.pipeline.source or ""
    if (file := refused(error)) is not None:
        what = (
            f'"{source}" has weights in "{Path(str(file)).name}", which is pickled: reading it can run code'
        )
        return _found(PICKLED, plan, what, HINT)
    if isinstance(error, Untrusted):
        what = f'"{source}" takes a component from the package "{error}", and importing that runs it'
        return _found(REMOTE_CODE, plan, what, TRUST)
    if names & set(_NOT_THERE):
        what = f'the hub has no "{source}", or not for whoever asks'
        return _found(SOURCE_NOT_FOUND, plan, what, "check the name and revision, or log in: hf auth login")
    on_disk = folder is not None and folder.is_dir()
    if not on_disk and unreachable(error):
        what = f'"{source}"' if folder is None else f'the configs that "{source}" needs'
        what += " is" if folder is None else " are"
        what += " not on this machine, and the hub could not be asked"
        return _found(HUB_UNREACHABLE, plan, what, "a folder as pipeline.source needs no network")
    if "trust_remote_code" in texts:
        what = f'"{source}" brings code of its own'
        return _found(REMOTE_CODE, plan, what, TRUST)
    if "SafetensorError" in names or "JSONDecodeError" in names or "not a valid JSON" in texts:
        where = next(_damaged(folder), "") if folder is not None else ""
        what = f'a file of "{source}" is damaged' + (f": {where}" if where else f": {_line(error)}")
        return _found(SOURCE_DAMAGED, plan, what, "download or copy it again")
    if "ImportError" in names and (package := _package(texts)):
        what = f'package "{package}" is missing, and "{plan.pipeline.cls}" needs it'
        return _found(PACKAGE_MISSING, plan, what, f"pip install {package}")
    told = _about_files(plan, folder, texts) if folder and isinstance(error, (OSError, ValueError)) else None
    if told is not None:
        return told
    if "expected" in texts and "were passed" in texts:
        what = f'"{source}" lacks components of {plan.pipeline.cls}' + _holds(folder)
        return _found(CLASS_DIFFERS, plan, what, _line(error))
    return _found(LOADING_FAILED, plan, f'"{source}" does not load: {_line(error)}', "")


def unreachable(error: BaseException) -> bool:
    """Whether a hub was asked and could not be."""
    said = [*_chain(error)]
    named = any(cls.__name__ in _UNREACHABLE for e in said for cls in type(e).__mro__)
    return named or any("offline mode" in str(e).lower() for e in said)


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    """The error and those that it came from: libraries wrap each other's."""
    seen = 0
    while error is not None and seen < 10:
        yield error
        error, seen = error.__cause__ or error.__context__, seen + 1


def _found(code: Code, plan: Plan, message: str, hint: str) -> Diagnostic:
    if code in (CLASS_DIFFERS,):
        return finding(code, message, span=plan.pipeline.span, pointer="/pipeline", hint=hint)
    span = plan.pipeline.spans.get("source", plan.pipeline.span)
    return finding(code, message, span=span, pointer="/pipeline/source", hint=hint)


def _line(error: BaseException) -> str:
    """What the library said, in one line."""
    text = (" ".join(str(error).split()) or type(error).__name__).removesuffix(".")
    return text if len(text) <= 200 else text[:197] + "..."


def _package(text: str) -> str:
    match = _NEEDS.search(text)
    return next((group for group in match.groups() if group), "").lower() if match else ""


def _about_files(plan: Plan, folder: Path, texts: str) -> Diagnostic | None:
    """What is missing in a folder: its index, a component's folder, safetensors, a variant."""
    source = plan.pipeline.source or ""
    if folder.is_file():
        return None
    if not (folder / "model_index.json").is_file():
        what = f'"{source}" is no pipeline\'s folder: it has no model_index.json'
        return _found(SOURCE_NOT_FOUND, plan, what, "")
    variant = plan.pipeline.variant
    if variant is not None and f"variant={variant}" in texts:
        span = plan.pipeline.spans.get("variant", plan.pipeline.span)
        what = f'"{source}" has no weights of the variant "{variant}"'
        return finding(WEIGHTS_MISSING, what, span=span, pointer="/pipeline/variant")
    for name in _models(folder):
        there = folder / name
        if any(there.glob("*.safetensors")):
            continue
        if any(there.glob("*.bin")):
            what = f'the weights of "{name}" are pickled, and reading them can run code'
            return _found(PICKLED, plan, what, HINT)
        return _found(WEIGHTS_MISSING, plan, f'"{source}" has no weights of "{name}"', "")
    return None


def _models(folder: Path) -> Iterator[str]:
    """Components with weights, by the index: what has a config of a model."""
    for name, value in _index(folder).items():
        if isinstance(value, list) and len(value) == 2 and value[0] in ("diffusers", "transformers"):
            kind = str(value[1])
            if not kind.endswith(
                ("Scheduler", "Tokenizer", "TokenizerFast", "Processor", "FeatureExtractor")
            ):
                yield name


def _damaged(folder: Path) -> Iterator[str]:
    """Files of a folder that their own libraries refuse, by name."""
    from safetensors import SafetensorError, safe_open

    for path in sorted(p for p in [folder, *folder.rglob("*")] if p.is_file()):
        try:
            if path.suffix == ".safetensors":
                with safe_open(path, framework="np") as file:
                    file.keys()
            elif path.suffix == ".json":
                json.loads(path.read_text(encoding="utf-8"))
        except (SafetensorError, ValueError, OSError):
            yield path.relative_to(folder).as_posix() if path != folder else path.name


def _holds(folder: Path | None) -> str:
    name = _index(folder).get("_class_name") if folder is not None else None
    return f": it holds a {name}" if name else ""


def _index(folder: Path) -> dict[str, object]:
    try:
        found = json.loads((folder / "model_index.json").read_text(encoding="utf-8"))
        return found if isinstance(found, dict) else {}
    except (OSError, ValueError):
        return {}
