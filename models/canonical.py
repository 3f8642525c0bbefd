"""RFC 8785 canonical JSON without floats: the bytes that are hashed and signed."""

import hashlib
from typing import Any

import rfc8785

from models.errors import InvalidRequestError


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
    _refuse_floats(value, "")
    try:
        return rfc8785.dumps(value)
    except rfc8785.CanonicalizationError as error:
        raise NotCanonicalError("", str(error)) from None
    except UnicodeEncodeError:
        raise NotCanonicalError("", "holds a lone surrogate") from None


def canonical_hash(value: Any) -> bytes:
    """Return the SHA-256 of the canonical form."""
    return hashlib.sha256(canonical_json(value)).digest()


def _refuse_floats(value: Any, path: str) -> None:
    # rfc8785 serialises floats as ECMAScript does; money must never be able to arrive as one.
    if isinstance(value, float):
        raise NotCanonicalError(path, "is a float")
    if isinstance(value, dict):
        for key, item in value.items():
            _refuse_floats(item, f"{path}.{key}" if path else str(key))
    elif isinstance(value, list | tuple):
        for place, item in enumerate(value):
            _refuse_floats(item, f"{path}[{place}]")
