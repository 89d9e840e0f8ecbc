"""If-Match and If-None-Match, as RFC 9110 section 13.1 defines them."""

import pytest

from app.errors import PreconditionFailed
from app.web.conditions import Conditions

ETAG = '"one"'

# What a client may send, and whether it names the record when weak and strong ETags are equal.
NAMES_IT_STRONGLY = [
    '"one"',
    "*",
    " * ",
    '"other", "one"',
    '"one","other"',
    '"other" ,\t"one" , "third"',
    '"one", W/"one"',
    ', "one"',
    '"", "one"',
    '"a, comma", "one"',
]
NAMES_IT_WEAKLY = ['W/"one"', '"other", W/"one"', 'W/"other",W/"one"']
NAMES_IT_NOT = [
    '"other"',
    'W/"other"',
    '"One"',
    '"one "',
    '"*"',
    '"other", *',
    "",
    "one",
    '"one',
    'one"',
    "'one'",
    '"other, one"',
]


def fails(conditions: Conditions) -> bool:
    """Return whether a change of the record is refused."""
    try:
        conditions.check(ETAG)
    except PreconditionFailed:
        return True
    return False


def test_without_conditions_a_record_may_be_changed() -> None:
    assert not fails(Conditions())


def test_without_conditions_a_record_is_sent() -> None:
    assert not Conditions().is_current(ETAG)


@pytest.mark.parametrize("sent", NAMES_IT_STRONGLY)
def test_an_if_match_that_names_the_record_allows_its_change(sent: str) -> None:
    assert not fails(Conditions(if_match=sent))


@pytest.mark.parametrize("sent", NAMES_IT_WEAKLY)
def test_an_if_match_compares_strongly(sent: str) -> None:
    assert fails(Conditions(if_match=sent))


@pytest.mark.parametrize("sent", NAMES_IT_NOT)
def test_an_if_match_that_does_not_name_the_record_forbids_its_change(sent: str) -> None:
    assert fails(Conditions(if_match=sent))


@pytest.mark.parametrize("sent", ['w/"one"', 'x"one"', '"other" "one"x'])
def test_an_if_match_that_is_malformed_forbids_a_change(sent: str) -> None:
    """Whoever means something by it does not mean a strong ETag."""
    assert fails(Conditions(if_match=sent))


@pytest.mark.parametrize("sent", NAMES_IT_STRONGLY + NAMES_IT_WEAKLY)
def test_an_if_none_match_that_names_the_record_forbids_its_change(sent: str) -> None:
    assert fails(Conditions(if_none_match=sent))


@pytest.mark.parametrize("sent", NAMES_IT_STRONGLY + NAMES_IT_WEAKLY)
def test_an_if_none_match_that_names_the_record_saves_sending_it(sent: str) -> None:
    assert Conditions(if_none_match=sent).is_current(ETAG)


@pytest.mark.parametrize("sent", NAMES_IT_NOT)
def test_an_if_none_match_that_does_not_name_the_record_has_it_sent(sent: str) -> None:
    assert not Conditions(if_none_match=sent).is_current(ETAG)


@pytest.mark.parametrize("sent", NAMES_IT_NOT)
def test_an_if_none_match_that_does_not_name_the_record_allows_its_change(sent: str) -> None:
    assert not fails(Conditions(if_none_match=sent))


@pytest.mark.parametrize(
    ("if_match", "if_none_match"), [(ETAG, ETAG), ('"other"', '"other"'), ("*", "*")]
)
def test_both_conditions_have_to_hold(if_match: str, if_none_match: str) -> None:
    assert fails(Conditions(if_match, if_none_match))


def test_both_conditions_can_hold() -> None:
    assert not fails(Conditions(ETAG, '"other"'))


def test_an_if_match_does_not_save_sending_the_record() -> None:
    assert not Conditions(if_match=ETAG).is_current(ETAG)


def test_a_refusal_tells_the_etag_of_the_record() -> None:
    with pytest.raises(PreconditionFailed) as refusal:
        Conditions(if_match='"other"').check(ETAG)
    assert refusal.value.headers["ETag"] == ETAG


def test_a_condition_of_64_kib_is_compared_in_no_time() -> None:
    """No pattern may take a time that grows with the square of what is sent."""
    for sent in ('W/"' * 20_000, '"' * 65_536, ("x" * 65_000) + '"', 'W/"a' * 16_000):
        fails(Conditions(sent, sent))


def test_the_conditions_of_a_request_are_in_its_headers() -> None:
    headers = [(b"if-match", b'"one"'), (b"host", b"localhost"), (b"if-none-match", b"*")]
    assert Conditions.of(headers) == Conditions('"one"', "*")


def test_several_lines_of_a_condition_are_one_list() -> None:
    headers = [(b"if-match", b'"other"'), (b"if-match", b'"one"')]
    assert not fails(Conditions.of(headers))


def test_a_request_without_conditions_has_none() -> None:
    assert Conditions.of([(b"host", b"localhost")]) == Conditions()
