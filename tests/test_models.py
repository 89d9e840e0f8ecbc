"""The tables: the brief's columns, and the rules that the database itself holds."""

from typing import Any
from uuid import uuid4

import psycopg
import pytest
from alembic import command
from psycopg import sql
from psycopg.errors import (
    CheckViolation,
    ForeignKeyViolation,
    NotNullViolation,
    NumericValueOutOfRange,
    StringDataRightTruncation,
    UniqueViolation,
)

from app.models import Record
from tests.support.database import alembic

Rows = psycopg.Connection[Any]


def columns(rows: Rows, table: str) -> list[tuple[Any, ...]]:
    return rows.execute(
        "SELECT column_name, data_type, character_maximum_length, is_nullable"
        " FROM information_schema.columns"
        " WHERE table_schema = 'public' AND table_name = %s ORDER BY ordinal_position",
        [table],
    ).fetchall()


def add(rows: Rows, **changes: Any) -> Any:
    """Insert a repository and return its id."""
    row = {"id": uuid4(), "owner": "FastAPI", "repo_name": "FastAPI", "stars": 1, **changes}
    rows.execute(
        "INSERT INTO repositories VALUES (%(id)s, %(owner)s, %(repo_name)s, %(stars)s)", row
    )
    return row["id"]


def link(rows: Rows, repository_id: Any, github_id: int | None = 1) -> None:
    rows.execute(
        "INSERT INTO github_links VALUES (%s, %s, NULL, now())", [repository_id, github_id]
    )


def test_the_models_and_the_migrations_agree(database_url: str) -> None:
    alembic(database_url, command.check)


def test_a_repository_has_exactly_the_columns_of_the_brief(rows: Rows) -> None:
    assert columns(rows, "repositories") == [
        ("id", "uuid", None, "NO"),
        ("owner", "character varying", 100, "NO"),
        ("repo_name", "character varying", 100, "NO"),
        ("stars", "integer", None, "NO"),
    ]


def test_a_link_has_the_columns_that_the_tracker_needs(rows: Rows) -> None:
    assert columns(rows, "github_links") == [
        ("repository_id", "uuid", None, "NO"),
        ("github_id", "bigint", None, "NO"),
        ("etag", "text", None, "YES"),
        ("checked_at", "timestamp with time zone", None, "NO"),
    ]


def test_the_primary_key_of_a_repository_is_its_id(rows: Rows) -> None:
    with pytest.raises(UniqueViolation, match="pk_repositories"):
        add(rows, id=add(rows), owner="other")


@pytest.mark.parametrize(
    "name",
    [
        {"owner": "FastAPI", "repo_name": "FastAPI"},
        {"owner": "fastapi", "repo_name": "FASTAPI"},
    ],
    ids=["same name", "other case"],
)
def test_a_name_cannot_be_taken_twice(rows: Rows, name: dict[str, str]) -> None:
    add(rows)
    with pytest.raises(UniqueViolation, match="uq_repositories_owner_repo_name"):
        add(rows, **name)


@pytest.mark.parametrize("other", [{"owner": "other"}, {"repo_name": "other"}], ids=str)
def test_half_a_name_may_be_the_same(rows: Rows, other: dict[str, str]) -> None:
    add(rows)
    add(rows, **other)


@pytest.mark.parametrize("column", ["owner", "repo_name"])
def test_names_belong_to_no_language(rows: Rows, column: str) -> None:
    """In Turkish, the small letter of I is another one than i."""
    add(rows)
    collation = sql.SQL("SELECT pg_collation_for(lower({})) FROM repositories")
    assert rows.execute(collation.format(sql.Identifier(column))).fetchone() == ('"C"',)


def test_a_lookup_by_name_in_any_case_uses_the_index(rows: Rows) -> None:
    with rows.transaction():
        rows.execute("SET LOCAL enable_seqscan = off")
        plan = rows.execute(
            "EXPLAIN SELECT * FROM repositories"
            " WHERE lower(owner) = 'fastapi' AND lower(repo_name) = 'fastapi'"
        ).fetchall()
    assert "uq_repositories_owner_repo_name" in str(plan)


@pytest.mark.parametrize(
    ("change", "refusal"),
    [
        ({"stars": -1}, CheckViolation),
        ({"stars": 2**31}, NumericValueOutOfRange),
        ({"stars": None}, NotNullViolation),
        ({"owner": None}, NotNullViolation),
        ({"repo_name": None}, NotNullViolation),
        ({"owner": "a" * 101}, StringDataRightTruncation),
        ({"repo_name": "a" * 101}, StringDataRightTruncation),
    ],
    ids=str,
)
def test_a_row_that_breaks_a_rule_is_refused(
    rows: Rows, change: dict[str, Any], refusal: type[psycopg.Error]
) -> None:
    with pytest.raises(refusal):
        add(rows, **change)


@pytest.mark.parametrize("stars", [0, 2**31 - 1])
def test_a_repository_may_have_any_number_of_stars_that_fits(rows: Rows, stars: int) -> None:
    add(rows, stars=stars)


def test_names_of_100_characters_fit(rows: Rows) -> None:
    add(rows, owner="a" * 100, repo_name="b" * 100)


def test_a_link_goes_with_its_repository(rows: Rows) -> None:
    link(rows, add(rows))
    rows.execute("DELETE FROM repositories")
    assert rows.execute("SELECT count(*) FROM github_links").fetchone() == (0,)


def test_a_repository_does_not_go_with_its_link(rows: Rows) -> None:
    link(rows, add(rows))
    rows.execute("DELETE FROM github_links")
    assert rows.execute("SELECT count(*) FROM repositories").fetchone() == (1,)


def test_a_link_needs_a_repository(rows: Rows) -> None:
    with pytest.raises(ForeignKeyViolation):
        link(rows, uuid4())


def test_a_link_needs_githubs_number(rows: Rows) -> None:
    with pytest.raises(NotNullViolation):
        link(rows, add(rows), github_id=None)


def test_a_repository_has_one_link(rows: Rows) -> None:
    repository_id = add(rows)
    link(rows, repository_id, github_id=1)
    with pytest.raises(UniqueViolation):
        link(rows, repository_id, github_id=2)


def test_a_repository_on_github_is_linked_once(rows: Rows) -> None:
    link(rows, add(rows), github_id=1)
    with pytest.raises(UniqueViolation):
        link(rows, add(rows, owner="other"), github_id=1)


def test_githubs_numbers_may_be_large(rows: Rows) -> None:
    link(rows, add(rows), github_id=2**63 - 1)


def test_the_full_name_of_a_record_is_as_github_writes_it() -> None:
    assert Record(uuid4(), "fastapi", "typer", 1).full_name == "fastapi/typer"
