"""What constants of Python are computed with: bounded builtins and library functions."""

import ast
import operator
import string
from collections.abc import Callable
from typing import Any
from urllib.parse import unquote

from activities.scanning.decoding import decode_with
from activities.scanning.limits import MAX_FOLD_STEPS


class Unknown(Exception):  # noqa: N818
    """The expression is not a constant, or a bound was reached."""


BINARY: dict[type, Callable[[Any, Any], Any]] = {
    ast.Add: operator.add, ast.Sub: operator.sub, ast.BitXor: operator.xor, ast.BitAnd: operator.and_,
    ast.BitOr: operator.or_, ast.FloorDiv: operator.floordiv, ast.Div: operator.truediv, ast.RShift: operator.rshift,  # noqa: E501
}  # fmt: skip


COMPARE: dict[type, Callable[[Any, Any], Any]] = {
    ast.Eq: operator.eq, ast.NotEq: operator.ne, ast.Lt: operator.lt, ast.LtE: operator.le, ast.Gt: operator.gt,  # noqa: E501
    ast.GtE: operator.ge, ast.Is: operator.is_, ast.IsNot: operator.is_not,
}  # fmt: skip


TEXT_METHODS = frozenset(
    [
        "join",
        "replace",
        "split",
        "rsplit",
        "strip",
        "lstrip",
        "rstrip",
        "lower",
        "upper",
        "swapcase",
        "title",
        "capitalize",
        "casefold",
        "zfill",
        "partition",
        "rpartition",
        "removeprefix",
        "removesuffix",
        "startswith",
        "endswith",
        "find",
        "rfind",
        "index",
        "rindex",
        "count",
        "splitlines",
        "hex",
        "isalpha",
        "isdigit",
        "isupper",
        "islower",
        "isspace",
        "isalnum",
        "encode",
        "decode",
        "translate",
        "format",
        "format_map",
        "to_bytes",
    ]
)


CONTAINER_METHODS = frozenset(["index", "count", "copy", "get", "keys", "values", "items"])


CONSTANTS = {
    "string.ascii_letters": string.ascii_letters, "string.ascii_lowercase": string.ascii_lowercase,
    "string.ascii_uppercase": string.ascii_uppercase, "string.digits": string.digits, "string.hexdigits": string.hexdigits,  # noqa: E501
    "string.printable": string.printable, "string.punctuation": string.punctuation, "os.sep": "/",
}  # fmt: skip


SIMPLE: dict[str, Callable[..., Any]] = {
    "builtins.ord": ord, "builtins.len": len, "builtins.abs": abs, "builtins.min": min, "builtins.max": max,
    "builtins.sum": sum, "builtins.bool": bool, "builtins.round": round, "builtins.hex": hex, "builtins.bin": bin,  # noqa: E501
    "builtins.oct": oct, "builtins.repr": repr, "builtins.ascii": ascii, "operator.xor": operator.xor,
    "operator.add": operator.add, "operator.sub": operator.sub, "operator.mod": operator.mod, "operator.concat": operator.concat,  # noqa: E501
    "urllib.parse.unquote": unquote, "builtins.str.maketrans": str.maketrans, "builtins.bytes.maketrans": bytes.maketrans,  # noqa: E501
    "builtins.any": any, "builtins.all": all,
}  # fmt: skip


LAZY: dict[str, Callable[..., Any]] = {
    "builtins.reversed": lambda value: list(value)[::-1], "builtins.sorted": sorted, "builtins.list": list, "builtins.tuple": tuple,  # noqa: E501
    "builtins.set": set, "builtins.dict": dict, "builtins.zip": lambda *values: list(zip(*values, strict=False)),  # noqa: E501
    "builtins.enumerate": lambda *values: list(enumerate(*values)), "builtins.iter": list, "builtins.frozenset": set,  # noqa: E501
    "itertools.chain": lambda *values: [item for value in values for item in value], "builtins.next": lambda value: next(iter(value)),  # noqa: E501
    "itertools.chain.from_iterable": lambda values: [item for value in values for item in value], "builtins.divmod": divmod,  # noqa: E501
    "itertools.cycle": lambda value: (list(value) * (20_000 // max(1, len(value)) + 1))[:20_000],
}  # fmt: skip


def iterate(value: Any) -> Any:
    """Return ``value`` if it is a container or a short range."""
    if isinstance(value, str | bytes | bytearray | list | tuple | set | dict):
        return value
    if isinstance(value, range) and len(value) <= MAX_FOLD_STEPS:
        return value
    raise Unknown


def has_wide_field(template: str | bytes) -> bool:
    """Whether a format could produce a string far longer than itself."""
    text = template.decode("latin-1") if isinstance(template, bytes) else template
    run = 0
    for character in text:
        run = run + 1 if character.isdigit() else 0
        if run > 3:
            return "%" in text or "{" in text
    return "*" in text and "%" in text


def _to_bytes(value: Any = b"", *_: Any) -> bytes:
    if isinstance(value, str):
        return value.encode()
    if isinstance(value, int):
        raise Unknown
    return bytes(value)


def _to_text(value: Any = "", *arguments: Any) -> str:
    if isinstance(value, bytes | bytearray):
        decoded = decode_with(str(arguments[0]) if arguments else "utf-8", bytes(value))
        if not isinstance(decoded, str):
            raise Unknown
        return decoded
    if isinstance(value, list | dict | tuple | set):
        raise Unknown
    return str(value)


def _to_range(*arguments: Any) -> range:
    result = range(*arguments)
    if len(result) > MAX_FOLD_STEPS:
        raise Unknown
    return result


def _to_character(value: Any) -> str:
    return chr(value)


def _literal(value: Any) -> Any:
    if not isinstance(value, str) or len(value) > 20_000:
        raise Unknown
    try:
        return ast.literal_eval(value)
    except (SyntaxError, RecursionError, MemoryError):
        raise Unknown from None


def _to_int(value: Any = 0, base: Any = 10) -> int:
    return int(value, base) if isinstance(value, str | bytes) else int(value)


def big_to_bytes(value: Any, length: Any, order: Any = "big") -> bytes:
    """``int.to_bytes`` for up to 10 000 bytes."""
    if not 0 < length < 10_000:
        raise Unknown
    return int(value).to_bytes(length, order)


CONVERSIONS: dict[str, Callable[..., Any]] = {
    "builtins.chr": _to_character, "builtins.unichr": _to_character, "builtins.bytes": _to_bytes, "builtins.bytearray": _to_bytes,  # noqa: E501
    "builtins.str": _to_text, "builtins.range": _to_range, "builtins.xrange": _to_range, "builtins.int": _to_int,  # noqa: E501
    "ast.literal_eval": _literal, "builtins.bytes.decode": _to_text, "builtins.int.to_bytes": big_to_bytes,
    "builtins.str.encode": _to_bytes, "builtins.memoryview": _to_bytes,
    "builtins.str.join": lambda glue, parts: glue.join(parts), "builtins.str.format": lambda *_: (_ for _ in ()).throw(Unknown()),  # noqa: E501
    "builtins.str.lower": lambda text: text.lower(), "builtins.str.replace": lambda text, old, new: text.replace(old, new),  # noqa: E501
    "os.path.join": lambda *parts: "/".join(parts), "textwrap.dedent": lambda text: text,
}  # fmt: skip
