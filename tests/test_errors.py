"""The tree of errors: drawn as it is, each problem with an example and a row in docs/api.md."""

import re
from collections.abc import Iterator
from typing import TypeVar

import pytest

from app import PROJECT_DIR, errors
from app.errors import Problem, TrackerError
from app.web.errors import HTTPProblem

NODE = re.compile(r"^([│ ]*)[├└]── (\w+) *(\d{3})?", re.MULTILINE)
ROW = re.compile(r"^\| `([a-z-]+)` \| (\d{3}) \|", re.MULTILINE)
Node = tuple[str, str, int | None]
Kind = TypeVar("Kind", bound=TrackerError)


def below(parent: type[Kind]) -> Iterator[tuple[type[Kind], type[Kind]]]:
    """Yield every class below this one, each with its parent."""
    for child in parent.__subclasses__():
        yield child, parent
        yield from below(child)


def drawn() -> Iterator[Node]:
    """Yield every class of the drawing: its name, its parent's, and its status if it has one."""
    branch = ["TrackerError"]
    for indent, name, status in NODE.findall(errors.__doc__ or ""):
        depth = len(indent) // 4 + 1
        branch[depth:] = [name]
        yield name, branch[depth - 1], int(status) if status else None


PROBLEMS = [kind for kind, _ in below(Problem) if "slug" in vars(kind)]
every_problem = pytest.mark.parametrize("kind", [*PROBLEMS, HTTPProblem])


def test_the_drawing_is_the_tree() -> None:
    tree = [
        (child.__name__, parent.__name__, vars(child).get("status"))
        for child, parent in below(TrackerError)
        if child.__module__.startswith("app.")
    ]
    assert sorted(drawn(), key=str) == sorted(tree, key=str)


@every_problem
def test_a_problem_has_an_example_with_a_sentence(kind: type[Problem]) -> None:
    example = kind.example()
    assert type(example) is kind
    assert re.fullmatch(r".{20,}[^.]\.|body\.owner: .+", example.detail)


@every_problem
def test_a_problem_names_its_kind_in_its_type_and_title(kind: type[Problem]) -> None:
    example = kind.example()
    assert re.fullmatch(r"[a-z]+(-[a-z]+)*", example.slug)
    assert example.title
    assert 400 <= example.status <= 599


def test_every_kind_of_problem_has_a_name_of_its_own() -> None:
    slugs = [kind.slug for kind in PROBLEMS]
    assert len(slugs) == len(set(slugs))


def test_the_page_of_the_api_has_a_row_for_each_problem() -> None:
    page = (PROJECT_DIR / "docs" / "api.md").read_text()
    rows = [(slug, int(status)) for slug, status in ROW.findall(page)]
    assert sorted(rows) == sorted((kind.slug, kind.status) for kind in PROBLEMS)
