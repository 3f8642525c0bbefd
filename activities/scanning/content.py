"""What the content of a file alone gives away, and whether its name says what it is."""

import json
import re

from activities.scanning.file_kinds import LARGEST_GUESS, Kind, as_text, suffix
from activities.scanning.findings import Collector
from activities.scanning.text_checks import (
    SHELL_CODE,
    dangerous_command,
    looks_like_javascript,
    looks_like_python,
)
from models.manifest import Capability
from models.scanning import Severity

_LIBRARY = re.compile(r"\.(?:so|pyd|dll|dylib|node)(?:\.\d+)*$", re.IGNORECASE)


_EXECUTABLE = re.compile(r"\.exe$", re.IGNORECASE)


_SUFFIX_OF_KIND: dict[str, tuple[str, ...]] = {
    "zip": (".zip", ".whl", ".jar", ".egg", ".xlsx", ".docx", ".pptx", ".npz", ".odt", ".vsix", ".xpi", ".ods", ".pt", ".pth", ".apk", ".nupkg", ".epub"),  # noqa: E501
    "ar": (".a", ".lib", ".ar", ".deb"),
    "gzip": (".gz", ".tgz", ".svgz", ".nii"), "bzip2": (".bz2", ".tbz"), "xz": (".xz", ".txz"), "7z": (".7z",), "rar": (".rar",), "zstd": (".zst",),  # noqa: E501
    "pickle": (".pkl", ".pickle", ".p", ".joblib", ".dat"), "wasm": (".wasm",), "pyc": (".pyc", ".pyo"),
}  # fmt: skip


_PICTURES = frozenset({"png", "jpeg", "gif", "ico", "bmp", "riff", "tiff"})


_IGNORABLE = frozenset({0x200B, 0x2060, 0xFEFF, 0x00AD, 0x180E})


# A range inside a character class ("\u202A-\u202E") is how honest code names these characters.
_BIDI = re.compile("(?<!-)[\u202a-\u202e\u2066-\u2069](?!-)")


_TEMPLATE_NAME = re.compile(
    r"[-_.](?:tpl|tmpl|in|template|j2|jinja2?|mako|example|sample|orig|dist|snap|golden|expected|skel)$|\.(?:py|js|mjs|cjs|ts)(?:\.|-)\w{1,8}$",
    re.IGNORECASE,
)


_OVERRIDE = re.compile("[\u202d\u202e\u2066-\u2069]")


_HIDDEN_RUN = re.compile(
    "[\u200b-\u200c\u200e\u200f\u2060-\u2064\ufe00-\ufe0e\U000e0000-\U000e001f\U000e0080-\U000e01ef\u3164\uffa0\u115f\u1160]{8,}"
)


_HIDDEN_IDENTIFIER = re.compile("[\u3164\uffa0\u115f\u1160]")


_ACTIVE_MARKUP = re.compile(
    r"<script\b|\bon(?:load|error|click|mouseover)\s*=|javascript:|<foreignObject\b", re.IGNORECASE
)


_SCRIPT_BODY = re.compile(r"<script\b[^>]*>(.*?)</script\s*>", re.IGNORECASE | re.DOTALL)


# PEP 263; of the encodings that Python knows, these write ASCII as itself.
_COOKIE = re.compile(r"(?:[ \t\f]*(?:#[^\n]*)?\r?\n)?[ \t\f]*#[^\n]*?coding[:=][ \t]*([-\w.]+)")


_HONEST_ENCODING = re.compile(
    r"(?:utf[-_]?8(?:[-_]?sig)?|us[-_]ascii|ascii|latin[-_]?\d|iso[-_]?8859[-_]?\d{1,2}|cp(?:125\d|437|850|866|932|936|949|950)"
    r"|windows[-_]125\d|koi8[-_][rut]|euc[-_]?(?:jp|kr|cn)|gb(?:k|2312|18030)|big5|shift[-_]?jis|sjis|mac[-_]?roman|unix|dos|mac)$",
    re.IGNORECASE,
)


def check_file(path: str, data: bytes, kind: Kind, out: Collector) -> None:
    """Report what the content alone gives away."""
    name = kind.name
    if name in ("elf", "pe", "macho", "wasm", "class", "dex"):
        _native(path, name, out)
    elif name == "pyc":
        if suffix(path) in _SUFFIX_OF_KIND["pyc"]:
            out.add("content.bytecode")
        else:
            out.add("native.disguised", detail="Python bytecode")
    elif name == "pickle":
        out.use(Capability.DESERIALISATION, 0, 0, "a pickle file")
        out.add(
            "content.serialised"
            if suffix(path) in _SUFFIX_OF_KIND["pickle"]
            else "content.disguised_archive",
            detail="pickle",
        )
        out.payload(data, "pickle file", 0, "serialised")
    elif name in ("zip", "gzip", "bzip2", "xz", "7z", "rar", "zstd", "tar", "ar", "rpm"):
        honest = suffix(path) in _SUFFIX_OF_KIND.get(name, (f".{name}",))
        out.add(
            "content.nested_archive" if honest else "content.disguised_archive",
            detail=name,
            severity=None if honest or name == "ar" else Severity.HIGH,
        )
    elif name in _PICTURES or name in ("pdf", "font", "mp3", "ogg"):
        _polyglot(data, name, out)
    elif name == "binary":
        _binary(path, data, out)
    if kind.is_text:
        _check_text(path, as_text(data), kind, out)


def _native(path: str, name: str, out: Collector) -> None:
    out.use(Capability.NATIVE, 0, 0, f"{name} file")
    honest = (
        _LIBRARY.search(path)
        or (name == "wasm" and path.endswith(".wasm"))
        or (name == "pe" and _EXECUTABLE.search(path))
    )
    if name == "pe" and path.endswith(".node"):
        honest = _LIBRARY.search(path)
    if not honest:
        executable = suffix(path) == "" and "/bin/" in f"/{path}"
        out.add("native.binary" if executable else "native.disguised", detail=name)


def _polyglot(data: bytes, name: str, out: Collector) -> None:
    end = {"png": b"IEND\xaeB`\x82", "jpeg": b"\xff\xd9", "gif": b"\x00;", "pdf": b"%%EOF"}.get(name)
    tail = data[data.rfind(end) + len(end) :] if end and end in data else b""
    if len(tail) > 16 and tail.strip(b"\0\r\n \t"):
        text = tail.decode("latin-1")
        if (
            looks_like_python(text)
            or looks_like_javascript(text)
            or tail.lstrip()[:2] in (b"PK", b"MZ", b"\x1f\x8b")
            or tail[:4] == b"\x7fELF"
            or b"PK\x05\x06" in tail
        ):
            out.add(
                "content.polyglot", detail=f"{len(tail)} bytes of code or archive after the end of the {name}"
            )
        elif len(tail) > 64:
            out.add(
                "content.polyglot",
                detail=f"{len(tail)} bytes after the end of the {name}",
                severity=Severity.MEDIUM,
            )
        out.payload(tail.strip(b"\0\r\n \t"), "tail of a picture", 0)
    head = data[:65_536]
    for pattern in (
        rb"require\(['\"]child_process",
        rb"\beval\(",
        rb"import os\b",
        rb"__import__\(",
        rb"exec\(",
        rb"<\?php",
        rb"<script",
    ):
        if re.search(pattern, head) and name != "pdf":
            out.add("content.polyglot", detail=f"code inside the {name}")
            break


def _binary(path: str, data: bytes, out: Collector) -> None:
    if suffix(path) in (
        ".txt",
        ".md",
        ".json",
        ".yml",
        ".yaml",
        ".csv",
        ".toml",
        ".ini",
        ".cfg",
        ".html",
        ".css",
        ".xml",
        ".log",
    ):
        out.add("content.opaque", detail="binary bytes under a text extension")
    for mark in (b"\x7fELF", b"\0asm\x01", b"!This program cannot be run in DOS mode"):
        position = data.find(mark)
        if position >= 0:
            out.add("native.disguised", detail=f"an executable at byte {position}")
            return


def _check_text(path: str, text: str, kind: Kind, out: Collector) -> None:
    is_code = kind.language != "text"
    if not text.isascii():
        _invisible(text, is_code, out)
    if kind.name == "shell" or (kind.name == "text" and suffix(path) == "" and SHELL_CODE.match(text)):
        danger = dangerous_command(text)
        if danger:
            out.add("command.dangerous", detail=danger)
        else:
            out.add("content.shell", severity=Severity.LOW if kind.name == "shell" else None)
    elif kind.name == "script":
        out.add("content.shell", detail="a script of another language")
    elif kind.name == "markup":
        _markup(path, text, out)
    elif kind.name == "json":
        _json(path, text, out)
    elif kind.name == "notebook":
        _notebook(text, out)
    elif kind.name == "pth":
        _path_file(text, out)
    elif (
        kind.name == "text"
        and len(text) > LARGEST_GUESS
        and (looks_like_python(text) or looks_like_javascript(text))
    ):
        out.add("limit.text", detail="a text that may be code")
    if kind.language == "python":
        cookie = _COOKIE.match(text[:400])
        if cookie and not _HONEST_ENCODING.match(cookie.group(1)):
            out.add("evasive.encoding", 1, 1, cookie.group(1))
    name = path.rsplit("/", 1)[-1]
    if name in ("sitecustomize.py", "usercustomize.py"):
        out.add("install.hook", detail=name)
    if kind.name == "text" and re.search(
        r"_\$\$ND_FUNC\$\$_|!!python/(?:object|name|module)|\"py/(?:reduce|object)\"", text
    ):
        out.payload(text, "text", 0, "serialised")


def _invisible(text: str, is_code: bool, out: Collector) -> None:
    match = _BIDI.search(text)
    if match and is_code:
        several = len(_BIDI.findall(text)) > 1
        out.add(
            "evasive.unicode",
            text.count("\n", 0, match.start()) + 1,
            0,
            f"U+{ord(match.group(0)):04X}",
            severity=None if several and _OVERRIDE.search(text) else Severity.MEDIUM,
        )
    run = _HIDDEN_RUN.search(text)
    if run:
        line = text.count("\n", 0, run.start()) + 1
        if is_code or len(run.group(0)) >= 16:
            out.add("evasive.unicode", line, 0, f"{len(run.group(0))} invisible characters in a row")
    elif is_code:
        count = sum(text.count(chr(code)) for code in _IGNORABLE)
        hidden = _HIDDEN_IDENTIFIER.search(text)
        if hidden:
            out.add(
                "evasive.unicode",
                text.count("\n", 0, hidden.start()) + 1,
                0,
                "an invisible letter",
                severity=Severity.MEDIUM,
            )
        elif count > 40:
            out.add("evasive.unicode", 0, 0, f"{count} invisible characters", severity=Severity.MEDIUM)


def _markup(path: str, text: str, out: Collector) -> None:
    bodies = _SCRIPT_BODY.findall(text)
    if len(bodies) > _MAX_SCRIPTS:
        out.add("limit.text", detail=f"{len(bodies)} scripts in a page")
    for body in bodies[:_MAX_SCRIPTS]:
        if body.strip():
            out.payload(body, "text", 0, "javascript")
    if suffix(path) == ".svg" and _ACTIVE_MARKUP.search(text):
        out.add("content.active_markup", detail="svg")


def _json(path: str, text: str, out: Collector) -> None:
    if path.endswith(".map"):
        return
    if len(text) > _MAX_JSON:
        if looks_like_python(text) or looks_like_javascript(text):
            out.add("limit.text", detail="JSON with code in it")
        return
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return
    stack: list[object] = [value]
    while stack:
        item = stack.pop()
        if isinstance(item, dict):
            if "mappings" in item and "sources" in item:
                return
            stack.extend(item.values())
            if any(isinstance(key, str) and key.startswith("py/") for key in item):
                out.payload(text[:100_000], "text", 0, "serialised")
        elif isinstance(item, list):
            stack.extend(item)
        elif isinstance(item, str) and len(item) > 15:
            if "_$$ND_FUNC$$_" in item:
                out.payload(item, "text", 0, "serialised")
            elif looks_like_python(item) or looks_like_javascript(item) or _LOOKS_ENCODED.match(item):
                out.payload(item, "data", 0)


_MAX_SCRIPTS = 100


_MAX_JSON = 1 << 20


_LOOKS_ENCODED = re.compile(r"^[A-Za-z0-9+/_-]{24,}={0,2}$")


def _notebook(text: str, out: Collector) -> None:
    try:
        cells = json.loads(text).get("cells", [])
    except (ValueError, RecursionError, AttributeError):
        out.add("parse.failed", detail="notebook")
        return
    for cell in cells if isinstance(cells, list) else []:
        if not isinstance(cell, dict) or cell.get("cell_type") != "code":
            continue
        source = cell.get("source", "")
        joined = (
            "".join(part for part in source if isinstance(part, str))
            if isinstance(source, list)
            else str(source)
        )
        code = "\n".join(line for line in joined.split("\n") if not line.lstrip().startswith("%"))
        shell = "\n".join(line.lstrip()[1:] for line in code.split("\n") if line.lstrip().startswith("!"))
        if dangerous_command(shell):
            out.add("command.dangerous", detail=shell)
        out.payload(
            "\n".join(line for line in code.split("\n") if not line.lstrip().startswith("!")),
            "executed",
            0,
            "python",
        )


def _path_file(text: str, out: Collector) -> None:
    """A ``.pth`` file runs its ``import`` lines at interpreter start (module ``site``)."""
    for number, line in enumerate(text.split("\n"), 1):
        if line.startswith(("import ", "import\t")):
            simple = not re.search(
                r"base64|subprocess|urllib|socket|\bos\.(?:system|popen)|requests|decode",
                line,
            )
            out.add(
                "install.hook",
                number,
                1,
                "a .pth file with code",
                severity=Severity.MEDIUM if simple else None,
            )
            out.payload(line, "executed", number, "python")


def check_disguise(path: str, kind: Kind, out: Collector) -> None:
    """Report code under a name that does not say so; worse when the code does something."""
    if not kind.odd or _TEMPLATE_NAME.search(path):
        return
    serious = out.blocks() or bool(set(out.capabilities) - {Capability.FILESYSTEM})
    out.add(
        "content.disguised_code",
        detail=f"{kind.name} in {path.rsplit('/', 1)[-1]}",
        severity=None if serious else Severity.MEDIUM,
    )
