"""Popular, malicious and deprecated package names, and how close two names are."""

import json
import re
import unicodedata
from collections.abc import Iterable
from functools import cache
from pathlib import Path

_DATA = Path(__file__).parent / "data"
_LISTS = {"npm": "popular_npm.txt", "PyPI": "popular_pypi.txt"}
_TARGETS = 2_000
_HOMOGLYPHS = str.maketrans(
    {
        "0": "o",
        "1": "l",
        "3": "e",
        "5": "s",
        "а": "a",  # noqa: RUF001
        "е": "e",  # noqa: RUF001
        "о": "o",  # noqa: RUF001
        "р": "p",  # noqa: RUF001
        "с": "c",  # noqa: RUF001
        "х": "x",  # noqa: RUF001
        "і": "i",  # noqa: RUF001
        "ѕ": "s",  # noqa: RUF001
        "у": "y",  # noqa: RUF001
    }
)
_MIN_FUZZY = 4


def fold_name(name: str) -> str:
    """Return a name without case, separators and look-alike characters."""
    folded = unicodedata.normalize("NFKC", name).casefold()
    return re.sub(r"[-_.\s]", "", folded)


@cache
def _popular(ecosystem: str) -> tuple[frozenset[str], tuple[str, ...]]:
    lines = (_DATA / _LISTS[ecosystem]).read_text("utf-8").splitlines()
    names = [line.strip() for line in lines if line.strip() and not line.startswith("#")]
    return frozenset(fold_name(name) for name in names), tuple(names[:_TARGETS])


@cache
def _targets(ecosystem: str) -> dict[int, list[tuple[str, str]]]:
    """Popular names by folded length."""
    by_length: dict[int, list[tuple[str, str]]] = {}
    for name in _popular(ecosystem)[1]:
        bare = name.rsplit("/", 1)[-1] if name.startswith("@") else name
        if name.startswith("@"):
            continue
        folded = fold_name(bare)
        by_length.setdefault(len(folded), []).append((folded, name))
    return by_length


def similar_popular_name(ecosystem: str, name: str) -> str | None:
    """Return the popular package that ``name`` imitates, or None. Popular names imitate nothing.

    Damerau-Levenshtein distance 1, or 2 for names longer than 7 characters, after folding.
    """
    popular, _ = _popular(ecosystem)
    folded = fold_name(name)
    if name.startswith("@") or folded in popular:
        return None
    looks = folded.translate(_HOMOGLYPHS)
    if looks != folded and looks in popular:
        return looks
    for affix in ("python", "py", "node", "js", "lib"):
        pass_through = folded.removeprefix(affix) if folded.startswith(affix) else folded.removesuffix(affix)
        if pass_through != folded and pass_through in _top_names(ecosystem):
            return pass_through
    if len(looks) < _MIN_FUZZY:
        return None
    reach = 2 if len(looks) > 7 else 1
    targets = _targets(ecosystem)
    best: str | None = None
    for length in range(len(looks) - reach, len(looks) + reach + 1):
        for candidate, shown in targets.get(length, ()):
            if len(candidate) < _MIN_FUZZY:
                continue
            allowed = reach if len(candidate) > 7 else 1
            distance = damerau_levenshtein(looks, candidate, allowed)
            if distance > allowed:
                continue
            if distance == 1:
                return shown
            if distance == 2 and looks[:2] == candidate[:2]:
                best = best or shown
    return best


@cache
def _top_names(ecosystem: str) -> frozenset[str]:
    return frozenset(fold_name(name) for name in _popular(ecosystem)[1][:300] if not name.startswith("@"))


def damerau_levenshtein(first: str, second: str, limit: int) -> int:
    """Return the optimal-string-alignment distance, or ``limit + 1`` when it is larger than ``limit``."""
    if abs(len(first) - len(second)) > limit:
        return limit + 1
    before: list[int] = []
    previous = list(range(len(second) + 1))
    for row, left in enumerate(first, 1):
        current = [row]
        for column, right in enumerate(second, 1):
            cost = min(previous[column] + 1, current[-1] + 1, previous[column - 1] + (left != right))
            if row > 1 and column > 1 and left == second[column - 2] and first[row - 2] == right:
                cost = min(cost, before[column - 2] + 1)
            current.append(cost)
        if min(current) > limit:
            return limit + 1
        before, previous = previous, current
    return min(previous[-1], limit + 1)


@cache
def _table(file: str) -> dict[str, dict[str, list[str] | str]]:
    return json.loads((_DATA / file).read_text("utf-8"))


def known_malicious(ecosystem: str, name: str, version: str) -> bool:
    """Whether ``name`` (in a version that ``version`` can mean) is on the list of malicious packages."""
    entries = _table("malicious.json").get(ecosystem, {})
    versions = (
        entries.get(name)
        or entries.get(name.lower())
        or (entries.get(re.sub(r"[-_.]+", "-", name.lower())) if ecosystem == "PyPI" else None)
    )
    if versions is None:
        return False
    return "*" in versions or _may_mean(version, versions)


def _may_mean(version: str, versions: Iterable[str]) -> bool:
    """Whether ``version`` names a listed version exactly; a range resolves to what the registry still serves."""  # noqa: E501
    exact = re.sub(r"^[\s=v]+", "", version)
    return exact in set(versions)


def deprecated(ecosystem: str, name: str) -> str | None:
    """Return what to use instead of a deprecated package, or None."""
    successor = _table("deprecated.json").get(ecosystem, {}).get(name.lower())
    return successor if isinstance(successor, str) else None
