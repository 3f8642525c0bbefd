"""Links in e-mails: sealed tokens, which only we can make and read (research §2.3).

A link proves that somebody has the e-mail, not who they are; what they decide is recorded as coming by e-mail
in the name of its recipient. Opening a link changes nothing: mail scanners open every link there is.
"""

import base64
import binascii
import hashlib
import json
from dataclasses import asdict, dataclass
from datetime import timedelta
from typing import Any

from activities.temporal.codec import DecryptionError, KeyRing
from models.channel import InvalidLinkError
from models.table import utc_now

VALID_FOR = timedelta(days=30)
_PURPOSE = b"approval-link"
_NONCE = b"approval-link-nonce"


@dataclass(frozen=True)
class Link:
    """What a token says.

    Attributes:
        payload_hash: Of what the e-mail showed.
        expires: Unix time in seconds.
    """

    tenant_id: str
    approval_id: str
    recipient: str
    email: str
    delivery_id: str
    payload_hash: str
    expires: int


def seal(ring: KeyRing, link: Link) -> str:
    """Make a link's token."""
    return _encode(ring, json.dumps(asdict(link)).encode(), _PURPOSE)


def new_link(tenant_id: str, approval_id: str, recipient: str, email: str, delivery: str, seen: str) -> Link:
    """Make a link that holds for a month."""
    expires = int((utc_now() + VALID_FOR).timestamp())
    return Link(tenant_id, approval_id, recipient, email, delivery, seen, expires)


def unseal(ring: KeyRing, token: str) -> Link:
    """Read a token.

    Raises:
        InvalidLinkError: It is not ours, was changed, or is too old.
    """
    fields: Any = json.loads(_decode(ring, token, _PURPOSE))
    link = Link(**fields)
    if link.expires < utc_now().timestamp():
        raise InvalidLinkError
    return link


def page_nonce(ring: KeyRing, token: str) -> str:
    """Make what a page's form must send along: proof that the page was read before."""
    return _encode(ring, hashlib.sha256(token.encode()).digest(), _NONCE)


def check_nonce(ring: KeyRing, token: str, nonce: str) -> None:
    """Check a form's proof.

    Raises:
        InvalidLinkError: It is not this page's.
    """
    if _decode(ring, nonce, _NONCE) != hashlib.sha256(token.encode()).digest():
        raise InvalidLinkError


def _encode(ring: KeyRing, plain: bytes, purpose: bytes) -> str:
    sealed = ring.encrypt(plain, purpose)
    key_id = ring.current_id.encode()
    return base64.urlsafe_b64encode(len(key_id).to_bytes(1) + key_id + sealed).rstrip(b"=").decode()


def _decode(ring: KeyRing, token: str, purpose: bytes) -> bytes:
    try:
        raw = base64.b64decode(token + "=" * (-len(token) % 4), altchars=b"-_", validate=True)
        size = raw[0]
        return ring.decrypt(raw[1 : 1 + size].decode(), raw[1 + size :], purpose)
    except (binascii.Error, ValueError, IndexError, DecryptionError):
        raise InvalidLinkError from None
