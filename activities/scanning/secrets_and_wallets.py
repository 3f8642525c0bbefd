"""Secrets, and cryptocurrency addresses whose checksum holds.

A pattern alone also matches hashes and random text; base58check, bech32(m) and EIP-55 do not.
"""

import hashlib
import re
from collections.abc import Callable, Set

from activities.scanning.findings import Collector
from activities.scanning.keccak import keccak_256
from activities.scanning.marks import groups_in
from activities.scanning.text_checks import (
    EXFILTRATION_MARKS,
    METADATA_MARKS,
    PATH_MARKS,
    exfiltration_address,
    metadata_address,
    sensitive_path,
)
from models.scanning import Severity

_SECRETS: tuple[tuple[str, tuple[str, ...], re.Pattern[str]], ...] = (
    ("AWS access key", ("AKIA", "ASIA"), re.compile(r"\b(?:AKIA|ASIA)[A-Z2-7]{16}\b")),
    (
        "private key",
        ("PRIVATE KEY",),
        re.compile(
            r"-----BEGIN (?:RSA |EC |OPENSSH |DSA |PGP |ENCRYPTED )?PRIVATE KEY(?: BLOCK)?-----\s+[A-Za-z0-9+/=\s]{200,}"  # noqa: E501
        ),
    ),
    (
        "GitHub token",
        ("ghp_", "gho_", "ghu_", "ghs_", "ghr_", "github_pat_"),
        re.compile(r"\b(?:gh[pousr]_[A-Za-z0-9]{36,}|github_pat_[A-Za-z0-9_]{60,})\b"),
    ),
    ("Slack token", ("xox",), re.compile(r"\bxox[abprs]-\d{8,}-\d{8,}-[A-Za-z0-9-]{20,}\b")),
    ("Stripe key", ("_live_",), re.compile(r"\b(?:sk|rk)_live_[A-Za-z0-9]{20,}\b")),
    ("Google key", ("AIza",), re.compile(r"\bAIza[0-9A-Za-z_-]{35}\b")),
    ("npm token", ("npm_",), re.compile(r"\bnpm_[A-Za-z0-9]{36}\b")),
    ("PyPI token", ("pypi-",), re.compile(r"\bpypi-AgEIcHlwaS5vcmc[A-Za-z0-9_-]{50,}")),
    ("OpenAI key", ("T3BlbkFJ",), re.compile(r"\bsk-(?:proj-)?[A-Za-z0-9]{20,}T3BlbkFJ[A-Za-z0-9]{20,}\b")),
    ("Anthropic key", ("sk-ant",), re.compile(r"\bsk-ant-(?:api|admin)\d{2}-[A-Za-z0-9_-]{80,}")),
    ("SendGrid key", ("SG.",), re.compile(r"\bSG\.[A-Za-z0-9_-]{22}\.[A-Za-z0-9_-]{43}\b")),
    ("Telegram bot token", (":AA",), re.compile(r"\b\d{8,10}:AA[A-Za-z0-9_-]{33}\b")),
    (
        "JSON web token",
        ("eyJ",),
        re.compile(r"\beyJ[A-Za-z0-9_-]{15,}\.eyJ[A-Za-z0-9_-]{30,}\.[A-Za-z0-9_-]{40,}\b"),
    ),
    (
        "URL with password",
        ("://",),
        re.compile(
            r"\b(?:postgres(?:ql)?|mysql|mongodb(?:\+srv)?|redis|amqp)://[^\s:/@\"'<>{}$]{2,40}:[^\s:/@\"'<>{}$]{6,60}@[\w.-]+\.[a-z]{2,}"
        ),
    ),
)
_SECRET = "secret"
_MARKS: dict[str, tuple[str, ...]] = {
    _SECRET: tuple(sorted({mark for _, marks, _ in _SECRETS for mark in marks})),
    "path": PATH_MARKS,
    "exfiltration": EXFILTRATION_MARKS,
    "metadata": METADATA_MARKS,
}
_FINDERS: tuple[tuple[str, str, Callable[[str], str | None]], ...] = (
    ("path", "path.sensitive", sensitive_path),
    ("exfiltration", "address.suspicious", exfiltration_address),
    ("metadata", "address.metadata", metadata_address),
)
_EXAMPLE = re.compile(
    r"EXAMPLE|example|xxxx|XXXX|0000000|1234567890|test|dummy|user:pass|password|changeme", re.IGNORECASE
)
_BASE58 = re.compile(
    r"(?:[13LDX][1-9A-HJ-NP-Za-km-z]{25,34}|[TL][1-9A-HJ-NP-Za-km-z]{33}|xprv[1-9A-HJ-NP-Za-km-z]{100,112}|[5KL][1-9A-HJ-NP-Za-km-z]{50,51})"
)
_BECH32 = re.compile(r"(?:bc|tb|ltc)1[02-9ac-hj-np-z]{38,87}")
_ETHEREUM = re.compile(r"0x[0-9a-fA-F]{40}")
_MONERO = re.compile(r"[48][0-9AB][1-9A-HJ-NP-Za-km-z]{93}")
_ALPHABET = "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz"
_BECH32_ALPHABET = "qpzry9x8gf2tvdw0s3jn54khce6mua7l"
_MAX_ADDRESSES = 5
_MAX_FOUND = 20
_SHORTEST, _LONGEST = 26, 112


def scan_secrets(text: str, language: str, words: Set[str], out: Collector) -> None:
    """Report secrets, wallet addresses, sensitive paths and telling addresses of one text."""
    present = groups_in(text, _MARKS)
    for name, marks, pattern in _SECRETS if _SECRET in present else ():
        if not any(mark in text for mark in marks):
            continue
        match = pattern.search(text)
        if match and not _EXAMPLE.search(match.group(0)[:200]):
            out.add("secret.credential", text.count("\n", 0, match.start()) + 1, 0, name)
    found = 0
    for kind, address, position in wallet_addresses(text, words):
        out.add(
            "wallet.address",
            text.count("\n", 0, position) + 1,
            0,
            kind,
            decoded=address,
            severity=None if language != "text" else Severity.LOW,
        )
        found += 1  # noqa: SIM113
        if found >= _MAX_ADDRESSES:
            break
    if language == "text":
        return
    for group, rule, finder in _FINDERS:
        value = finder(text) if group in present else None
        if value is not None:
            out.add(rule, text.count("\n", 0, max(0, text.find(value))) + 1, 0, value)


def wallet_addresses(text: str, words: Set[str]) -> list[tuple[str, str, int]]:
    """Return kind, address and position of (at most 20) ``words`` that are addresses by their checksum."""
    found: list[tuple[str, str, int]] = []
    for address in sorted(word for word in words if _SHORTEST <= len(word) <= _LONGEST and word.isalnum()):
        for kind, pattern, holds in _ADDRESSES:
            if pattern.fullmatch(address) and holds(address):
                found.append((kind, address, text.find(address)))
        if len(found) > _MAX_FOUND:
            break
    return found[:20]


def is_base58check(address: str) -> bool:
    """Whether the last four bytes are the double SHA-256 of the others."""
    number = 0
    for character in address:
        number = number * 58 + _ALPHABET.index(character)
    leading = len(address) - len(address.lstrip("1"))
    raw = b"\0" * leading + number.to_bytes((number.bit_length() + 7) // 8, "big")
    if len(raw) < 9:
        return False
    return hashlib.sha256(hashlib.sha256(raw[:-4]).digest()).digest()[:4] == raw[-4:]


def is_bech32(address: str) -> bool:
    """Whether the BIP 173 or BIP 350 checksum holds."""
    prefix, _, data = address.rpartition("1")
    values = (
        [ord(character) >> 5 for character in prefix] + [0] + [ord(character) & 31 for character in prefix]
    )
    values += [_BECH32_ALPHABET.index(character) for character in data]
    checksum = 1
    for value in values:
        top = checksum >> 25
        checksum = (checksum & 0x1FFFFFF) << 5 ^ value
        for position, generator in enumerate((0x3B6A57B2, 0x26508E6D, 0x1EA119FA, 0x3D4233DD, 0x2A1462B3)):
            checksum ^= generator if top >> position & 1 else 0
    return checksum in (1, 0x2BC830A3)


def is_eip55(address: str) -> bool:
    """Whether the capitalisation is the EIP-55 checksum; one-case addresses carry none."""
    digits = address[2:]
    if digits in (digits.lower(), digits.upper()):
        return False
    digest = keccak_256(digits.lower().encode()).hex()
    return all(
        not character.isalpha() or character.isupper() == (int(nibble, 16) >= 8)
        for character, nibble in zip(digits, digest, strict=False)
    )


def is_monero(address: str) -> bool:
    """Whether the Keccak checksum of a Monero address (blocks of 11 base58 characters) holds."""
    raw = b""
    for start in range(0, 95, 11):
        block = address[start : start + 11]
        number = 0
        for character in block:
            number = number * 58 + _ALPHABET.index(character)
        size = 8 if len(block) == 11 else 5
        if number >= 1 << (8 * size):
            return False
        raw += number.to_bytes(size, "big")
    return keccak_256(raw[:-4])[:4] == raw[-4:]


_ADDRESSES: tuple[tuple[str, re.Pattern[str], Callable[[str], bool]], ...] = (
    ("base58check", _BASE58, is_base58check),
    ("bech32", _BECH32, is_bech32),
    ("EIP-55", _ETHEREUM, is_eip55),
    ("Monero", _MONERO, is_monero),
)
