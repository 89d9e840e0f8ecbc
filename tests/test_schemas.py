"""What is accepted as the name of a repository, and how a record is written."""

import json
import re
from collections.abc import Callable
from dataclasses import replace
from typing import Annotated, Any
from uuid import UUID

import pytest
from jsonschema import Draft202012Validator  # type: ignore[import-untyped]
from pydantic import StringConstraints, TypeAdapter, ValidationError

from app.models import Record
from app.schemas import RepositoryReference, represent

# Neither an owner nor a repository can be called so.
NO_NAMES = {
    "empty": "",
    "white space only": " \t\r\n\f\v",
    "a no-break space": "\u00a0fastapi",
    "an ideographic space": "fastapi\u3000",
    "a next line": "\u0085fastapi",
    "a file separator": "\x1cfastapi",
    "101 characters": "a" * 101,
    "101 characters and white space": f" {'a' * 101} ",
    "one dot": ".",
    "two dots": "..",
    "two dots and white space": " .. ",
    "a slash": "fast/api",
    "a way up": "a/../b",
    "an escaped dot": "%2e",
    "an escaped slash": "fast%2Fapi",
    "a fragment": "fast#api",
    "a query": "fast?api",
    "a backslash": "fast\\api",
    "a colon": "fast:api",
    "a semicolon": "fast;api",
    "an at sign": "fast@api",
    "a plus sign": "fast+api",
    "a space within": "fast api",
    "a line break within": "fast\napi",
    "a carriage return within": "fast\r\nHost: example.org",
    "a Cyrillic letter": "f\u0430stapi",
    "a long s": "fa\u017ftapi",
    "a Kelvin sign": "\u212aelvin",
    "full width letters": "\uff46\uff41\uff53\uff54",
    "full width dots": "\uff0e\uff0e",
    "an accent": "f\u00e4stapi",
    "an accent of its own": "fa\u0308stapi",
    "Arabic digits": "\u0661\u0662",
    "superscript digits": "\u00b2",
    "a zero width space": "fastapi\u200b",
    "a byte order mark": "\ufefffastapi",
    "a right-to-left mark": "fastapi\u202e",
    "an emoji": "\U0001f984",
    "a NUL": "fastapi\0",
    "an escape": "\x1b[2Jfastapi",
    "a delete": "fastapi\x7f",
}
OWNERS = ["a", "0", "fastapi", "A-Z", "-old-", "o_ctocat_microsoft", "-", "_", "a" * 100]
REPOSITORIES = [*OWNERS, ".github", "...", "a.", "a..b", "-_.", "vscode.js", "." * 100]

# Bodies of which no part can be used, with the place and the kind of what is wrong.
NO_REFERENCES: dict[str, tuple[bytes, tuple[str, ...], str]] = {
    "nothing": (b"", (), "json_invalid"),
    "white space": (b" \n", (), "json_invalid"),
    "broken JSON": (b'{"owner": "fastapi", ', (), "json_invalid"),
    "two values": (b'{"owner": "a", "repo_name": "b"} {}', (), "json_invalid"),
    "a comma too many": (b'{"owner": "a", "repo_name": "b",}', (), "json_invalid"),
    "single quotes": (b"{'owner': 'a', 'repo_name': 'b'}", (), "json_invalid"),
    "a comment": (b'{"owner": "a", /* b */ "repo_name": "b"}', (), "json_invalid"),
    "a raw line break": (b'{"owner": "a\n", "repo_name": "b"}', (), "json_invalid"),
    "invalid UTF-8": (b'{"owner": "\xff\xfe", "repo_name": "b"}', (), "json_invalid"),
    "half a surrogate": (b'{"owner": "\\ud800", "repo_name": "b"}', (), "json_invalid"),
    "half a surrogate as a name": (b'{"\\ud800": 1}', (), "json_invalid"),
    "UTF-16": ('{"owner": "a", "repo_name": "b"}'.encode("utf-16"), (), "json_invalid"),
    "deep nesting": (b"[" * 60_000, (), "json_invalid"),
    "deep nesting of a member": (
        b'{"owner": ' + b"[" * 30_000 + b"]" * 30_000 + b', "repo_name": "b"}',
        (),
        "json_invalid",
    ),
    "null": (b"null", (), "model_type"),
    "a list": (b'["fastapi", "fastapi"]', (), "model_type"),
    "a string": (b'"fastapi/fastapi"', (), "model_type"),
    "a number": (b"1", (), "model_type"),
    "no owner": (b'{"repo_name": "b"}', ("owner",), "missing"),
    "no repo_name": (b'{"owner": "a"}', ("repo_name",), "missing"),
    "owner null": (b'{"owner": null, "repo_name": "b"}', ("owner",), "string_type"),
    "owner a number": (b'{"owner": 1, "repo_name": "b"}', ("owner",), "string_type"),
    "owner NaN": (b'{"owner": NaN, "repo_name": "b"}', ("owner",), "string_type"),
    "owner a list": (b'{"owner": ["a"], "repo_name": "b"}', ("owner",), "string_type"),
    "repo_name true": (b'{"owner": "a", "repo_name": true}', ("repo_name",), "string_type"),
    "repo_name an object": (b'{"owner": "a", "repo_name": {}}', ("repo_name",), "string_type"),
    "a member too many": (
        b'{"owner": "a", "repo_name": "b", "stars": 1}',
        ("stars",),
        "extra_forbidden",
    ),
    "a member in another case": (
        b'{"owner": "a", "repo_name": "b", "Owner": "a"}',
        ("Owner",),
        "extra_forbidden",
    ),
}

ID = UUID("5f0c8a4e-7d3b-4c55-9a51-0f5d3f0e6b7a")
members = pytest.mark.parametrize("member", ["owner", "repo_name"])


def record(**change: Any) -> Record:
    return replace(Record(ID, "octocat", "Hello-World", 80), **change)


def reference(**names: str) -> RepositoryReference:
    return RepositoryReference.model_validate({"owner": "a", "repo_name": "b", **names})


def allowed_by_schema(**names: str) -> bool:
    """Return whether the published schema allows the names."""
    validator = Draft202012Validator(RepositoryReference.model_json_schema())
    allowed: bool = validator.is_valid({"owner": "a", "repo_name": "b", **names})
    return allowed


@members
@pytest.mark.parametrize("name", NO_NAMES.values(), ids=NO_NAMES)
def test_what_cannot_be_a_name_is_refused(member: str, name: str) -> None:
    with pytest.raises(ValidationError) as refusal:
        reference(**{member: name})
    assert [error["loc"] for error in refusal.value.errors()] == [(member,)]


@members
@pytest.mark.parametrize("name", NO_NAMES.values(), ids=NO_NAMES)
def test_what_cannot_be_a_name_is_refused_by_the_published_schema(member: str, name: str) -> None:
    assert not allowed_by_schema(**{member: name})


@pytest.mark.parametrize("name", [".github", "socket.io"])
def test_a_dot_is_for_repositories_and_not_for_owners(name: str) -> None:
    with pytest.raises(ValidationError):
        reference(owner=name)


@pytest.mark.parametrize("valid", [reference, allowed_by_schema])
@pytest.mark.parametrize("name", OWNERS)
def test_every_owner_that_github_may_have_is_accepted(
    valid: Callable[..., object], name: str
) -> None:
    assert valid(owner=name)


@pytest.mark.parametrize("valid", [reference, allowed_by_schema])
@pytest.mark.parametrize("name", REPOSITORIES)
def test_every_repository_that_github_may_have_is_accepted(
    valid: Callable[..., object], name: str
) -> None:
    assert valid(repo_name=name)


@members
@pytest.mark.parametrize("space", [" ", "\t", "\r\n", "\f", "\v", " " * 200], ids=ascii)
def test_ascii_white_space_around_a_name_is_trimmed(member: str, space: str) -> None:
    padded = reference(**{member: f"{space}{'a' * 100}{space}"})
    assert getattr(padded, member) == "a" * 100


@members
def test_the_published_schema_allows_white_space_around_a_name(member: str) -> None:
    assert allowed_by_schema(**{member: " \tfastapi\r\n\f\v"})


@members
def test_the_published_pattern_needs_no_look_ahead(member: str) -> None:
    """Rust's regex, by which Pydantic matches, has none; RE2 has none either."""
    pattern = RepositoryReference.model_json_schema()["properties"][member]["pattern"]
    names = TypeAdapter(Annotated[str, StringConstraints(pattern=pattern)])
    assert names.validate_python(" \tfastapi\n")
    with pytest.raises(ValidationError):
        names.validate_python(" .. ")


@pytest.mark.parametrize(("body", "loc", "kind"), NO_REFERENCES.values(), ids=NO_REFERENCES)
def test_a_body_that_names_no_repository_is_refused(
    body: bytes, loc: tuple[str, ...], kind: str
) -> None:
    with pytest.raises(ValidationError) as refusal:
        RepositoryReference.model_validate_json(body)
    assert [(error["loc"], error["type"]) for error in refusal.value.errors()] == [(loc, kind)]


def test_the_full_name_of_a_reference_is_as_github_writes_it() -> None:
    assert reference(owner=" fastapi ").full_name == "fastapi/b"


def test_a_record_is_written_with_its_four_members_in_order() -> None:
    assert list(json.loads(represent(record()).body).items()) == [
        ("id", str(ID)),
        ("owner", "octocat"),
        ("repo_name", "Hello-World"),
        ("stars", 80),
    ]


def test_equal_records_have_equal_etags() -> None:
    assert represent(record()).etag == represent(record()).etag


@pytest.mark.parametrize(
    "change",
    [{"id": UUID(int=1)}, {"owner": "Octocat"}, {"repo_name": "Hello-World2"}, {"stars": 81}],
    ids=str,
)
def test_every_member_of_a_record_changes_its_etag(change: dict[str, Any]) -> None:
    assert represent(record(**change)).etag != represent(record()).etag


def test_an_etag_is_one_that_http_allows_and_strong() -> None:
    assert re.fullmatch(r'"[\x21\x23-\x7e]+"', represent(record()).etag)


def test_a_representation_knows_its_id() -> None:
    assert represent(record()).id == ID


def test_what_is_written_is_what_the_document_describes() -> None:
    schema = TypeAdapter(Record).json_schema(mode="serialization")
    body = json.loads(represent(record(stars=2**31 - 1)).body)
    Draft202012Validator({**schema, "additionalProperties": False}).validate(body)
