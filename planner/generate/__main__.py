"""``python -m planner.generate`` writes the catalogue of the installed diffusers."""

from __future__ import annotations

from importlib import metadata
from pathlib import Path

import click

from planner.generate.write import catalogue_text

DATA = Path(__file__).parents[1] / "target" / "data"


@click.command()
@click.option(
    "--out", type=click.Path(path_type=Path, dir_okay=False), help="Where to; by default where it ships."
)
def main(out: Path | None) -> None:
    """Read every pipeline class of the installed diffusers and write what plans need to know of it."""
    path = out or DATA / f"diffusers-{metadata.version('diffusers')}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(catalogue_text(), encoding="utf-8")
    click.echo(f"wrote {path}")


if __name__ == "__main__":
    main()
