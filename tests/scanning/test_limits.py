"""What a bound of the scanner leaves out is a finding, never silence."""

import pytest

from models.scanning import Verdict
from tests.scanning.submission_builders import rules_of, scan_files, scan_node_code, scan_python_code


def _hex(number: int) -> str:
    return f"print({number:09})".encode().hex()


@pytest.mark.parametrize(
    ("name", "text", "rule"),
    [
        ("main.py", "".join(f"a{n}=a{n + 1} or b{n}\n" for n in range(400)) + "a0()\n", "limit.names"),
        ("main.py", "".join(f"a = {n}\n" for n in range(80)) + "a = exec\na(1)\n", "limit.names"),
        ("a.js", "".join(f"var a{n}=a{n + 1}||b{n};\n" for n in range(400)) + "a0();\n", "limit.names"),
        ("a.js", "var a;" + "".join(f"a=o.b{n};" for n in range(80)) + "a=self.eval;a(x)", "limit.names"),
        ("main.py", "a = ''.join(chr(n % 90) for n in range(90000))\nprint('x' + a)\n", "limit.constants"),
        ("main.py", f"a = '{'QUJD' * 101_000}'\n", "limit.payloads"),
        ("main.py", "".join(f"a{n} = '{_hex(n)}'\n" for n in range(500)), "limit.payloads"),
        ("main.py", "a = b + c\n" * 60_000, "limit.parts"),
        ("a.js", "a = b + c;\n" * 60_000, "limit.parts"),
        ("a.txt", "import os\nos.system('id')\n" * 30_000, "limit.text"),
        ("a.json", '{"a": "' + "require('child_process');" * 50_000 + '"}', "limit.text"),
    ],
)  # fmt: skip
def test_what_is_left_out_goes_to_review(name: str, text: str, rule: str) -> None:
    report = scan_files({name: text})
    assert rule in rules_of(report)
    assert report.verdict is not Verdict.PASS


def test_an_attack_far_down_a_large_source_is_found_at_its_line() -> None:
    code = "import base64\n" + "a = b + c\n" * 60_000 + "exec(base64.b64decode('cHJpbnQoMSk='))\n"
    report = scan_python_code(code)
    finding = next(item for item in report.violations if item.rule == "hidden.execution")
    assert finding.line == 60_002


def test_an_attack_far_down_a_large_script_is_found_at_its_line() -> None:
    code = "a = b + c;\n" * 60_000 + "eval(atob('cHJvY2Vzcy5leGl0KCk='));\n"
    report = scan_node_code(code)
    assert any((item.rule, item.line) == ("hidden.execution", 60_001) for item in report.violations)


def test_a_part_never_ends_inside_a_text() -> None:
    inner = "exec(base64.b64decode('cHJpbnQoMSk='))\n" * 30_000
    report = scan_python_code(f"import base64\na = {'b + ' * 200_000}c\nd = '''\n{inner}'''\nprint(d)\n")
    assert "hidden.execution" not in rules_of(report)
