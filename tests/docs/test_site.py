"""The site: every page is there, every link leads somewhere, nothing is fetched, no code is left out."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path

import pytest

import planner
from planner.cli.main import run
from planner.cli.verbs import VERBS
from planner.diagnostics.codes import all_codes
from planner.docs import codes
from planner.docs.markdown import fence, table
from planner.docs.pages import FOLDER, PAGES, Page, body, page
from planner.docs.site import broken, build, rendered
from planner.document.language.plan import schema


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("site")
    build(out)
    return out


class Links(HTMLParser):
    def __init__(self, text: str) -> None:
        super().__init__()
        self.ids: set[str] = set()
        self.links: list[str] = []
        self.loaded: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        said = dict(attrs)
        self.ids |= {said["id"] or ""} if "id" in said else set()
        if tag == "a":
            self.links.append(said["href"] or "")
        elif loaded := said.get("src") or said.get("href"):
            self.loaded.append(loaded)


def test_every_written_page_is_listed() -> None:
    assert {path.stem for path in FOLDER.glob("*.md")} <= {one.name for one in PAGES}


def test_links_of_the_sources_lead_somewhere() -> None:
    assert broken() == []


def test_a_link_that_leads_nowhere_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    text = (
        "# X\n[a](y.md) [b](x.md#no) [c](#x) [d](start.md#nowhere) [e](start.md#install) [f](https://x.org)"
    )
    monkeypatch.setattr("planner.docs.site.PAGES", (Page("x", "S", lambda: text), page("start")))
    found = [link for link in broken() if link.startswith("x.md")]
    assert found == ["x.md: y.md", "x.md: x.md#no", "x.md: start.md#nowhere"]


def test_links_of_the_html_lead_somewhere_and_nothing_is_fetched(site: Path) -> None:
    pages = {path.name: Links(path.read_text(encoding="utf-8")) for path in site.glob("*.html")}
    assert {name.removesuffix(".html") for name in pages} == {one.name for one in PAGES}
    for name, made in pages.items():
        assert made.loaded == ["style.css"], name
        for link in made.links:
            if re.match(r"[a-z]+:", link):
                continue
            file, _, anchor = link.partition("#")
            assert not anchor or anchor in pages[file or name].ids, (name, link)
            assert not file or file in pages, (name, link)
    assert "url(" not in (site / "style.css").read_text(encoding="utf-8")


def test_the_same_version_gives_the_same_bytes(site: Path, tmp_path: Path) -> None:
    build(tmp_path)
    for path in site.iterdir():
        assert path.read_bytes() == (tmp_path / path.name).read_bytes()


def test_every_code_has_a_section() -> None:
    made = rendered(next(one for one in PAGES if one.name == "codes"))
    for code in all_codes().values():
        assert codes.anchor(code) in made.anchors
        assert code.wrong.strip() in made.page.text()


def test_what_looks_like_html_or_ends_a_cell_is_shown() -> None:
    text = (
        "# X\n\na `<b>` and <i>c</i>\n\n" + table(["a"], [["x|y"]]) + "\n\n" + fence("```\n</code>", "yaml")
    )
    made = rendered(Page("x", "S", lambda: text)).html
    for shown in ("&lt;b&gt;", "&lt;i&gt;c&lt;/i&gt;", "<td>x|y</td>", "&lt;/code&gt;"):
        assert shown in made
    assert made.count("</code></pre>") == 1


def test_every_key_of_the_language_has_a_section_with_what_it_says() -> None:
    made = rendered(next(one for one in PAGES if one.name == "language"))
    text = made.page.text()
    for key, shape in schema()["properties"].items():
        assert key in made.anchors
        assert shape["description"] in text
    for inner in ("budget.vram", "components.policy", "quantization.backend", "stages.loop", "loras.lora_id"):
        assert f"### {inner}\n" in text


def test_every_verb_and_every_export_has_a_section() -> None:
    commands, api = (next(p for p in PAGES if p.name == name).text() for name in ("commands", "api"))
    for name in VERBS:
        assert f"### plan {name}\n" in commands
    for name in set(planner.__all__) - {"__version__"}:
        assert f"### planner.{name}\n" in api
    session = api.split("### Session\n")[1]
    for method in ("- `report()`: ", "- `remove()`: "):
        assert method in session


def test_a_skill_begins_with_front_matter_and_its_page_does_not() -> None:
    text = next(p for p in PAGES if p.name == "skill").text()
    head = text.split("---\n")[1]
    assert re.match(r"name: [a-z-]{1,64}\ndescription: .{1,1024}\n\Z", head)
    assert body(text).startswith("# Skill")


def test_plan_docs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run(["docs"]) == 0
    assert (tmp_path / "plan-docs" / "index.html").is_file()
    assert run(["docs", "--out", "plan-docs"]) == 0  # again: its own
    assert run(["docs", "--list"]) == 0
    assert [line.split()[0] for line in capsys.readouterr().out.splitlines()[1:]] == [p.name for p in PAGES]
    for one in PAGES:
        assert run(["docs", one.name]) == 0
        assert capsys.readouterr().out == one.text()
    assert run(["docs", "code"]) == 2
    assert 'did you mean "codes"?' in capsys.readouterr().err
    assert run(["docs", "codes", "--list"]) == 2


def test_a_site_of_somebody_else_is_left_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "index.html").write_text("mine")
    assert run(["docs", "--out", str(tmp_path)]) == 2
    assert "[P940 output-taken]" in capsys.readouterr().out
    assert [path.name for path in tmp_path.iterdir()] == ["index.html"]
    (tmp_path / "file").write_text("")
    assert run(["docs", "--out", str(tmp_path / "file" / "in")]) == 4


def test_without_the_extra_a_page_is_printed_and_a_build_says_what_it_needs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    import sys

    for name in ("jinja2", "planner.docs.site"):
        monkeypatch.setitem(sys.modules, name, None)
    monkeypatch.delitem(sys.modules, "planner.docs.site")
    assert run(["docs", "start"]) == 0
    capsys.readouterr()
    assert run(["docs", "--out", str(tmp_path / "out")]) == 4
    assert "offload-planner[docs]" in capsys.readouterr().out
    assert not (tmp_path / "out").exists()
