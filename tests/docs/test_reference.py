"""Everything that has a name has its place in the reference, and the reference is up to date."""

import importlib.util
import re
import tomllib
from dataclasses import fields, is_dataclass
from typing import get_type_hints

import pytest
import typer
from pages import DOCS, PAGES, ROOT, links, name_of

from hospitium.cli.main import app
from hospitium.engines.hub.app import Hub
from hospitium.engines.hub.limits import Limits
from hospitium.engines.hub.local import LocalBackend
from hospitium.engines.hub.office import Office
from hospitium.errors import ALL_ERRORS
from hospitium.evaluation.report_shape import Report
from hospitium.plan import Plan
from hospitium.plan.checking import LOSSES, MODEL_ARGS
from hospitium.plan.schema import TaskSection
from hospitium.state.desk import Desk
from hospitium.state.seats import NO_ANSWER
from hospitium.wire.gate import REASONS
from hospitium.wire.signing import SigningKey

REFERENCE = DOCS / "reference"


def load_writer():
    spec = importlib.util.spec_from_file_location("write_reference", DOCS / "write_reference.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def plan_keys(section, path=""):
    for item in fields(section):
        value = getattr(section, item.name)
        if is_dataclass(value):
            yield from plan_keys(value, f"{path}{item.name}.")
        else:
            yield f"{path}{item.name}"


def command_names(group, path):
    for name, command in group.commands.items():
        if hasattr(command, "commands"):
            yield from command_names(command, f"{path} {name}")
        else:
            yield f"{path} {name}"


def test_generated_pages_are_up_to_date():
    writer = load_writer()
    old = [n for n, write in writer.PAGES.items() if (DOCS / n).read_text("utf-8") != write()]
    assert not old, "run `make docs`"


@pytest.mark.parametrize("error", ALL_ERRORS, ids=lambda error: error.code)
def test_every_error_has_a_page_in_the_usual_form(error):
    text = (DOCS / "errors" / f"{error.code}.md").read_text(encoding="utf-8")
    assert text.startswith(f"# {error.code}: {error.__name__}\n")
    headings = ["What it means", "What state things are in", "What to do", "Who acts"]
    assert re.findall(r"^## (.+)$", text, re.M) == headings


def test_every_page_of_an_error_has_its_error():
    pages = {page.stem for page in (DOCS / "errors").glob("*.md")}
    assert pages == {error.code for error in ALL_ERRORS}


def test_every_plan_key_is_in_the_reference():
    text = (REFERENCE / "plan.md").read_text(encoding="utf-8")
    keys = list(plan_keys(Plan()))
    assert "task.kind" in keys and TaskSection.__doc__ in text
    assert [key for key in keys if f"| `{key}` |" not in text] == []


def test_every_command_is_in_the_reference():
    text = (REFERENCE / "commands.md").read_text(encoding="utf-8")
    names = list(command_names(typer.main.get_command(app), "hospitium"))
    assert "hospitium run start" in names
    assert [name for name in names if f"## `{name}`" not in text] == []


def test_every_reason_to_leave_a_site_out_is_explained():
    text = (DOCS / "how-to" / "left-out.md").read_text(encoding="utf-8")
    assert [r for r in (*REASONS, NO_ANSWER, "deadline") if f"| `{r}` |" not in text] == []


def test_every_key_of_the_report_is_in_the_reference():
    text = (REFERENCE / "report.md").read_text(encoding="utf-8")
    assert [key for key in get_type_hints(Report) if not re.search(rf"`{key}\b", text)] == []


def routes_of_the_hub(tmp_path):
    """Return the routes of a hub with a desk, as method and path."""
    backend = LocalBackend(tmp_path)
    hub = Hub(
        backend, members={}, key=SigningKey.generate(), office=Office(Desk(tmp_path / "desk"))
    )
    found = hub.api.routes
    backend.close()
    return {f"{method} {route.path}" for route in found for method in route.methods}


def test_every_route_of_the_hub_is_in_the_reference_and_every_limit_has_its_figure(tmp_path):
    text = (REFERENCE / "hub.md").read_text(encoding="utf-8")
    routes = text.partition("## Routes")[2].partition("## Limits")[0]
    rows = re.findall(r"^\| `([A-Z]+ [^`]+)` \| (\w+) \|", routes, re.M)
    assert {route for route, _ in rows} == routes_of_the_hub(tmp_path)
    assert {who for _, who in rows} == {"anybody", "invited", "applicant", "member"}
    for item in fields(Limits):
        figure = re.escape(f"{item.default:,g}" if item.default < 1000 else f"{item.default:,.0f}")
        assert re.search(rf"`{item.name}`(:| \|)[^;|]*?\b{figure}\b", text), (item.name, figure)


def test_every_model_argument_and_loss_is_in_the_reference():
    text = (REFERENCE / "models.md").read_text(encoding="utf-8")
    names = {*MODEL_ARGS, *LOSSES, *(arg for args in MODEL_ARGS.values() for arg in args)}
    assert [name for name in sorted(names) if f"`{name}`" not in text] == []


def test_every_dependency_has_its_row_and_every_row_its_dependency():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"].values()
    lines = [*project["dependencies"], *(line for extra in extras for line in extra)]
    wanted = {re.split(r"[\[<>=]", line)[0] for line in lines} - {"hospitium"}
    text = (REFERENCE / "dependencies.md").read_text(encoding="utf-8")
    rows = [line.split("|")[1:-1] for line in text.splitlines() if line.startswith("|")]
    named = {row[0].strip() for row in rows} - {"package", "---"}
    assert named == wanted
    assert all(cell.strip() for row in rows for cell in row)


def test_every_decision_has_a_number_and_the_usual_form():
    pages = sorted((DOCS / "decisions").glob("*.md"))
    assert [int(page.stem[:4]) for page in pages] == list(range(1, len(pages) + 1))
    for page in pages:
        text = page.read_text(encoding="utf-8")
        assert text.startswith(f"# {int(page.stem[:4])}. ")
        assert re.findall(r"^## (.+)$", text, re.M) == ["Context", "Decision", "What it costs"]


def test_every_page_can_be_reached_from_the_index():
    seen, waiting = set(), [DOCS / "index.md"]
    while waiting:
        page = waiting.pop()
        if page in seen or not page.is_file():
            continue
        seen.add(page)
        if page.suffix == ".md":
            found = [target for target in links(page) if "://" not in target]
            waiting += [(page.parent / target.split("#")[0]).resolve() for target in found]
    wanted = [p for p in PAGES if DOCS in p.parents and p.parent != DOCS / "results"]
    assert [name_of(page) for page in wanted if page not in seen] == []
