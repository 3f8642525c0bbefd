"""Signs of machine-made obfuscation that no single expression shows."""

import re

from activities.scanning.findings import Collector
from models.scanning import Severity

_MACHINE_NAME = re.compile(r"\b_0x[0-9a-f]{3,8}\b|\b(?:[Il1]{6,}|[O0]{6,}|_{0,2}[IlO01]{8,})\b")
_SYMBOLS = frozenset("[]()!+{}/\\|_$=;:'\",.<>-~?&*^% \n\t")
_WITHOUT_SYMBOLS = str.maketrans("", "", "".join(_SYMBOLS))
_WIDE_GAP = re.compile(r"[^\s#/*][ \t]{200,}[^\s]")
_PYTHON_MACHINE_NAME = re.compile(
    r"\b(?:_{2,}[oO0Il1]{4,}_*|[Il]{8,}|O[O0]{7,}|_+0x[0-9a-f]{4,}|(?:_[a-zA-Z0-9]?){10,})\b"
)
_CODE_ARRAY = re.compile(r"(?:\d{1,3}\s*,\s*){200,}")
_BLOB = re.compile(r"['\"`]([A-Za-z0-9+/=_-]{2000,})['\"`]")
_SCAN = 600_000


def scan_obfuscation(text: str, language: str, out: Collector) -> None:
    """Report machine-made names, symbol-only code, hidden columns and large blobs."""
    head = text[:_SCAN]
    pattern = _PYTHON_MACHINE_NAME if language == "python" else _MACHINE_NAME
    names: set[str] = set()
    for match in pattern.finditer(head):
        names.add(match.group(0))
        if len(names) >= 8:
            out.add(
                "obfuscation.names", head.count("\n", 0, match.start()) + 1, 0, ", ".join(sorted(names)[:3])
            )
            break
    dense = "" if language == "python" else re.sub(r"\s+", "", head[:40_000])
    if len(dense) > 120:
        core = sum(dense.count(symbol) for symbol in "[]()!+")
        if (core > len(dense) * 0.85 and sum(dense.count(symbol) for symbol in "{},") < len(dense) * 0.1) or (
            len(dense) > 200
            and len(dense) - len(dense.translate(_WITHOUT_SYMBOLS)) > len(dense) * 0.9
            and re.search(r"[$_]=~?\[\]|\(゜|ﾟωﾟ|ﾟДﾟ", dense)
        ):
            out.add("obfuscation.symbols", 1, 1)
    gap = _WIDE_GAP.search(head)
    if gap:
        line = head.count("\n", 0, gap.start()) + 1
        end = head.find("\n", gap.end())
        rest = head[gap.end() - 1 : end if end > 0 else gap.end() + 2_000]
        if re.search(r"[(=]", rest) and not rest.startswith(("#", "//", "\\", "*", "|", '"', "'", "`")):
            out.add("obfuscation.hidden_column", line, 0)
    numbers = _CODE_ARRAY.search(head)
    if numbers and re.search(r"fromCharCode|\bchr\(|bytes\(|bytearray\(|\bexec\(|\beval\(|charCodeAt", head):
        out.add(
            "obfuscation.blob",
            head.count("\n", 0, numbers.start()) + 1,
            0,
            "a long list of character codes",
            severity=Severity.LOW,
        )
    blob = _BLOB.search(head)
    if blob and re.search(
        r"\b(?:exec|eval|Function|compile|decompress|inflate|decrypt|createDecipher|atob|b64decode|loads)\b",
        head,
    ):
        out.add(
            "obfuscation.blob", head.count("\n", 0, blob.start()) + 1, 0, f"{len(blob.group(1))} characters"
        )
