"""Decoders shared by both languages. Pure, capped, and never raising: None means "cannot"."""

import base64
import binascii
import bz2
import codecs
import lzma
import quopri
import re
import string
import zlib

from activities.scanning.limits import MAX_FOLDED_LENGTH, MAX_INFLATED

_BASE64 = re.compile(r"^[A-Za-z0-9+/_-]{16,}={0,2}$")
_HEX = re.compile(r"^(?:[0-9a-fA-F]{2}){8,}$")
_ESCAPED_HEX = re.compile(r"^(?:\\x[0-9a-fA-F]{2}|%[0-9a-fA-F]{2}|\\u00[0-9a-fA-F]{2}){6,}$")


def as_bytes(value: object) -> bytes | None:
    """Return ``value`` as bytes if it is bytes or text within the cap."""
    if isinstance(value, bytes | bytearray):
        return bytes(value) if len(value) <= MAX_FOLDED_LENGTH else None
    if isinstance(value, str) and len(value) <= MAX_FOLDED_LENGTH:
        try:
            return value.encode()
        except UnicodeEncodeError:
            return None
    return None


def decode_base64_leniently(value: object) -> bytes | None:
    """Decode standard or URL-safe base64 as runtimes do: foreign characters ignored, padding optional."""
    data = as_bytes(value)
    if data is None:
        return None
    cleaned = re.sub(rb"[^A-Za-z0-9+/]", b"", data.replace(b"-", b"+").replace(b"_", b"/"))
    cleaned = cleaned[: len(cleaned) - 1] if len(cleaned) % 4 == 1 else cleaned
    try:
        return base64.b64decode(cleaned + b"=" * (-len(cleaned) % 4))
    except (binascii.Error, ValueError):
        return None


def decode_hex(value: object) -> bytes | None:
    """Decode hexadecimal; spaces are ignored."""
    data = as_bytes(value)
    if data is None:
        return None
    try:
        return bytes.fromhex(data.decode("ascii"))
    except (ValueError, UnicodeDecodeError):
        return None


def inflate(value: object) -> bytes | None:
    """Decompress zlib, gzip, raw deflate, bz2 or lzma under the cap."""
    data = as_bytes(value)
    if data is None:
        return None
    for wbits in (47, -15):
        try:
            result = zlib.decompressobj(wbits).decompress(data, MAX_INFLATED)
            if result:
                return result
        except zlib.error:
            continue
    for make in (bz2.BZ2Decompressor, lambda: lzma.LZMADecompressor(memlimit=64 << 20)):
        try:
            return make().decompress(data, MAX_INFLATED)
        except (OSError, lzma.LZMAError, EOFError, ValueError):
            continue
    return None


def decode_with(encoding: str, value: object) -> object:
    """Decode ``value`` by a Python codec name, the text-to-text and byte-to-byte ones included."""
    name = encoding.lower().replace("-", "_")
    data = as_bytes(value)
    if data is None:
        return None
    try:
        if name in ("rot13", "rot_13"):
            return codecs.decode(data.decode(), "rot13")
        if name in ("hex", "hex_codec"):
            return decode_hex(data)
        if name in ("base64", "base64_codec"):
            return decode_base64_leniently(data)
        if name in ("zlib", "zlib_codec", "zip", "bz2", "bz2_codec"):
            return inflate(data)
        if name in ("quopri", "quopri_codec"):
            return quopri.decodestring(data)
        if name in ("utf_8", "utf8", "ascii", "latin_1", "latin1", "iso_8859_1", "utf_16", "utf_16_le", "utf_16_be",  # noqa: E501
                    "utf_32", "utf_7", "cp1252", "cp437", "cp037", "cp500", "punycode", "u8", "unicode_escape",  # noqa: E501
                    "raw_unicode_escape", "utf_8_sig"):  # fmt: skip
            return data.decode(name)
    except (ValueError, LookupError, UnicodeError, binascii.Error):
        return None
    return None


def decode_a_base(name: str, value: object) -> bytes | None:
    """Decode by the :mod:`base64` or :mod:`binascii` function called ``name``."""
    data = as_bytes(value)
    if data is None:
        return None
    try:
        if name in ("b32decode", "b32hexdecode", "b16decode", "b85decode", "a85decode"):
            if name in ("b32decode", "b16decode"):
                return getattr(base64, name)(data, casefold=True)
            return getattr(base64, name)(data)
        if name == "a2b_uu":
            return binascii.a2b_uu(data)
        if name in ("a2b_qp", "decodestring") and b"=" in data:
            return quopri.decodestring(data)
        if name in ("unhexlify", "a2b_hex", "fromhex"):
            return decode_hex(data)
    except (binascii.Error, ValueError):
        return None
    return decode_base64_leniently(data)


def looks_encoded(text: str) -> bool:
    """Whether a literal too long to decode is written in base64 or hexadecimal."""
    return re.fullmatch(r"[A-Za-z0-9+/=_\s-]*", text) is not None


def guess_layers(text: str) -> list[tuple[str, bytes]]:
    """Try the decoders on a literal whose decoder call is not seen. Only plausible results are kept.

    Returns:
        Pairs of label and decoded bytes that look like text, a compressed stream or an executable.
    """
    stripped = text.strip()
    if not 16 <= len(stripped) <= MAX_FOLDED_LENGTH:
        return []
    results: list[tuple[str, bytes]] = []
    if _HEX.match(stripped):
        results.append(("hex", bytes.fromhex(stripped)))
    elif _ESCAPED_HEX.match(stripped):
        results.append(("escapes", bytes.fromhex(re.sub(r"\\x|%|\\u00", "", stripped))))
    elif _BASE64.match(re.sub(r"\s+", "", stripped) if "\n" in stripped else stripped):
        decoded = decode_base64_leniently(stripped)
        if decoded:
            results.append(("base64", decoded))
        if stripped.endswith("=") or stripped.startswith("="):
            turned = decode_base64_leniently(stripped[::-1])
            if turned:
                results.append(("reversed base64", turned))
    plausible: list[tuple[str, bytes]] = []
    for label, decoded in results:
        opened = (
            inflate(decoded)
            if decoded[:2] in (b"x\x9c", b"x\xda", b"\x1f\x8b", b"BZ", b"\xfd7", b"x\x01", b"x^")
            else None
        )
        if opened:
            plausible.append((f"{label}, compressed", opened))
        elif mostly_text(decoded) or decoded[:4] in (b"\x7fELF", b"\0asm") or decoded[:2] == b"MZ":
            plausible.append((label, decoded))
    return plausible


_TEXT_BYTES = frozenset(string.printable.encode())


def mostly_text(data: bytes) -> bool:
    """Whether ``data`` reads as text: valid UTF-8 with hardly any control characters."""
    sample = data[:4_096]
    if not sample or sum(byte in _TEXT_BYTES or byte >= 0x80 for byte in sample) < len(sample) * 0.97:
        return False
    try:
        data.decode()
    except UnicodeDecodeError:
        return False
    return sum(byte >= 0x80 for byte in sample) < len(sample) * 0.3
