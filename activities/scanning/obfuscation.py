"""Signs of machine-made obfuscation that no single expression shows."""

import re
from collections.abc import Set

from activities.scanning.findings import Collector
from models.scanning import Severity

_MACHINE_NAME = re.compile(r"_0x[0-9a-f]{3,8}|[Il1]{6,}|[O0]{6,}|_{0,2}[IlO01]{8,}")
_PYTHON_MACHINE_NAME = re.compile(
    r"_{2,}[oO0Il1]{4,}_*|[Il]{8,}|O[O0]{7,}|_+0x[0-9a-f]{4,}|(?:_[a-zA-Z0-9]?){10,}"
)
_MACHINE_STARTS = frozenset("_IlO10")
_MACHINE_NAMES = 8
_SYMBOLS = frozenset("[]()!+{}/\\|_$=;:'\",.<>-~?&*^% \n\t")
_WITHOUT_SYMBOLS = str.maketrans("", "", "".join(_SYMBOLS))
_SYMBOL_RUN = re.compile(r"[\[\]()!+]{200}")
_FIRST_PART = 40_000
_GAP = " " * 200
_WIDE_GAP = re.compile(r"[^\s#/*][ \t]{200,}[^\s]")
_CODE_ARRAY = re.compile(r"(?:\d{1,3}\s*,\s*){200,}")
_CODE_ARRAY_USERS = ("fromCharCode", "chr(", "bytes(", "bytearray(", "exec(", "eval(", "charCodeAt")
_BLOB = re.compile(r"['\"`]([A-Za-z0-9+/=_-]{2000,})['\"`]")
_BLOB_USER = re.compile(
    r"\b(?:exec|eval|Function|compile|decompress|inflate|decrypt|createDecipher|atob|b64decode|loads)\b"
)
_BLOB_LENGTH = 2_000


def scan_obfuscation(text: str, language: str, words: Set[str], out: Collector) -> None:
    """Report machine-made names, symbol-only code, hidden columns and large blobs.

    Args:
        text: Source.
        language: Language of the source.
        words: `activities.scanning.words.words_of` the source.
        out: Where findings go.
    """
    _machine_names(text, language, words, out)
    if language != "python":
        _symbols(text, out)
    if _GAP in text.replace("\t", " "):
        _hidden_column(text, out)
    if text.count(",") >= 200 and any(user in text for user in _CODE_ARRAY_USERS):
        numbers = _CODE_ARRAY.search(text)
        if numbers:
            line = text.count("\n", 0, numbers.start()) + 1
            out.add("obfuscation.blob", line, 0, "a long list of character codes", severity=Severity.LOW)
    if max(map(len, text.split("\n"))) > _BLOB_LENGTH:
        blob = _BLOB.search(text)
        if blob and _BLOB_USER.search(text):
            line = text.count("\n", 0, blob.start()) + 1
            out.add("obfuscation.blob", line, 0, f"{len(blob.group(1))} characters")


def _machine_names(text: str, language: str, words: Set[str], out: Collector) -> None:
    pattern = _PYTHON_MACHINE_NAME if language == "python" else _MACHINE_NAME
    names = sorted(word for word in words if word[0] in _MACHINE_STARTS and pattern.fullmatch(word))
    if len(names) >= _MACHINE_NAMES:
        first = min(text.find(name) for name in names)
        out.add("obfuscation.names", text.count("\n", 0, first) + 1, 0, ", ".join(names[:3]))


def _symbols(text: str, out: Collector) -> None:
    run = _SYMBOL_RUN.search(text)
    if run:
        out.add("obfuscation.symbols", text.count("\n", 0, run.start()) + 1, 1)
        return
    dense = re.sub(r"\s+", "", text[:_FIRST_PART])
    if len(dense) > 120:
        core = sum(dense.count(symbol) for symbol in "[]()!+")
        if (core > len(dense) * 0.85 and sum(dense.count(symbol) for symbol in "{},") < len(dense) * 0.1) or (
            len(dense) > 200
            and len(dense) - len(dense.translate(_WITHOUT_SYMBOLS)) > len(dense) * 0.9
            and re.search(r"[$_]=~?\[\]|\(゜|ﾟωﾟ|ﾟДﾟ", dense)
        ):
            out.add("obfuscation.symbols", 1, 1)


def _hidden_column(text: str, out: Collector) -> None:
    for gap in _WIDE_GAP.finditer(text):
        end = text.find("\n", gap.end())
        rest = text[gap.end() - 1 : end if end > 0 else gap.end() + 2_000]
        if re.search(r"[(=]", rest) and not rest.startswith(("#", "//", "\\", "*", "|", '"', "'", "`")):
            out.add("obfuscation.hidden_column", text.count("\n", 0, gap.start()) + 1, 0)
            return
