"""Six words that two people compare on the telephone, in place of a digest."""

from __future__ import annotations

NUM_WORDS = 6

_FIRST, _VOWELS, _LAST = "bklmrstv", "aiou", "ns"


def words(digest_text: str) -> tuple[str, ...]:
    """Return six words for the first 66 bits of a SHA-256 digest.

    Example:
        >>> words("00" * 32), words("ff" * 32)[-1]
        (('baban', 'baban', 'baban', 'baban', 'baban', 'baban'), 'vuvus')
    """
    bits = int(digest_text, 16) >> (256 - 11 * NUM_WORDS)
    numbers = [bits >> (11 * place) & 0x7FF for place in reversed(range(NUM_WORDS))]
    return tuple(word(number) for number in numbers)


def word(number: int) -> str:
    """Return one of 2,048 words, each of five letters that are told apart on the telephone."""
    rest, last = divmod(number, 2)
    rest, second_vowel = divmod(rest, 4)
    rest, second = divmod(rest, 8)
    first, first_vowel = divmod(rest, 4)
    return (
        _FIRST[first] + _VOWELS[first_vowel] + _FIRST[second] + _VOWELS[second_vowel] + _LAST[last]
    )
