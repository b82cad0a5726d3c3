"""A recipe fitted to a card, and what is kept of it beside the plan."""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import asdict, dataclass
from importlib import resources

from planner.cards import shipped as cards
from planner.diagnostics.diagnostic import PlanError
from planner.diagnostics.table.p9_fit import NOTHING_FITS, TIGHT
from planner.docs.cookbook.recipes import LEFT, SIZES, Recipe, entry, file_of, folder
from planner.fitting.fit import Fitted, fit
from planner.models.model import FOLDER as DATA
from planner.models.model import INDEX
from planner.plan.write import HEAD
from planner.version import VERSION

SCHEMA = "# yaml-language-server: $schema=../../schemas/plan.v1.schema.json\n"
RESULTS = "cookbook.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """``digest``: of what the fit went by; ``bound``: seconds that no plan is faster than, None where nothing
    fits; ``least``: MiB that would do then; ``tiled``: whether its VAE is tiled; ``tight``: whether an
    allocation is tried twice (P996)."""

    digest: str
    bound: float | None
    least: int | None
    tiled: bool
    tight: bool


def results() -> dict[str, Result]:
    """By the plan's name."""
    path = folder() / RESULTS
    if not path.exists():
        return {}
    return {name: Result(**said) for name, said in json.loads(path.read_text(encoding="utf-8")).items()}


def digest(recipe: Recipe, size: int) -> str:
    """Of what a fit goes by: the model's sizes and traces, the card, the call, this package's version."""
    data = resources.files("planner.models") / DATA
    name = recipe.model.name
    index = json.loads((data / INDEX).read_text(encoding="utf-8"))[name]
    said = [recipe.source, dict(recipe.run), SIZES[size], size - LEFT, VERSION, index]
    made = hashlib.sha256(json.dumps(said, sort_keys=True).encode())
    made.update((data / f"{name}.json.gz").read_bytes())
    made.update((cards.FOLDER / f"{SIZES[size]}.yaml").read_bytes())
    return made.hexdigest()[:16]


def made(recipe: Recipe, size: int) -> tuple[str | None, Result]:
    """The plan's text, None where nothing fits, and what is kept of it.

    The picture is as without a plan where anything fits so; else the VAE is tiled, where such a call was
    traced; where that is not enough, an allocation may be tried twice, with the VAE as it was.
    Raises PlanError but for P991.
    """
    tilings = sorted({bool(call.tiling) for call in recipe.model.calls})
    least: int | None = None
    mark = digest(recipe, size)
    short: tuple[str, Result] | None = None
    for tiled in tilings:
        try:
            found = _fitted(recipe, size, tiled=tiled)
        except PlanError as error:
            least = _least(error)
            continue
        tight = any(d.code is TIGHT for d in found.diagnostics)
        bound = round(found.bound, 6)
        result = Result(digest=mark, bound=bound, least=None, tiled=tiled, tight=tight)
        if not tight:
            return _headed(found, recipe, size), result
        short = short or (_headed(found, recipe, size), result)
    return short or (
        None,
        Result(digest=mark, bound=None, least=least, tiled=tilings[-1], tight=False),
    )


def write(recipe: Recipe, size: int) -> bool:
    """Fits, and keeps the plan and its results. Whether anything fits."""
    text, result = made(recipe, size)
    path = file_of(recipe, size)
    if text is None:
        path.unlink(missing_ok=True)
    else:
        folder().mkdir(exist_ok=True)
        path.write_text(text, encoding="utf-8")
    kept = {name: asdict(one) for name, one in {**results(), entry(recipe, size): result}.items()}
    (folder() / RESULTS).write_text(json.dumps(kept, indent=1, sort_keys=True) + "\n", encoding="utf-8")
    return text is not None


def _fitted(recipe: Recipe, size: int, *, tiled: bool) -> Fitted:
    overrides = (f"name={entry(recipe, size)}", *(["components.vae.tiling=on"] if tiled else []))
    return fit(recipe.source, vram=f"{size - LEFT}GiB", card=SIZES[size], run=recipe.run, overrides=overrides)


def _least(error: PlanError) -> int | None:
    """MiB, as P991 has it. Raises ``error`` again where it is another."""
    said = next((d for d in error.diagnostics if d.code is NOTHING_FITS), None)
    if said is None:
        raise error
    number = re.match(r"(\d+)MiB is the least", said.hint)
    return int(number[1]) if number else None


def _headed(found: Fitted, recipe: Recipe, size: int) -> str:
    what = f"{recipe.title} on a card of {size} GB, the fastest plan by prediction"
    return found.text.replace(HEAD, f"{SCHEMA}# {what}. Nothing of it was measured.\n", 1)
