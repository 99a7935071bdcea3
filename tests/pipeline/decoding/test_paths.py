"""Paths of fields: how they are read, which go together, and messages made by them."""

import json

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.decoding.paths import MOST_PLACES, check_paths, layout, message, parts_of, walk


def test_dots_and_digits_have_a_meaning_that_a_backslash_takes_away() -> None:
    assert parts_of("readings.0.value") == ["readings", 0, "value"]
    assert parts_of(r"core\.temp.\0.x") == ["core.temp", "0", "x"]
    assert parts_of("1st.a1") == ["1st", "a1"]


@pytest.mark.parametrize("path", [".", "a.", ".a", "a..b", f"a.{MOST_PLACES}", "a.0099999999"])
def test_a_path_that_leads_nowhere_is_refused(path: str) -> None:
    with pytest.raises(ValueError, match=r"dot with no name|is beyond 99"):
        parts_of(path)


@pytest.mark.parametrize(
    ("paths", "words"),
    [
        (("a.b", "c", "a.b"), "are one field"),
        (("a.b", "a"), "inside the other"),
        (("a.b.c", "x", "a.b"), "inside the other"),
        (("a.0", "a.b"), "what is a list"),
        (("0.a", "b"), "what is a list"),
    ],
)
def test_paths_that_contradict_each_other_are_refused(paths: tuple[str, ...], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        check_paths(paths)


NAMES = st.sampled_from(["a", "b", r"c\.d", r"\0", "0", "3"])
PATHS = st.lists(st.lists(NAMES, min_size=1, max_size=3).map(".".join), min_size=1, max_size=5)


@given(PATHS)
def test_what_is_put_at_paths_that_go_together_is_found_there(paths: list[str]) -> None:
    try:
        check_paths(paths)
    except ValueError:
        return
    struct, places = layout(paths, [(int | None, None)] * len(paths))
    body = json.dumps(message(dict(zip(paths, range(len(paths)), strict=True)))).encode()
    decoded = msgspec.json.decode(body, type=struct)
    assert [walk(decoded, place) for place in places] == [*range(len(paths))]
