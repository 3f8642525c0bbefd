"""Reading a submitted archive without trusting a byte of it.

`tarfile.extractall` is never used: its ``data`` filter keeps in-tree links, silently re-roots
absolute names, lets a later duplicate overwrite an earlier one and has had escapes. Here the gzip
stream is inflated under a cap, every header is checked, only regular files with plain names are
copied, and the result is packed again in one canonical form. What was scanned, hashed, stored and
run are then the same bytes by construction.
"""

import base64
import binascii
import unicodedata
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from activities.scanning.limits import SUBMISSION_LIMITS, ArchiveLimits
from activities.scanning.packing import pack_canonically, sha256_hex
from models.scanning import ArchiveTooLargeError, InvalidArchiveError, InvalidBase64Error

_BLOCK = 512
_CHUNK = 1 << 16
_MAX_EXTENDED_HEADER = 8_192
# Metadata that common tools write and that changes neither name nor content of a file.
_HARMLESS_PAX_KEYS = frozenset(
    {"mtime", "atime", "ctime", "uid", "gid", "uname", "gname", "comment", "LIBARCHIVE.creationtime"}
    | {"SCHILY.dev", "SCHILY.ino", "SCHILY.nlink"}
)
_BIDI = frozenset("\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069\u061c")


@dataclass(frozen=True, slots=True)
class Submission:
    """The files of an archive and their canonical form.

    Attributes:
        files: Path to content, sorted by path.
        canonical_bytes: The deterministic ``tar.gz`` of exactly these files.
        sha256: Hex digest of ``canonical_bytes``.
    """

    files: Mapping[str, bytes]
    canonical_bytes: bytes
    sha256: str


def decode_base64(text: str | bytes, limits: ArchiveLimits = SUBMISSION_LIMITS) -> bytes:
    """Decode ``code_base64`` strictly; the length is checked before anything is decoded.

    Raises:
        InvalidBase64Error: Not the standard alphabet with padding.
        ArchiveTooLargeError: The decoded bytes would exceed the compressed limit.
    """
    if len(text) > (limits.compressed + 2) // 3 * 4:
        raise ArchiveTooLargeError("The archive", limits.compressed)
    try:
        encoded = text.encode("ascii") if isinstance(text, str) else text
        return base64.b64decode(encoded, validate=True)
    except (UnicodeEncodeError, binascii.Error, ValueError):
        raise InvalidBase64Error from None


def unpack(data: bytes, limits: ArchiveLimits = SUBMISSION_LIMITS) -> Submission:
    """Read a ``tar.gz`` (or plain tar) into memory.

    Raises:
        ArchiveTooLargeError: Over a size limit, before or after decompression.
        InvalidArchiveError: Malformed, or a member that is not a plain file or folder.
    """
    if len(data) > limits.compressed:
        raise ArchiveTooLargeError("The archive", limits.compressed)
    raw = _gunzip(data, limits.stream) if data[:2] == b"\x1f\x8b" else data
    if len(raw) > limits.stream:
        raise ArchiveTooLargeError("The decompressed archive", limits.stream)
    return submission_of(dict(_members(raw, limits)), limits)


def submission_of(files: Mapping[str, bytes], limits: ArchiveLimits = SUBMISSION_LIMITS) -> Submission:
    """Check names and sizes of ``files`` and pack them canonically.

    Raises:
        ArchiveTooLargeError: Over a size limit.
        InvalidArchiveError: No file, too many, or a name that is refused.
    """
    if not files:
        raise InvalidArchiveError("empty", "The archive holds no file.")
    folded: dict[str, str] = {}
    total = 0
    for name, content in files.items():
        check_name(name, limits)
        _check_unique(name, folded)
        if len(content) > limits.file:
            raise ArchiveTooLargeError(f"The file '{name}'", limits.file)
        total += len(content)
    if total > limits.total:
        raise ArchiveTooLargeError("The code", limits.total)
    if len(files) > limits.count:
        raise InvalidArchiveError("file_count", f"The archive holds more than {limits.count} files.")
    _check_no_file_is_a_folder(files)
    ordered = dict(sorted(files.items()))
    canonical = pack_canonically(ordered)
    return Submission(ordered, canonical, sha256_hex(canonical))


def read_folder(root: Path, limits: ArchiveLimits = SUBMISSION_LIMITS) -> Submission:
    """Read a folder as if it had been archived. Links are refused; ``.git`` is not packed.

    Raises:
        ArchiveTooLargeError: Over a size limit.
        InvalidArchiveError: A link, a device or a name that is refused.
    """
    files: dict[str, bytes] = {}
    total = 0
    for path in sorted(root.rglob("*")):
        relative = path.relative_to(root)
        if relative.parts[0] == ".git":
            continue
        name = relative.as_posix()
        if path.is_symlink() or not (path.is_file() or path.is_dir()):
            raise InvalidArchiveError("member_type", f"'{name[:200]}' is not a regular file.", member=name)
        if path.is_dir():
            continue
        size = path.stat().st_size
        total += size
        if size > limits.file:
            raise ArchiveTooLargeError(f"The file '{name[:200]}'", limits.file)
        if total > limits.total:
            raise ArchiveTooLargeError("The code", limits.total)
        if len(files) >= limits.count:
            raise InvalidArchiveError("file_count", f"The folder holds more than {limits.count} files.")
        files[name] = path.read_bytes()
    return submission_of(files, limits)


def check_name(name: str, limits: ArchiveLimits = SUBMISSION_LIMITS) -> None:
    """Refuse a member name that could mean another file to another reader.

    Raises:
        InvalidArchiveError: Naming the rule.
    """
    try:
        encoded = name.encode()
    except UnicodeEncodeError:
        raise InvalidArchiveError("name_encoding", "A member name is not valid UTF-8.") from None
    shown = ascii(name[:80])
    if not name or len(encoded) > limits.path:
        raise InvalidArchiveError("name_length", f"The name {shown} is empty or over {limits.path} bytes.")
    if any(character in _BIDI or unicodedata.category(character) in ("Cc", "Cf", "Zl", "Zp", "Co", "Cn")
           for character in name):  # fmt: skip
        raise InvalidArchiveError(
            "name_characters", f"The name {shown} holds control or invisible characters.", member=shown
        )
    if unicodedata.normalize("NFC", name) != name:
        raise InvalidArchiveError("name_normalisation", f"The name {shown} is not NFC.", member=shown)
    parts = name.split("/")
    if name.startswith("/") or "\\" in name or any(part in ("", ".", "..") for part in parts):
        raise InvalidArchiveError(
            "name_path", f"The name {shown} is not a plain relative path.", member=shown
        )
    if any(part != part.strip(" ") or part.endswith(".") for part in parts):
        raise InvalidArchiveError(
            "name_characters",
            f"A part of {shown} begins or ends with a space, or ends with a dot.",
            member=shown,
        )
    if len(parts) > limits.depth:
        raise InvalidArchiveError("name_depth", f"The name {shown} is over {limits.depth} levels deep.")


def _check_unique(name: str, folded: dict[str, str]) -> None:
    key = unicodedata.normalize("NFKC", name).casefold()
    if key in folded:
        raise InvalidArchiveError(
            "duplicate_name",
            f"Two members are both called {name[:80]!a}, perhaps in another case.",
            member=name,
        )
    folded[key] = name


def _check_no_file_is_a_folder(files: Mapping[str, bytes]) -> None:
    for name in files:
        parts = name.split("/")
        for end in range(1, len(parts)):
            if "/".join(parts[:end]) in files:
                raise InvalidArchiveError(
                    "duplicate_name", f"A parent of {name[:80]!a} is also a file.", member=name
                )


def _gunzip(data: bytes, limit: int) -> bytes:
    inflater = zlib.decompressobj(wbits=31)
    parts: list[bytes] = []
    size = 0
    pending = data
    try:
        while not inflater.eof:
            part = inflater.decompress(pending, _CHUNK)
            pending = inflater.unconsumed_tail
            size += len(part)
            if size > limit:
                raise ArchiveTooLargeError("The decompressed archive", limit)
            parts.append(part)
            if not part and not pending and not inflater.eof:
                raise InvalidArchiveError("truncated", "The gzip stream ends early.")
    except zlib.error:
        raise InvalidArchiveError("gzip", "The gzip stream is damaged.") from None
    if inflater.unused_data:
        raise InvalidArchiveError("trailing_data", "Bytes follow the gzip stream.")
    return b"".join(parts)


def _members(raw: bytes, limits: ArchiveLimits) -> Iterator[tuple[str, bytes]]:
    """Yield the regular files of a tar stream; refuse everything that is not a file or folder."""
    offset = 0
    long_name: str | None = None
    seen: dict[str, str] = {}
    if len(raw) < _BLOCK or len(raw) % _BLOCK:
        raise InvalidArchiveError("tar", "The decompressed bytes are not a tar archive.")
    while offset < len(raw):
        header = raw[offset : offset + _BLOCK]
        offset += _BLOCK
        if not any(header):
            _check_end(raw, offset)
            return
        _check_header(header)
        size = _number(header[124:136])
        kind = header[156:157]
        body_end = offset + size
        if body_end > len(raw):
            raise InvalidArchiveError("truncated", "A member is longer than the archive.")
        body = raw[offset:body_end]
        offset += (size + _BLOCK - 1) // _BLOCK * _BLOCK
        if kind in b"xgL" and kind:
            if long_name is not None or size > _MAX_EXTENDED_HEADER:
                raise InvalidArchiveError("pax_header", "An extended header is too long or repeated.")
            long_name = _extended_name(kind, body)
            continue
        name = long_name if long_name is not None else _header_name(header)
        long_name = None
        name = name.removeprefix("./")
        if kind == b"5":
            if size:
                raise InvalidArchiveError("tar", "A folder entry has content.", member=name)
            if name.rstrip("/") not in ("", "."):
                check_name(name.rstrip("/"), limits)
            continue
        if kind not in (b"0", b"\0"):
            raise InvalidArchiveError(
                "member_type",
                f"The member {name[:80]!a} is a link, device or special entry.",
                member=ascii(name[:80]),
            )
        check_name(name, limits)
        _check_unique(name, seen)
        if len(seen) > limits.count:
            raise InvalidArchiveError("file_count", f"The archive holds more than {limits.count} files.")
        yield name, body
    raise InvalidArchiveError("truncated", "The archive has no end marker.")


def _check_end(raw: bytes, offset: int) -> None:
    if offset >= len(raw) or raw[offset:].strip(b"\0"):
        raise InvalidArchiveError("trailing_data", "Bytes follow the end of the archive, or its end is cut.")


def _check_header(header: bytes) -> None:
    if header[257:263] not in (b"ustar\0", b"ustar "):
        raise InvalidArchiveError("tar", "The decompressed bytes are not a ustar, pax or GNU tar archive.")
    stored = _number(header[148:156])
    if stored != sum(header[:148]) + 8 * 32 + sum(header[156:]):
        raise InvalidArchiveError("tar", "A tar header has a wrong checksum.")


def _number(field: bytes) -> int:
    text = field.rstrip(b"\0 ").lstrip(b" ")
    if not text:
        return 0
    if any(byte not in b"01234567" for byte in text):
        raise InvalidArchiveError("tar", "A tar header has a number that is not octal.")
    return int(text, 8)


def _header_name(header: bytes) -> str:
    name = header[:100].split(b"\0", 1)[0]
    if header[257:263] == b"ustar\0":
        prefix = header[345:500].split(b"\0", 1)[0]
        if prefix:
            name = prefix + b"/" + name
    return _text(name)


def _text(data: bytes) -> str:
    try:
        return data.decode()
    except UnicodeDecodeError:
        raise InvalidArchiveError("name_encoding", "A member name is not valid UTF-8.") from None


def _extended_name(kind: bytes, body: bytes) -> str | None:
    if kind == b"L":
        return _text(body.rstrip(b"\0"))
    name: str | None = None
    rest = body
    while rest:
        length_text, space, _ = rest.partition(b" ")
        if not space or not length_text.isdigit() or len(length_text) > 5:
            raise InvalidArchiveError("pax_header", "A pax header is malformed.")
        length = int(length_text)
        record = rest[len(length_text) + 1 : length]
        if not len(length_text) + 1 < length <= len(rest) or not record.endswith(b"\n"):
            raise InvalidArchiveError("pax_header", "A pax header is malformed.")
        key, equals, value = record[:-1].partition(b"=")
        rest = rest[length:]
        keyword = _text(key)
        if keyword == "path" and kind == b"x" and equals and name is None:
            name = _text(value)
        elif keyword not in _HARMLESS_PAX_KEYS:
            raise InvalidArchiveError("pax_header", f"The pax header {keyword[:40]!a} is not allowed.")
    return name
