"""Declared dependencies: package.json, requirements files, pyproject.toml, Pipfile, setup.cfg.

Names are compared offline with lists that ship with the scanner; nothing is fetched at scan time.
"""

import json
import re
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from activities.scanning.file_kinds import as_text
from activities.scanning.findings import Collector
from activities.scanning.package_names import deprecated, fold_name, known_malicious, similar_popular_name
from activities.scanning.text_checks import dangerous_command, inline_interpreter
from models.scanning import Finding, Severity

_INSTALL_SCRIPTS = ("preinstall", "install", "postinstall")
_SOFT_SCRIPTS = ("prepare", "preprepare", "postprepare", "dependencies")
_HARMLESS_SCRIPT = re.compile(
    r"^(?:node-gyp(?:-build)?(?:\s+\w+)?|prebuild-install.*|node-pre-gyp.*|husky(?:\s+install)?|patch-package|is-ci.*|opencollective(?:-postinstall)?.*|echo\s[\w\s.!'\"-]*|npm run build|tsc|:|exit 0|true)$"  # noqa: E501
)
_LOCAL_SCRIPT = re.compile(r"^(?:node|python3?)\s+(?:\./)?([\w./@-]+)\s*$")
_LOOSE = re.compile(r"^(?:\*|latest|x|X|>=?\s*0(?:\.0)*|next|)$")
_URL = re.compile(
    r"^(?:git\+|git:|https?:|ssh:|github:|gitlab:|bitbucket:|gist:|file:|link:|portal:)|^[\w.-]+/[\w.-]+(?:#.*)?$"
)
_REQUIREMENT = re.compile(r"^([A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?)\s*(\[[^\]]*\])?\s*(.*)$")
_MAX_FILES = 200
_MAX_DEPENDENCIES = 3_000
_RISKY_CODE = re.compile(
    rb"child_process|https?\.(?:get|request)|\bfetch\(|\baxios\b|net\.connect|os\.(?:networkInterfaces|hostname|userInfo)|process\.env\b(?!\.(?:npm_|CI\b|NODE_ENV|ADBLOCK|DISABLE_))|\beval\(|subprocess|urllib|requests\.|socket\.",
    re.DOTALL,
)


@dataclass(slots=True)
class DependencyCheck:
    """Result of the dependency rules.

    Attributes:
        count: Dependencies looked at.
        findings: What was found.
    """

    count: int = 0
    findings: list[Finding] = field(default_factory=list)


def check_dependencies(files: Mapping[str, bytes]) -> DependencyCheck:
    """Check every dependency file of a submission, wherever it lies."""
    result = DependencyCheck()
    checked = 0
    for path, data in files.items():
        name = path.rsplit("/", 1)[-1].lower()
        reader = _reader(path, name)
        if reader is None:
            continue
        checked += 1
        if checked > _MAX_FILES:
            result.findings.extend(_too_many(path, f"more than {_MAX_FILES} dependency files"))
            break
        out = Collector(path, "")
        for ecosystem, package, version, kind in reader(as_text(data), path, files, out):
            result.count += 1
            if result.count > _MAX_DEPENDENCIES:
                result.findings.extend(_too_many(path, f"more than {_MAX_DEPENDENCIES} dependencies"))
                break
            _check(ecosystem, package, version, kind, out)
        result.findings.extend(out.findings)
    return result


def _too_many(path: str, what: str) -> list[Finding]:
    out = Collector(path, "")
    out.add("limit.text", detail=what)
    return out.findings


_Dependency = tuple[str, str, str, str]


def _reader(path: str, name: str) -> Any:
    if name == "package.json":
        return _package_json
    if re.fullmatch(r"(?:.*requirements.*|constraints.*)\.(?:txt|in|pip)", name) or (
        "/requirements/" in f"/{path}" and name.endswith((".txt", ".in"))
    ):
        return _requirements
    if name == "pyproject.toml":
        return _pyproject
    if name == "pipfile":
        return _pipfile
    if name in (".npmrc", "pip.conf", ".yarnrc", ".yarnrc.yml", "pip.ini", ".pypirc"):
        return _configuration
    return None


def _check(ecosystem: str, package: str, version: str, kind: str, out: Collector) -> None:
    shown = f"{package} {version}".strip()
    if known_malicious(ecosystem, package, version):
        out.add("dependency.malicious", detail=shown, line=0, column=len(out.findings) + 1)
        return
    similar = similar_popular_name(ecosystem, package)
    if similar is not None:
        soft = Severity.LOW if kind in ("development", "vendored", "peer") else None
        out.add(
            "dependency.typosquat", 0, len(out.findings) + 1, f"{package} resembles {similar}", severity=soft
        )
    successor = deprecated(ecosystem, package)
    if successor is not None and kind != "development":
        out.add("dependency.deprecated", 0, len(out.findings) + 1, f"{package}: {successor}")
    if kind == "peer":
        return
    soft = Severity.LOW if kind in ("development", "vendored") else None
    if version.startswith("npm:"):
        out.add("dependency.alias", 0, len(out.findings) + 1, shown, severity=soft)
    elif _URL.match(version):
        out.add(
            "dependency.url",
            0,
            len(out.findings) + 1,
            shown,
            severity=Severity.LOW if version.startswith(("workspace:",)) else soft,
        )
    elif ecosystem == "npm" and _LOOSE.match(version):
        out.add("dependency.unpinned", 0, len(out.findings) + 1, shown, severity=soft)
    elif ecosystem == "PyPI" and kind == "runtime" and not version:
        out.add("dependency.unpinned", 0, len(out.findings) + 1, shown)


def _package_json(text: str, path: str, files: Mapping[str, bytes], out: Collector) -> Iterator[_Dependency]:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        out.add("dependency.unreadable", severity=Severity.LOW if "/" in path else None)
        return
    if not isinstance(value, dict):
        return
    vendored = "node_modules/" in path
    _scripts(value, path, files, out)
    sections = {"dependencies": "vendored" if vendored else "runtime", "optionalDependencies": "vendored" if vendored else "runtime",  # noqa: E501
                "devDependencies": "development", "peerDependencies": "peer"}  # fmt: skip
    for section, kind in sections.items():
        entries = value.get(section)
        for name, version in entries.items() if isinstance(entries, dict) else []:
            if isinstance(name, str) and isinstance(version, str):
                yield "npm", name, version.strip(), kind
    for key in ("overrides", "resolutions"):
        entries = value.get(key)
        for name, version in entries.items() if isinstance(entries, dict) else []:
            if isinstance(version, str):
                yield (
                    "npm",
                    str(name).rsplit("/", 1)[-1] if not str(name).startswith("@") else str(name),
                    version,
                    "development",
                )
    if isinstance(value.get("publishConfig"), dict) and "registry" in value["publishConfig"]:
        out.add("dependency.confusion", 0, 0, str(value["publishConfig"]["registry"]), severity=Severity.LOW)
    if value.get("gypfile") is True and "binding.gyp" in files:
        out.add("install.script", 0, 0, "gypfile", severity=Severity.LOW)


def _scripts(value: dict[str, Any], path: str, files: Mapping[str, bytes], out: Collector) -> None:
    scripts = value.get("scripts")
    if not isinstance(scripts, dict):
        return
    for position, (name, command) in enumerate(scripts.items()):
        if not isinstance(command, str):
            continue
        if dangerous_command(command):
            out.add("command.dangerous", 0, position + 1, f"script {name}: {command}")
        elif name in _INSTALL_SCRIPTS:
            out.add(
                "install.script",
                0,
                position + 1,
                f"{name}: {command}",
                severity=_script_severity(command, path, files),
            )
        elif name in _SOFT_SCRIPTS and (
            inline_interpreter(command) or re.search(r"\b(?:curl|wget|nc|powershell|base64)\b", command)
        ):
            out.add("install.script", 0, position + 1, f"{name}: {command}")


def _script_severity(command: str, path: str, files: Mapping[str, bytes]) -> Severity:
    """Weigh an install script: build tools ask for review, what does more is blocked."""
    stripped = command.strip()
    if _HARMLESS_SCRIPT.match(stripped):
        return Severity.LOW
    parts = [part.strip() for part in re.split(r"&&|\|\||;", stripped)]
    if re.search(
        r"\b(?:curl|wget|nc|ncat|powershell|pwsh|base64|bash|sh|zsh|perl|ruby|certutil|eval|xxd|openssl|chmod|crontab)\b|https?://|\$\(|`|\|",
        stripped,
    ):
        return Severity.HIGH
    folder = path.rsplit("/", 1)[0] + "/" if "/" in path else ""
    severity = Severity.MEDIUM
    for part in parts:
        local = _LOCAL_SCRIPT.match(part)
        if local:
            name = local.group(1).removeprefix("./")
            content = next(
                (
                    files[folder + candidate]
                    for candidate in (name, f"{name}.js", f"{name}/index.js")
                    if folder + candidate in files
                ),
                None,
            )
            if content is None:
                severity = Severity.HIGH
        elif re.match(
            r"node\s+-e\s+\"?try\s*\{\s*require\('\./postinstall'\)\s*\}\s*catch\s*\(e\)\s*\{\s*\}\"?$", part
        ):
            content = files.get(f"{folder}postinstall.js")
            if content is not None and b"child_process" in content:
                severity = Severity.HIGH
        elif inline_interpreter(part):
            severity = Severity.HIGH
    return severity


def _requirements(text: str, path: str, files: Mapping[str, bytes], out: Collector) -> Iterator[_Dependency]:
    kind = "development" if re.search(r"dev|test|doc|lint", path) else "runtime"
    for number, raw in enumerate(text.replace("\\\n", " ").split("\n"), 1):
        line = re.sub(r"(?:^|\s)#.*$", "", raw).strip()
        if not line:
            continue
        if line.startswith("-"):
            # The usual index need not be named; a look-alike of its name would pass any exemption.
            if re.match(r"(?:-i|--index-url|--extra-index-url|-f|--find-links|--trusted-host)\b", line):
                out.add("dependency.confusion", number, 1, line)
            elif re.match(r"(?:-e|--editable)\b", line):
                out.add("dependency.url", number, 1, line)
            continue
        if re.match(r"(?:git\+|https?://|file:|\.{0,2}/)", line):
            out.add("dependency.url", number, 1, line)
            continue
        yield from _requirement(line, kind)


def _requirement(line: str, kind: str) -> Iterator[_Dependency]:
    match = _REQUIREMENT.match(line.split(";", 1)[0].strip())
    if match is None:
        return
    name, _, rest = match.groups()
    rest = re.sub(r"--hash=\S+", "", rest).strip().strip("()").strip()
    if rest.startswith("@"):
        yield "PyPI", name, rest[1:].strip(), kind
    else:
        yield "PyPI", name, rest, kind


def _pyproject(text: str, path: str, files: Mapping[str, bytes], out: Collector) -> Iterator[_Dependency]:
    value = _toml(text, out)
    project = _table(value, "project")
    for line in _texts(project.get("dependencies")):
        yield from _requirement(line, "loose")
    for group in _table(project, "optional-dependencies").values():
        for line in _texts(group):
            yield from _requirement(line, "development")
    build = _table(value, "build-system")
    for line in _texts(build.get("requires")):
        yield from _requirement(line, "development")
    if build.get("backend-path"):
        out.add("install.hook", 0, 0, "build backend inside the submission", severity=Severity.MEDIUM)
    poetry = _table(_table(value, "tool"), "poetry")
    for section in ("dependencies", "dev-dependencies"):
        kind = "runtime" if section == "dependencies" else "development"
        for name, version in _table(poetry, section).items():
            if name != "python":
                yield "PyPI", name, _poetry_version(version), kind
    for source in poetry.get("source", []) if isinstance(poetry.get("source"), list) else []:
        if isinstance(source, dict) and "url" in source:
            out.add("dependency.confusion", 0, 1, str(source.get("url")))


def _poetry_version(version: object) -> str:
    if isinstance(version, str):
        return version
    if isinstance(version, dict):
        for key in ("git", "url", "path"):
            if key in version:
                return f"git+{version[key]}" if key == "git" else f"file:{version[key]}"
        return str(version.get("version", "*"))
    return "*"


def _pipfile(text: str, path: str, files: Mapping[str, bytes], out: Collector) -> Iterator[_Dependency]:
    value = _toml(text, out)
    for section, kind in (("packages", "runtime"), ("dev-packages", "development")):
        for name, version in _table(value, section).items():
            found = _poetry_version(version)
            yield "PyPI", name, "" if found == "*" else found, kind


def _configuration(text: str, path: str, files: Mapping[str, bytes], out: Collector) -> Iterator[_Dependency]:
    for number, line in enumerate(text.split("\n"), 1):
        if re.search(
            r"registry\s*[=:]|index-url|npmRegistryServer|find-links", line
        ) and not line.lstrip().startswith(("#", ";")):
            out.add("dependency.confusion", number, 1, line.strip())
        if re.search(r"_authToken\s*=\s*[\w-]{16,}|_password\s*=\s*\S{8,}|^password\s*[:=]\s*\S{8,}", line):
            out.add("secret.credential", number, 1, "registry token")
    yield from ()


def _toml(text: str, out: Collector) -> dict[str, Any]:
    try:
        return tomllib.loads(text)
    except (tomllib.TOMLDecodeError, RecursionError, ValueError):
        out.add("dependency.unreadable")
        return {}


def _table(value: Mapping[str, Any], key: str) -> dict[str, Any]:
    inner = value.get(key)
    return inner if isinstance(inner, dict) else {}


def _texts(value: object) -> list[str]:
    return [item for item in value if isinstance(item, str)] if isinstance(value, list) else []


__all__ = ["DependencyCheck", "check_dependencies", "fold_name"]
