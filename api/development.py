"""What only the embedded stack may do: answer without credentials to whoever sits at this machine."""

import ipaddress

from starlette.requests import HTTPConnection

from api.state import Services

_LOOPBACK_NAMES = frozenset({"localhost", "127.0.0.1", "[::1]"})


def is_local_development(connection: HTTPConnection, services: Services) -> bool:
    """Tell whether this is the embedded stack talking to somebody on the same machine.

    All of these hold: tokens are issued by ourselves (``JWT_SIGNING_KEY_FILE`` set, ``JWT_JWKS_URL`` not);
    the API listens on loopback; the peer is on loopback; no proxy forwarded the request; and it was
    addressed to loopback by name, so that a web page whose host name was rebound to 127.0.0.1 gets nothing.
    """
    settings = services.settings
    if services.issuer_key is None or settings.jwt_jwks_url or not _is_loopback(settings.api_host):
        return False
    if connection.client is None or not _is_loopback(connection.client.host):
        return False
    if any(name in connection.headers for name in ("forwarded", "x-forwarded-for", "x-real-ip")):
        return False
    host = connection.headers.get("host", "")
    name, separator, port = host.rpartition(":")
    return (name if separator and port.isdecimal() else host).lower() in _LOOPBACK_NAMES


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
