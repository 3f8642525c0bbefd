"""What a file is, by its bytes."""

import json
import re
import struct
from dataclasses import dataclass

from activities.scanning import python_rules
from activities.scanning.decoding import mostly_text
from activities.scanning.javascript_scopes import parse_javascript
from activities.scanning.text_checks import (
    looks_like_javascript,
    looks_like_python,
)

_PYTHON_SUFFIXES = frozenset({".py", ".pyw", ".pyi"})


_JAVASCRIPT_SUFFIXES = frozenset({".js", ".mjs", ".cjs", ".jsx"})


_TYPESCRIPT_SUFFIXES = frozenset({".ts", ".mts", ".cts"})


_PROSE_SUFFIXES = frozenset({".md", ".rst", ".markdown", ".adoc"})


_PROSE_NAMES = re.compile(
    r"^(?:readme|license|licence|copying|changelog|changes|history|authors|contributors|notice|metadata|record|wheel|pkg-info|security|thanks|todo|news|install)\b",
    re.IGNORECASE,
)


_MAGIC: tuple[tuple[bytes, str], ...] = (
    (b"\x7fELF", "elf"), (b"\xfe\xed\xfa\xce", "macho"), (b"\xfe\xed\xfa\xcf", "macho"), (b"\xce\xfa\xed\xfe", "macho"),  # noqa: E501
    (b"\xcf\xfa\xed\xfe", "macho"), (b"\0asm", "wasm"), (b"PK\x03\x04", "zip"), (b"PK\x05\x06", "zip"), (b"\x1f\x8b", "gzip"),  # noqa: E501
    (b"BZh", "bzip2"), (b"\xfd7zXZ\0", "xz"), (b"7z\xbc\xaf\x27\x1c", "7z"), (b"Rar!\x1a\x07", "rar"), (b"\x28\xb5\x2f\xfd", "zstd"),  # noqa: E501
    (b"\x89PNG\r\n\x1a\n", "png"), (b"\xff\xd8\xff", "jpeg"), (b"GIF87a", "gif"), (b"GIF89a", "gif"), (b"%PDF-", "pdf"),  # noqa: E501
    (b"SQLite format 3\0", "sqlite"), (b"!<arch>\n", "ar"), (b"\xed\xab\xee\xdb", "rpm"), (b"dex\n", "dex"), (b"wOFF", "font"),  # noqa: E501
    (b"wOF2", "font"), (b"\0\x01\0\0", "font"), (b"OTTO", "font"), (b"\0\0\x01\0", "ico"), (b"RIFF", "riff"), (b"ID3", "mp3"),  # noqa: E501
    (b"OggS", "ogg"), (b"\x93NUMPY", "npy"), (b"\x89HDF", "hdf5"), (b"PAR1", "parquet"), (b"TZif", "tzif"), (b"\xde\x12\x04\x95", "mo"),  # noqa: E501
    (b"\x95\x04\x12\xde", "mo"), (b"BM", "bmp"), (b"II*\0", "tiff"), (b"MM\0*", "tiff"), (b"glTF", "gltf"), (b"fLaC", "flac"),  # noqa: E501
    (b"\xd0\xcf\x11\xe0", "ole"), (b"\x00\x00\x00\x0cjP", "jp2"), (b"bplist00", "plist"),
)  # fmt: skip


LARGEST_GUESS = 512 * 1024


_PE_HEADER = b"PE\0\0"


@dataclass(frozen=True, slots=True)
class Kind:
    """What a file is.

    Attributes:
        name: ``python``, ``javascript``, ``typescript``, ``tsx``, ``shell``, ``json``, ``text``, ``elf``, …
        is_text: Whether it reads as text.
        language: Name of the rules to apply, ``text`` for none.
        odd: Whether code was found under a name that does not say so.
    """

    name: str
    is_text: bool = False
    language: str = "text"
    odd: bool = False


def suffix(path: str) -> str:
    """Return the lower-case extension of ``path`` with its dot, or an empty text."""
    name = path.rsplit("/", 1)[-1]
    head, dot, tail = name.rpartition(".")
    return f".{tail.lower()}" if dot and (head or tail) else ""


def as_text(data: bytes) -> str:
    """Decode as an interpreter would: UTF-8 with or without mark, UTF-16 with mark, else Latin-1."""
    if data[:2] in (b"\xff\xfe", b"\xfe\xff"):
        return data.decode("utf-16", "replace")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError:
        return data.decode("latin-1")


def sniff(path: str, data: bytes) -> Kind:
    """Find out what a file is by its content; the name only chooses between grammars."""
    binary = _binary_kind(data)
    if binary is not None:
        return Kind(binary)
    extension = suffix(path)
    if extension in _PYTHON_SUFFIXES:
        return Kind("python", True, "python")
    if extension in _JAVASCRIPT_SUFFIXES:
        return Kind("javascript", True, "javascript")
    if extension in _TYPESCRIPT_SUFFIXES:
        return Kind("typescript", True, "typescript")
    if extension == ".tsx":
        return Kind("tsx", True, "tsx")
    if (
        data[:2] not in (b"\xff\xfe", b"\xfe\xff")
        and not mostly_text(data[:8_192])
        and not _is_old_text(data)
    ):
        return Kind("binary")
    return _text_kind(path, extension, as_text(data))


def _is_old_text(data: bytes) -> bool:
    sample = data[:4_096]
    return (
        bool(sample)
        and b"\0" not in sample
        and sum(byte < 32 and byte not in (9, 10, 12, 13) for byte in sample) < len(sample) * 0.02
    )


def _binary_kind(data: bytes) -> str | None:
    for magic, name in _MAGIC:
        if data.startswith(magic):
            if name == "bmp" and not (len(data) > 14 and struct.unpack("<I", data[2:6])[0] <= len(data) + 16):
                continue
            return name
    if data[:2] == b"MZ" and (_PE_HEADER in data[:2_048] or b"\0" in data[:64]):
        return "pe"
    if data[:4] == b"\xca\xfe\xba\xbe":
        return "macho" if len(data) > 8 and data[7] < 20 else "class"
    if (
        len(data) > 16
        and data[2:4] == b"\r\n"
        and data[0:2] != b"\r\n"
        and data[1] in (0x0C, 0x0D, 0x0E, 0x0B, 0x0A)
        and b"\0" in data[4:16]
    ):
        return "pyc"
    if len(data) > 262 and data[257:262] == b"ustar":
        return "tar"
    if len(data) > 3 and data[0] == 0x80 and data[1] in (2, 3, 4, 5) and data[-1:] == b".":
        return "pickle"
    if (
        re.match(rb"(?:c[\w.]+\n[\w.]+\n|\(i?[\w.]+\n)", data[:200])
        and data.rstrip()[-1:] == b"."
        and b"\nR" in data
    ):
        return "pickle"
    return None


def _text_kind(path: str, extension: str, text: str) -> Kind:
    first = text[:200].split("\n", 1)[0]
    if first.startswith("#!"):
        if re.search(r"\bpython[\d.]*\b", first):
            return Kind("python", True, "python", odd=extension not in ("", ".in", ".tmpl"))
        if re.search(r"\b(?:node|deno|bun)\b", first):
            return Kind("javascript", True, "javascript", odd=extension != "")
        if re.search(r"\b(?:ba|da|z|k|c)?sh\b", first):
            return Kind("shell", True)
        if re.search(r"\b(?:perl|ruby|php|lua|osascript|pwsh)\b", first):
            return Kind("script", True)
    if extension in (".sh", ".bash", ".zsh", ".ps1", ".bat", ".cmd", ".command", ".fish", ".vbs"):
        return Kind("shell", True)
    if extension in (".json", ".map", ".webmanifest") or (text.lstrip()[:1] in ("{", "[") and _is_json(text)):
        return Kind("notebook" if extension == ".ipynb" else "json", True)
    if extension == ".ipynb":
        return Kind("notebook", True)
    if extension in (".html", ".htm", ".svg", ".xhtml", ".vue", ".svelte") or re.match(
        r"\s*(?:<!doctype html|<html|<svg|<\?xml)", text[:200], re.IGNORECASE
    ):
        return Kind("markup", True)
    if extension == ".pth":
        return Kind("pth", True)
    name = path.rsplit("/", 1)[-1]
    if (extension in _PROSE_SUFFIXES and len(text) < 2_000_000 and not _is_pure_code(text, prose=True)) or (
        _PROSE_NAMES.match(name) and not _is_pure_code(text, prose=True)
    ):
        return Kind("text", True)
    code = _is_pure_code(text)
    if code is not None:
        return Kind(
            code,
            True,
            code,
            odd=extension
            not in (
                ".pyx",
                ".pxd",
                ".pxi",
                ".flow",
                ".es",
                ".es6",
                ".jsm",
                ".gyp",
                ".gypi",
                ".bzl",
                ".jsonc",
                ".json5",
            ),
        )
    return Kind("text", True)


def _is_json(text: str) -> bool:
    if len(text) > 1 << 20:
        return text.rstrip()[-1:] in ("}", "]")
    try:
        json.loads(text)
    except (ValueError, RecursionError):
        return False
    return True


def _is_pure_code(text: str, *, prose: bool = False) -> str | None:
    """Return the language when the whole text is code, or None. Prose does not parse."""
    if len(text) > LARGEST_GUESS or len(text) < 8:
        return None
    if looks_like_python(text):
        tree = python_rules.parse_python(text)
        if (
            tree is not None
            and any(type(node).__name__ in _PYTHON_STATEMENTS for node in tree.body)
            and not _is_data_like(text)
        ):
            return "python"
    if looks_like_javascript(text) and re.search(r"[;(){}=]", text):
        parsed = parse_javascript(text.encode("utf-8", "replace"), "javascript")
        if (
            parsed is not None
            and not parsed.root_node.has_error
            and not (prose and parsed.root_node.named_child_count < 1)
        ):
            kinds = {node.type for node in parsed.root_node.named_children[:50]}
            if kinds - {
                "comment",
                "expression_statement",
                "labeled_statement",
                "hash_bang_line",
            } or re.search(r"\b(?:require|eval|import|fetch|Function)\s*\(|=>", text):
                return "javascript"
    return None


_PYTHON_STATEMENTS = frozenset(
    [
        "Import",
        "ImportFrom",
        "FunctionDef",
        "ClassDef",
        "Assign",
        "Expr",
        "With",
        "For",
        "If",
        "Try",
        "AsyncFunctionDef",
        "While",
    ]
)


def _is_data_like(text: str) -> bool:
    """A list of words or a configuration can parse as Python without doing anything."""
    return "(" not in text and "import" not in text
