import base64
import contextlib
import gzip
import tarfile

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from activities.scanning import decode_base64, pack_canonically, submission_of, unpack
from models.errors import PlatformError
from models.scanning import ArchiveTooLargeError, InvalidArchiveError, InvalidBase64Error
from tests.scanning.submission_builders import member, packed, tar_of


def test_a_plain_archive_is_read_and_repacked_canonically() -> None:
    first = unpack(packed((member("b.py"), b"2"), (member("a.py"), b"1")))
    second = unpack(packed((member("./a.py"), b"1"), (member("b.py"), b"2")))
    assert dict(first.files) == {"a.py": b"1", "b.py": b"2"}
    assert first.canonical_bytes == second.canonical_bytes
    assert unpack(first.canonical_bytes).sha256 == first.sha256


@pytest.mark.parametrize(
    ("members", "rule"),
    [
        ([(member("a", tarfile.SYMTYPE, "b"), b"")], "member_type"),
        ([(member("a", tarfile.LNKTYPE, "b"), b"")], "member_type"),
        ([(member("a", tarfile.CHRTYPE), b"")], "member_type"),
        ([(member("a", tarfile.FIFOTYPE), b"")], "member_type"),
        ([(member("a", b"S"), b"")], "member_type"),
        ([(member("a.py"), b""), (member("a.py"), b"")], "duplicate_name"),
        ([(member("a.py"), b""), (member("A.PY"), b"")], "duplicate_name"),
        ([(member("a"), b""), (member("a/b"), b"")], "duplicate_name"),
        ([(member("../a"), b"")], "name_path"),
        ([(member("/a"), b"")], "name_path"),
        ([(member("a//b"), b"")], "name_path"),
        ([(member("a\\b"), b"")], "name_path"),
        ([(member("a\u202eb"), b"")], "name_characters"),
        ([(member("a\nb"), b"")], "name_characters"),
        ([(member("a."), b"")], "name_characters"),
        ([(member("e\u0301"), b"")], "name_normalisation"),
        ([(member("d/" * 25 + "f"), b"")], "name_depth"),
        ([(member("n" * 250), b"")], "name_length"),
        ([], "empty"),
    ],
)
def test_an_archive_with_anything_but_plain_files_is_refused(
    members: list[tuple[tarfile.TarInfo, bytes]], rule: str
) -> None:
    with pytest.raises(InvalidArchiveError) as refusal:
        unpack(packed(*members))
    assert refusal.value.details["rule"] == rule


def test_bytes_after_the_gzip_stream_are_refused() -> None:
    good = packed((member("a"), b"x"))
    for bad in (good + b"x", good + good, good[:-9]):
        with pytest.raises(InvalidArchiveError):
            unpack(bad)


def test_bytes_after_the_tar_end_are_refused() -> None:
    raw = tar_of((member("a"), b"x"))
    with pytest.raises(InvalidArchiveError):
        unpack(gzip.compress(raw + b"hidden" + b"\0" * 506))


def test_a_decompression_bomb_is_stopped_early() -> None:
    with pytest.raises(ArchiveTooLargeError):
        unpack(gzip.compress(b"\0" * (64 << 20)))


def test_a_huge_extended_header_is_refused() -> None:
    info = member("a")
    info.pax_headers = {"comment": "x" * 100_000}
    with pytest.raises(InvalidArchiveError):
        unpack(gzip.compress(tar_of((info, b""), format=tarfile.PAX_FORMAT)))


def test_a_pax_header_that_changes_the_size_is_refused() -> None:
    info = member("a")
    info.pax_headers = {"GNU.sparse.size": "1"}
    with pytest.raises(InvalidArchiveError):
        unpack(gzip.compress(tar_of((info, b""), format=tarfile.PAX_FORMAT)))


def test_over_ten_megabytes_of_code_are_refused() -> None:
    with pytest.raises(ArchiveTooLargeError):
        submission_of({f"{number}.py": b"x" * 4_000_000 for number in range(3)})


def test_one_oversized_file_is_refused() -> None:
    with pytest.raises(ArchiveTooLargeError):
        submission_of({"a.py": b"x" * (11 << 20)})


@pytest.mark.parametrize("text", ["a", "ab=c", "YQ==\n", "YQ", "é", "YQ-_"])
def test_loose_base64_is_refused(text: str) -> None:
    with pytest.raises(InvalidBase64Error):
        decode_base64(text)


def test_base64_is_measured_before_it_is_decoded() -> None:
    with pytest.raises(ArchiveTooLargeError):
        decode_base64("A" * (15 << 20))
    assert decode_base64(base64.b64encode(b"abc").decode()) == b"abc"


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.binary(max_size=2_000), st.booleans())
def test_no_bytes_make_the_reader_fail_untyped(data: bytes, compress: bool) -> None:
    with contextlib.suppress(PlatformError):
        unpack(gzip.compress(data) if compress else data)


@settings(max_examples=200, deadline=None)
@given(st.integers(0, 1_535), st.integers(0, 255))
def test_no_flipped_byte_makes_the_reader_fail_untyped(position: int, value: int) -> None:
    raw = bytearray(tar_of((member("a.py"), b"print(1)"), (member("b.py"), b"")))
    raw[position] = value
    with contextlib.suppress(PlatformError):
        unpack(gzip.compress(bytes(raw)))


@settings(max_examples=50, deadline=None)
@given(
    st.dictionaries(
        st.from_regex(r"[a-z]{1,8}\.py", fullmatch=True), st.binary(max_size=200), min_size=1, max_size=8
    )
)
def test_packing_and_unpacking_is_the_identity(files: dict[str, bytes]) -> None:
    assert dict(unpack(pack_canonically(files)).files) == dict(sorted(files.items()))
