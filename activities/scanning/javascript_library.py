"""What constants of JavaScript are computed with: bounded library functions and methods."""

import json
import math
import re
from collections.abc import Callable
from typing import Any
from urllib.parse import unquote

from tree_sitter import Node

from activities.scanning.decoding import decode_base64_leniently, decode_hex, inflate
from activities.scanning.javascript_coercions import UNDEFINED, Unknown, to_number, to_text, unknown
from activities.scanning.limits import MAX_FOLDED_LENGTH


def from_codes(*codes: Any) -> str:
    """``String.fromCharCode`` and ``String.fromCodePoint``."""
    return "".join(
        chr(int(to_number(code)) & 0x1FFFFF if to_number(code) > 0xFFFF else int(to_number(code)) & 0xFFFF)
        for code in codes
    )


def _atob(value: Any) -> str:
    decoded = decode_base64_leniently(to_text(value))
    return decoded.decode("latin-1") if decoded is not None else unknown()


def _buffer(value: Any, encoding: Any = "utf8") -> bytes:
    if isinstance(value, list):
        return bytes(int(to_number(item)) & 255 for item in value)
    if isinstance(value, bytes):
        return value
    if not isinstance(value, str):
        raise Unknown
    if encoding in ("base64", "base64url"):
        decoded = decode_base64_leniently(value)
    elif encoding == "hex":
        decoded = decode_hex(value)
    else:
        decoded = value.encode("latin-1" if encoding in ("latin1", "binary") else "utf-8", "replace")
    return decoded if decoded is not None else unknown()


def buffer_method(base: bytes, name: str, values: list[Any]) -> Any:
    """Call a method of a Buffer or typed array."""
    if name in ("toString", "decode"):
        encoding = values[0] if values and isinstance(values[0], str) else "utf8"
        if encoding == "hex":
            return base.hex()
        if encoding in ("base64", "base64url"):
            raise Unknown
        return base.decode("latin-1" if encoding in ("latin1", "binary", "ascii") else "utf-8", "replace")
    if name in ("reverse", "toReversed"):
        return base[::-1]
    if name in ("slice", "subarray"):
        return (
            base[slice(*[int(value) for value in values[:2]])]
            if len(values) > 1
            else base[int(values[0]) if values else 0 :]
        )
    raise Unknown


def _inflate(value: Any, *_: Any) -> bytes:
    result = inflate(value if isinstance(value, bytes) else to_text(value).encode("latin-1"))
    return result if result is not None else unknown()


def _parse_int(value: Any, base: Any = 10.0) -> float:
    text = to_text(value).strip()
    match = re.match(r"[+-]?(?:0[xX])?[0-9a-zA-Z]+", text)
    radix = int(to_number(base)) or 10
    if match is None:
        return math.nan
    digits = match.group(0)
    if digits[:2].lower() == "0x":
        return float(int(digits, 16))
    kept = ""
    for character in digits:
        if (character.isdigit() and int(character) < radix) or (
            character.isalpha() and ord(character.lower()) - 87 < radix
        ):
            kept += character
        else:
            break
    return float(int(kept, radix)) if kept else math.nan


def to_base(value: float, base: int) -> str:
    """``Number.prototype.toString`` of a whole number."""
    if base == 10:
        return to_text(value)
    number = int(value)
    digits = ""
    while number:
        number, rest = divmod(number, base)
        digits = "0123456789abcdefghijklmnopqrstuvwxyz"[rest] + digits
    return digits or "0"


def text_method(base: str, name: str, values: list[Any]) -> Any:
    """Call a method of a string."""
    handler = _TEXT_METHODS.get(name)
    if handler is None:
        raise Unknown
    return handler(base, *values)


def _slice_text(text: str, start: Any = 0.0, end: Any = None) -> str:
    return (
        text[int(to_number(start)) :]
        if end is None or end is UNDEFINED
        else text[int(to_number(start)) : int(to_number(end))]
    )


def _substring(text: str, start: Any = 0.0, end: Any = None) -> str:
    first = max(0, int(to_number(start)))
    last = len(text) if end is None else max(0, int(to_number(end)))
    return text[min(first, last) : max(first, last)]


def _substr(text: str, start: Any = 0.0, length: Any = None) -> str:
    first = int(to_number(start))
    first = max(0, len(text) + first) if first < 0 else first
    return text[first:] if length is None else text[first : first + int(to_number(length))]


def _split(text: str, separator: Any = UNDEFINED, *_: Any) -> list[str]:
    if separator is UNDEFINED:
        return [text]
    glue = to_text(separator)
    return text.split(glue) if glue else list(text)


def _repeat(text: str, count: Any) -> str:
    times = int(to_number(count))
    if not 0 <= times * len(text) <= MAX_FOLDED_LENGTH:
        raise Unknown
    return text * times


def _code_at(text: str, position: Any = 0.0) -> float:
    index = int(to_number(position))
    return float(ord(text[index])) if 0 <= index < len(text) else math.nan


_TEXT_METHODS: dict[str, Callable[..., Any]] = {
    "slice": _slice_text, "substring": _substring, "substr": _substr, "split": _split, "repeat": _repeat, "charCodeAt": _code_at,  # noqa: E501
    "codePointAt": _code_at, "charAt": lambda text, position=0.0: text[int(position)] if 0 <= int(position) < len(text) else "",  # noqa: E501
    "at": lambda text, position=0.0: text[int(position)], "toLowerCase": lambda text: text.lower(), "toUpperCase": lambda text: text.upper(),  # noqa: E501
    "trim": lambda text: text.strip(), "concat": lambda text, *values: text + "".join(to_text(value) for value in values),  # noqa: E501
    "toString": lambda text, *_: text, "valueOf": lambda text: text, "indexOf": lambda text, part, *_: float(text.find(to_text(part))),  # noqa: E501
    "replace": lambda text, old, new: text.replace(to_text(old), to_text(new), 1) if not isinstance(new, Node) else unknown(),  # noqa: E501
    "replaceAll": lambda text, old, new: text.replace(to_text(old), to_text(new)) if not isinstance(new, Node) else unknown(),  # noqa: E501
    "normalize": lambda text, *_: text, "italics": lambda text: f"<i>{text}</i>", "padStart": lambda text, *_: text,  # noqa: E501
}  # fmt: skip


LIBRARY: dict[str, Callable[..., Any]] = {
    "atob": _atob, "String.fromCharCode": from_codes, "String.fromCodePoint": from_codes, "Buffer.from": _buffer, "Buffer": _buffer,  # noqa: E501
    "unescape": lambda value: unquote(re.sub(r"%u([0-9a-fA-F]{4})", lambda m: chr(int(m.group(1), 16)), to_text(value)), "latin-1"),  # noqa: E501
    "decodeURIComponent": lambda value: unquote(to_text(value)), "decodeURI": lambda value: unquote(to_text(value)),  # noqa: E501
    "parseInt": _parse_int, "Number.parseInt": _parse_int, "Number": to_number, "String": lambda value="": to_text(value), "parseFloat": to_number,  # noqa: E501
    "Array.from": lambda value, *_: [float(item) for item in value] if isinstance(value, bytes) else list(value),  # noqa: E501
    "Array.of": lambda *values: list(values), "Object.keys": lambda value: list(value), "Object.values": lambda value: list(value.values()),  # noqa: E501
    "JSON.parse": lambda value, *_: json.loads(to_text(value), parse_int=float), "Uint8Array.from": _buffer, "Uint8Array": _buffer,  # noqa: E501
    "Buffer.concat": lambda values, *_: b"".join(values), "Math.floor": lambda value: float(math.floor(to_number(value))),  # noqa: E501
    **{f"module:zlib.{name}": _inflate for name in ("inflateSync", "gunzipSync", "unzipSync", "inflateRawSync")},  # noqa: E501
    "TextDecoder": lambda *_: unknown(), "escape": lambda value: to_text(value),
}  # fmt: skip
