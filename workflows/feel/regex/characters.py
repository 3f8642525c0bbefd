"""Character classes of XPath regular expressions: escapes, categories, blocks, groups."""

import unicodedata
from collections.abc import Callable
from typing import TypeAlias

Test: TypeAlias = Callable[[str], bool]
"""Whether a character belongs to a class."""

_BLOCKS = {
    "BasicLatin": (0x0000, 0x007F),
    "Latin-1Supplement": (0x0080, 0x00FF),
    "LatinExtended-A": (0x0100, 0x017F),
    "LatinExtended-B": (0x0180, 0x024F),
    "IPAExtensions": (0x0250, 0x02AF),
    "SpacingModifierLetters": (0x02B0, 0x02FF),
    "CombiningDiacriticalMarks": (0x0300, 0x036F),
    "Greek": (0x0370, 0x03FF),
    "GreekandCoptic": (0x0370, 0x03FF),
    "Cyrillic": (0x0400, 0x04FF),
    "Armenian": (0x0530, 0x058F),
    "Hebrew": (0x0590, 0x05FF),
    "Arabic": (0x0600, 0x06FF),
    "Syriac": (0x0700, 0x074F),
    "Thaana": (0x0780, 0x07BF),
    "Devanagari": (0x0900, 0x097F),
    "Bengali": (0x0980, 0x09FF),
    "Gurmukhi": (0x0A00, 0x0A7F),
    "Gujarati": (0x0A80, 0x0AFF),
    "Oriya": (0x0B00, 0x0B7F),
    "Tamil": (0x0B80, 0x0BFF),
    "Telugu": (0x0C00, 0x0C7F),
    "Kannada": (0x0C80, 0x0CFF),
    "Malayalam": (0x0D00, 0x0D7F),
    "Sinhala": (0x0D80, 0x0DFF),
    "Thai": (0x0E00, 0x0E7F),
    "Lao": (0x0E80, 0x0EFF),
    "Tibetan": (0x0F00, 0x0FFF),
    "Myanmar": (0x1000, 0x109F),
    "Georgian": (0x10A0, 0x10FF),
    "HangulJamo": (0x1100, 0x11FF),
    "Ethiopic": (0x1200, 0x137F),
    "Cherokee": (0x13A0, 0x13FF),
    "Khmer": (0x1780, 0x17FF),
    "Mongolian": (0x1800, 0x18AF),
    "LatinExtendedAdditional": (0x1E00, 0x1EFF),
    "GreekExtended": (0x1F00, 0x1FFF),
    "GeneralPunctuation": (0x2000, 0x206F),
    "SuperscriptsandSubscripts": (0x2070, 0x209F),
    "CurrencySymbols": (0x20A0, 0x20CF),
    "LetterlikeSymbols": (0x2100, 0x214F),
    "NumberForms": (0x2150, 0x218F),
    "Arrows": (0x2190, 0x21FF),
    "MathematicalOperators": (0x2200, 0x22FF),
    "BoxDrawing": (0x2500, 0x257F),
    "Hiragana": (0x3040, 0x309F),
    "Katakana": (0x30A0, 0x30FF),
    "CJKUnifiedIdeographs": (0x4E00, 0x9FFF),
    "HangulSyllables": (0xAC00, 0xD7A3),
}
_SUBCATEGORIES = {"L": "ultmo", "M": "nce", "N": "dlo", "P": "cdseifo", "Z": "slp", "S": "mcko", "C": "cfon"}
_CATEGORIES = {major + minor for major, minors in _SUBCATEGORIES.items() for minor in ("", *minors)}


def _is_name_start(character: str) -> bool:
    return character in ":_" or unicodedata.category(character) in ("Lu", "Ll", "Lt", "Lo", "Nl")


def _is_name_part(character: str) -> bool:
    return (
        character in ":_-.\u00b7"
        or unicodedata.category(character)[0] in "LN"
        or unicodedata.combining(character) > 0
    )


def _is_word(character: str) -> bool:
    return unicodedata.category(character)[0] not in "PZC"


_ESCAPES: dict[str, Test] = {
    "d": lambda c: unicodedata.category(c) == "Nd",
    "s": lambda c: c in " \t\n\r",
    "w": _is_word,
    "i": _is_name_start,
    "c": _is_name_part,
}


def complement(test: Test) -> Test:
    """Everything outside a class."""
    return lambda character: not test(character)


def escape_class(letter: str) -> Test | None:
    r"""The class of a multi-character escape such as ``\d``; None for other letters."""
    test = _ESCAPES.get(letter.lower())
    if test is None:
        return None
    return complement(test) if letter.isupper() else test


def property_class(name: str) -> Test | None:
    r"""The class of ``\p{name}``: a general category or an ``Is`` block; None if there is none."""
    if name in _CATEGORIES:
        return lambda character: unicodedata.category(character).startswith(name)
    block = _BLOCKS.get(name[2:]) if name.startswith("Is") else None
    if block is None:
        return None
    low, high = block
    return lambda character: low <= ord(character) <= high


def span(low: str, high: str) -> Test:
    """All characters from one to another."""
    return lambda character: low <= character <= high


def union(tests: list[Test]) -> Test:
    """Whatever belongs to any of the classes."""
    return lambda character: any(test(character) for test in tests)


def without(test: Test, excluded: Test) -> Test:
    """Class subtraction."""
    return lambda character: test(character) and not excluded(character)


def ignoring_case(test: Test) -> Test:
    """The class closed under simple case variants (flag ``i``)."""

    def either(character: str) -> bool:
        if test(character):
            return True
        return any(
            len(variant) == 1 and test(variant)
            for variant in (character.lower(), character.upper(), character.casefold())
        )

    return either
