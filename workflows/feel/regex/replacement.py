"""Replacement strings: ``$N`` for groups, backslash before ``$`` and backslash."""

from workflows.feel.regex.machine import Pattern
from workflows.feel.regex.syntax import RegexError


def parse_replacement(replacement: str, pattern: Pattern) -> list[str | int]:
    """Split a replacement into literal text and group numbers.

    Digits behind ``$`` belong to the number as long as there is such a group.

    Raises:
        RegexError: A ``$`` without a digit, or a backslash before anything but ``$`` or itself
            (XPath FORX0004).
    """
    parts: list[str | int] = []
    position = 0
    while position < len(replacement):
        character = replacement[position]
        following = replacement[position + 1 : position + 2]
        if character == "\\":
            if following not in ("\\", "$"):
                raise RegexError("the replacement has a stray backslash")
            parts.append(following)
            position += 2
        elif character == "$":
            if not ("0" <= following <= "9"):
                raise RegexError("the replacement has a '$' without a group number")
            number, position = int(following), position + 2
            while "0" <= (digit := replacement[position : position + 1]) <= "9":
                if number * 10 + int(digit) > pattern.groups:
                    break
                number = number * 10 + int(digit)
                position += 1
            parts.append(number if number <= pattern.groups else "")
        else:
            parts.append(character)
            position += 1
    return parts
