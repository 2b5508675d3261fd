"""Texts that are looked for in others."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.policy.words import Words

WORDS = Words(["casino", "垃圾", "B.A.D", "two words", "é"])


@pytest.mark.parametrize(
    "text",
    [
        "casino",
        "CASINO!",
        "a casino, again",
        "\uff43\uff41\uff53\uff49\uff4e\uff4f",
        "ca\u200bsi\u00adno",
        "two words",
        "(b.a.d)",
        "É",
    ],
)
def test_a_word_is_found_however_it_is_written(text: str) -> None:
    assert WORDS.as_words_in([text])
    assert WORDS.anywhere_in([text])


@pytest.mark.parametrize("text", ["casinos", "mycasino", "7casino", "你是垃圾吗", "xb.a.d"])
def test_a_part_of_a_word_is_no_word(text: str) -> None:
    assert not WORDS.as_words_in([text])
    assert WORDS.anywhere_in([text])


@pytest.mark.parametrize("text", ["", "casin", "ca sino", "垃 圾", "b_a_d", "e"])
def test_what_is_not_there_is_not_found(text: str) -> None:
    assert not WORDS.as_words_in([text])
    assert not WORDS.anywhere_in([text])


def test_a_word_is_found_behind_a_longer_one_that_begins_with_it() -> None:
    assert Words(["a", "ab"]).as_words_in(["abc ab"])
    assert not Words(["a", "ab"]).as_words_in(["abc aba"])


@pytest.mark.parametrize("entries", [[], [""], ["\u200b"]])
def test_no_words_are_nowhere(entries: list[str]) -> None:
    assert not Words(entries).anywhere_in(["anything"])
    assert not Words(entries).as_words_in(["anything"])


@given(st.text("ab ", max_size=30), st.lists(st.text("ab", min_size=1, max_size=3), max_size=4))
def test_one_pass_finds_what_a_look_for_each_would(text: str, entries: list[str]) -> None:
    assert Words(entries).anywhere_in([text]) == any(each in text for each in entries)
    assert Words(entries).as_words_in([text]) == bool(set(entries) & set(text.split()))
