"""Texts and words that are looked for in other texts, all in one pass."""

from collections.abc import Iterable

import ahocorasick  # type: ignore[import-not-found]  # it comes without types

_WIDE = {0xFF01 + offset: 0x21 + offset for offset in range(94)} | {0x3000: 0x20}
"""Letters, digits and signs of full width, which East Asian keyboards offer."""

_INVISIBLE = dict.fromkeys(
    (
        *(0x00AD, 0x034F, 0x061C, 0x180E, 0xFEFF),
        *range(0x200B, 0x2010),
        *range(0x202A, 0x202F),
        *range(0x2060, 0x2070),
        *range(0xFE00, 0xFE10),
    )
)
"""What no reader sees: joiners, marks of direction, soft hyphens, variants."""

_FOLDED = _WIDE | _INVISIBLE


def folded(text: str) -> str:
    """Give a text without what a reader overlooks: letter case, width, invisible signs."""
    return (text if text.isascii() else text.translate(_FOLDED)).casefold()


class Words:
    """Some texts to look for; letter case and width do not count."""

    def __init__(self, entries: Iterable[str]) -> None:
        self._found = ahocorasick.Automaton(ahocorasick.STORE_LENGTH)
        for entry in entries:
            if (plain := folded(entry)) != "":
                self._found.add_word(plain)
        self._found.make_automaton()

    def anywhere_in(self, values: Iterable[object]) -> bool:
        """Say whether one of them is in one of the texts among values, inside of words too."""
        if not self._found:
            return False
        for value in values:
            if isinstance(value, str):
                for _ in self._found.iter(folded(value)):
                    return True
        return False

    def as_words_in(self, values: Iterable[object]) -> bool:
        """Say whether one of them is in one of the texts and no part of a longer word there."""
        texts = (folded(value) for value in values if isinstance(value, str))
        return bool(self._found) and any(
            not _continues(text, last) and not _continues(text, last - length)
            for text in texts
            for last, length in self._found.iter(text)
        )


def _continues(text: str, at: int) -> bool:
    """Say whether what stands at a place and what follows it are of one word."""
    return text[max(at, 0) : at + 2].isalnum() and 0 <= at < len(text) - 1
