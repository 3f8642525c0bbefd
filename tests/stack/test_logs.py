import io
import os
from pathlib import Path

from cli.stack.logs import last_lines, tail
from cli.stack.process import last_line, rotate


def test_the_last_lines_are_read_across_blocks(tmp_path: Path) -> None:
    log = tmp_path / "a.log"
    log.write_text("".join(f"line {number} {'x' * 100}\n" for number in range(5_000)))
    assert [line.split()[1] for line in last_lines(log, 3)] == ["4997", "4998", "4999"]
    assert len(last_lines(log, 10_000)) == 5_000
    assert last_lines(log, 0) == []


def test_several_logs_are_labelled(tmp_path: Path) -> None:
    files = {name: tmp_path / f"{name}.log" for name in ("a", "long")}
    for file in files.values():
        file.write_text("hello\n")
    out = io.StringIO()
    tail(files, 5, out)
    assert out.getvalue() == "a    | hello\nlong | hello\n"


def test_a_log_is_rotated_while_its_writer_goes_on(tmp_path: Path) -> None:
    log = tmp_path / "a.log"
    descriptor = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    for generation in (b"1", b"2", b"3", b"4"):
        os.write(descriptor, generation * 100)
        rotate(log, limit_bytes=50, generations=2)
    os.write(descriptor, b"now")
    os.close(descriptor)
    assert log.read_bytes() == b"now"
    assert (tmp_path / "a.log.1").read_bytes() == b"4" * 100
    assert (tmp_path / "a.log.2").read_bytes() == b"3" * 100
    assert not (tmp_path / "a.log.3").exists()


def test_a_small_log_is_left_alone(tmp_path: Path) -> None:
    log = tmp_path / "a.log"
    log.write_text("short\n")
    rotate(log, limit_bytes=50, generations=2)
    assert log.read_text() == "short\n"
    assert last_line(log) == "short"
    assert last_line(tmp_path / "none.log") == ""
