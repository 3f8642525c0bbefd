"""Which destinations an agent may reach."""

import ipaddress
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from activities.sandbox.egress_policy import (
    EgressLedger,
    EgressRefusedError,
    EgressSettings,
    is_public,
    pin_address,
)
from models.manifest import HttpMethod, NetworkHost
from models.sandbox import EgressDecision

PRIVATE = [
    "10.0.0.1", "172.16.0.1", "192.168.1.1", "127.0.0.1", "127.8.8.8", "0.0.0.0", "169.254.169.254",
    "100.64.0.1", "224.0.0.1", "239.1.1.1", "255.255.255.255", "240.0.0.1", "192.0.2.1", "198.18.0.1",
    "::", "::1", "fe80::1", "fe80::1%eth0", "fc00::1", "fd12::1", "ff02::1", "::ffff:10.0.0.1",
    "::ffff:169.254.169.254", "::10.0.0.1", "2002:0a00:0001::1", "64:ff9b::a00:1", "64:ff9b::7f00:1",
    "2001:db8::1", "not an address", "",
]  # fmt: skip


@pytest.mark.parametrize("address", PRIVATE)
def test_addresses_that_are_not_public_are_refused(address: str) -> None:
    assert not is_public(address)


@pytest.mark.parametrize(
    "address", ["1.1.1.1", "8.8.8.8", "2606:4700::1111", "::ffff:1.1.1.1", "64:ff9b::101:101"]
)
def test_public_addresses_are_reachable(address: str) -> None:
    assert is_public(address)


@given(st.integers(0, 2**32 - 1))
def test_an_address_hidden_in_an_ipv6_one_is_judged_by_itself(number: int) -> None:
    plain = str(ipaddress.IPv4Address(number))
    for hidden in (f"::ffff:{plain}", str(ipaddress.IPv6Address((0x64FF9B << 96) | number))):
        assert is_public(hidden) == is_public(plain)


def resolver(*addresses: str) -> EgressSettings:
    async def resolve(_host: str, _port: int) -> Sequence[str]:
        return addresses

    return EgressSettings(resolve=resolve)


async def test_a_name_that_leads_inside_is_refused_and_a_public_address_is_pinned() -> None:
    with pytest.raises(EgressRefusedError, match="no public address"):
        await pin_address("rebound.example.com", 443, resolver("169.254.169.254", "10.0.0.1"))
    assert await pin_address("mixed.example.com", 443, resolver("127.0.0.1", "1.1.1.1")) == "1.1.1.1"


async def test_a_name_without_an_address_is_refused() -> None:
    async def resolve(_host: str, _port: int) -> Sequence[str]:
        raise OSError("no such name")

    with pytest.raises(EgressRefusedError, match="cannot be resolved"):
        await pin_address("gone.example.com", 443, EgressSettings(resolve=resolve))


def test_only_what_is_declared_is_allowed() -> None:
    open_host = NetworkHost(host="api.example.com")
    read_only = NetworkHost(host="files.example.com", port=80, methods=[HttpMethod.GET], alias="files")
    ledger = EgressLedger([open_host, read_only], EgressSettings())
    assert ledger.rule_for("API.example.com.", 443, None) is open_host
    assert ledger.rule_for("files.example.com", 80, "GET") is read_only
    assert ledger.rule_named("files", "GET") is read_only
    for host, port, method, why in [
        ("example.com", 443, None, "host is not declared"),
        ("evil-api.example.com", 443, None, "host is not declared"),
        ("1.1.1.1", 443, None, "host is not declared"),
        ("api.example.com", 80, None, "port is not declared"),
        ("files.example.com", 80, "DELETE", "method is not declared"),
        ("files.example.com", 80, None, "restricts this host's methods"),
    ]:
        with pytest.raises(EgressRefusedError, match=why):
            ledger.rule_for(host, port, method)
    with pytest.raises(EgressRefusedError, match="no declared host"):
        ledger.rule_named("other", "GET")


def test_bytes_and_decisions_are_counted_and_capped() -> None:
    rule = NetworkHost(host="api.example.com", max_bytes=100)
    ledger = EgressLedger([rule], EgressSettings(max_decisions=2))
    ledger.count(rule, 100)
    with pytest.raises(EgressRefusedError, match="byte limit"):
        ledger.count(rule, 1)
    for _ in range(3):
        ledger.record(EgressDecision(host="x", port=1, method="GET", allowed=False, reason="no"))
    assert (len(ledger.decisions), ledger.refused) == (2, 3)
    with pytest.raises(EgressRefusedError, match="connections"):
        ledger.check_open()
