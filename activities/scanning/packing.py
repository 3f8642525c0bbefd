"""The canonical archive: the same files always give the same bytes."""

import hashlib
import io
import struct
import tarfile
import zlib
from collections.abc import Mapping

_GZIP_HEADER = b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\xff"


def pack_canonically(files: Mapping[str, bytes]) -> bytes:
    """Pack ``files`` as ``tar.gz``: sorted, time, owner and mode constant, gzip header without time.

    Args:
        files: Path to content; paths are already checked.
    """
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.GNU_FORMAT) as archive:
        for name in sorted(files):
            member = tarfile.TarInfo(name)
            member.size = len(files[name])
            member.mode = 0o644
            archive.addfile(member, io.BytesIO(files[name]))
    raw = buffer.getvalue()
    deflater = zlib.compressobj(6, zlib.DEFLATED, -15)
    body = deflater.compress(raw) + deflater.flush()
    return _GZIP_HEADER + body + struct.pack("<II", zlib.crc32(raw), len(raw) & 0xFFFFFFFF)


def sha256_hex(data: bytes) -> str:
    """Return the SHA-256 of ``data`` in hexadecimal."""
    return hashlib.sha256(data).hexdigest()
