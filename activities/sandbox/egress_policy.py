"""What an agent may reach: declared hosts at public addresses, nothing else."""

import asyncio
import ipaddress
import socket
import ssl
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field

from models.manifest import NetworkHost
from models.sandbox import MEBIBYTE, EgressDecision

EGRESS_HOST = "egress"
NAT64 = ipaddress.ip_network("64:ff9b::/96")

Resolver = Callable[[str, int], Awaitable[Sequence[str]]]


async def resolve_host(host: str, port: int) -> Sequence[str]:
    """Addresses of a host by the system's resolver.

    Raises:
        OSError: It has none.
    """
    loop = asyncio.get_running_loop()
    found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return [str(entry[4][0]) for entry in found]


@dataclass(frozen=True, slots=True)
class EgressSettings:
    """Settings of the egress broker.

    Attributes:
        permitted_addresses: Addresses that are let through although they are not public. For tests and for
            named internal services; empty by default.
        tls: Trust for connections that the broker originates; the system's when None.
        resolve: Name resolution.
        max_bytes: Bytes both ways per host and execution where the manifest names none.
        max_connections: Connections at once per execution.
        max_decisions: Connections and requests per execution, and length of the decision list.
        connect_seconds: For resolving, connecting and the TLS handshake.
    """

    permitted_addresses: frozenset[str] = frozenset()
    tls: ssl.SSLContext | None = None
    resolve: Resolver = field(default=resolve_host)
    max_bytes: int = 10 * MEBIBYTE
    max_connections: int = 16
    max_decisions: int = 256
    connect_seconds: float = 10.0


class EgressRefusedError(Exception):
    """A connection or request breaks a rule; the text is the reason that is recorded and answered."""


def is_public(address: str) -> bool:
    """Whether an address is a public unicast one, also when an IPv4 address hides inside an IPv6 one."""
    # A scope ("%eth0") only exists on link-local addresses.
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return False
    if isinstance(parsed, ipaddress.IPv6Address):
        teredo = parsed.teredo
        inner = parsed.ipv4_mapped or parsed.sixtofour or (teredo[1] if teredo else None)
        if inner is None and parsed in NAT64:
            inner = ipaddress.IPv4Address(int(parsed) & 0xFFFFFFFF)
        if inner is None and int(parsed) >> 32 == 0:
            return False
        if inner is not None:
            return is_public(str(inner))
    return (
        parsed.is_global and not parsed.is_multicast and not parsed.is_reserved and not parsed.is_unspecified
    )


async def pin_address(host: str, port: int, settings: EgressSettings) -> str:
    """Resolve once and choose the address the connection will use.

    Raises:
        EgressRefusedError: The name has no address, or none that may be reached.
    """
    try:
        async with asyncio.timeout(settings.connect_seconds):
            addresses = await settings.resolve(host, port)
    except (OSError, UnicodeError):
        raise EgressRefusedError("the host cannot be resolved") from None
    for address in addresses:
        if is_public(address) or address in settings.permitted_addresses:
            return address
    raise EgressRefusedError("the host resolves to no public address")


class EgressLedger:
    """Rules, counters and decisions of one execution."""

    def __init__(self, network: Sequence[NetworkHost], settings: EgressSettings) -> None:
        self._network = network
        self._settings = settings
        self._bytes = [0] * len(network)
        self.decisions: list[EgressDecision] = []
        self.refused = 0
        self._asked = 0

    def rule_for(self, host: str, port: int, method: str | None) -> NetworkHost:
        """The declaration that covers a destination; ``method`` None for a tunnel.

        Raises:
            EgressRefusedError: None covers it.
        """
        name = host.lower().rstrip(".")
        named = [rule for rule in self._network if rule.host == name]
        if not named:
            raise EgressRefusedError("the host is not declared in the manifest")
        ported = [rule for rule in named if rule.port == port]
        if not ported:
            raise EgressRefusedError("the port is not declared in the manifest")
        for rule in ported:
            if rule.methods is None or (
                method is not None and method in {each.value for each in rule.methods}
            ):
                return rule
        if method is None:
            raise EgressRefusedError(
                "the manifest restricts this host's methods, which cannot be seen inside a tunnel; use "
                f"http://{EGRESS_HOST}/{ported[0].alias or ported[0].host}/"
            )
        raise EgressRefusedError("the method is not declared in the manifest")

    def rule_named(self, alias: str, method: str) -> NetworkHost:
        """The declaration with an alias (its host when it has none).

        Raises:
            EgressRefusedError: There is none, or it forbids the method.
        """
        for rule in self._network:
            if (rule.alias or rule.host) == alias.lower():
                if rule.methods is not None and method not in {each.value for each in rule.methods}:
                    raise EgressRefusedError("the method is not declared in the manifest")
                return rule
        raise EgressRefusedError("no declared host has this alias")

    def count(self, rule: NetworkHost, size: int) -> None:
        """Add bytes of either direction to a host's account.

        Raises:
            EgressRefusedError: The cap is passed.
        """
        index = self._network.index(rule)
        self._bytes[index] += size
        if self._bytes[index] > (rule.max_bytes or self._settings.max_bytes):
            raise EgressRefusedError("the host's byte limit is used up")

    def record(self, decision: EgressDecision) -> None:
        """Add to the list, which is capped; refusals are counted without end."""
        self._asked += 1
        self.refused += not decision.allowed
        if len(self.decisions) < self._settings.max_decisions:
            self.decisions.append(decision)

    def check_open(self) -> None:
        """Refuse once the execution has made as many connections as it may, so that each is on record.

        Raises:
            EgressRefusedError: It has.
        """
        if self._asked >= self._settings.max_decisions:
            raise EgressRefusedError("the execution has used up its connections")

    def withdraw(self, decision: EgressDecision, reason: str) -> None:
        """Turn an allowed decision into a refusal, when a limit is met later."""
        if decision.allowed:
            self.refused += 1
            decision.allowed = False
            decision.reason = reason
