"""RFC 8785 canonical JSON without floats: the bytes that are hashed and signed."""

import hashlib
from typing import Any, cast

import orjson
import rfc8785

from models.errors import InvalidRequestError

MAX_SAFE_INTEGER = 2**53 - 1


class NotCanonicalError(InvalidRequestError):
    """A value has no canonical form here: a float, an integer beyond ±(2⁵³-1), or a type JSON lacks."""

    code = "NOT_CANONICAL"

    def __init__(self, path: str, rule: str) -> None:
        super().__init__(
            f"{path or 'The document'} {rule}; amounts are integers in minor units, all else strings.",
            details={"fields": {path or "document": rule}},
        )


def canonical_json(value: Any) -> bytes:
    """Serialise ``value`` by RFC 8785.

    Raises:
        NotCanonicalError: It holds a float, an integer beyond ±(2⁵³-1), a lone surrogate or another type.
    """
    ascii_keys = _check(value, "")
    try:
        # Keys are ordered by UTF-16 units, which for ASCII is the order of bytes; the rest of what orjson
        # writes for these types is canonical already (compared with rfc8785 in tests/properties).
        return orjson.dumps(value, option=orjson.OPT_SORT_KEYS) if ascii_keys else rfc8785.dumps(value)
    except (orjson.JSONEncodeError, UnicodeEncodeError):
        raise NotCanonicalError("", "holds a lone surrogate or is nested too deeply") from None


def canonical_hash(value: Any) -> bytes:
    """Return the SHA-256 of the canonical form."""
    return hashlib.sha256(canonical_json(value)).digest()


def _check(value: Any, path: str) -> bool:
    """Refuse what has no canonical form; tell whether every key is ASCII."""
    if value is None or isinstance(value, str | bool):
        return True
    if isinstance(value, int):
        if abs(value) > MAX_SAFE_INTEGER:
            raise NotCanonicalError(path, "is an integer beyond ±(2⁵³-1)")
        return True
    if isinstance(value, dict):
        ascii_keys = True
        for key, item in cast("dict[Any, Any]", value).items():
            if not isinstance(key, str):
                raise NotCanonicalError(path, "has a key that is no string")
            ascii_keys &= key.isascii()
            ascii_keys &= _check(item, f"{path}.{key}" if path else key)
        return ascii_keys
    if isinstance(value, list | tuple):
        listed = cast("list[Any]", value)
        return all([_check(item, f"{path}[{place}]") for place, item in enumerate(listed)])
    raise NotCanonicalError(path, f"is a {type(cast('object', value)).__name__}")
