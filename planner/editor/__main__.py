"""``python -m planner.editor`` writes the schema where it ships."""

from __future__ import annotations

from pathlib import Path

from planner.editor.schema import schema_json

if __name__ == "__main__":
    path = Path(__file__).parents[2] / "schemas" / "plan.v1.schema.json"
    path.write_text(schema_json(), encoding="utf-8")
