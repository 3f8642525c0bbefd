"""What every channel can do (flowgrid-level3 §6.2): send, and bring what was sent to its final form."""

from dataclasses import dataclass, field
from typing import Any, Protocol

from models.approval import NoticeKind
from models.approval_records import ApprovalRow


@dataclass(frozen=True)
class Account:
    """A tenant's access to a channel, decrypted for one use."""

    settings: dict[str, Any] = field(default_factory=dict[str, Any])
    secrets: dict[str, str] = field(default_factory=dict[str, str], repr=False)


@dataclass(frozen=True)
class Message:
    """What a person is told.

    Attributes:
        delivery_id: Names the message; the same one is never meant to arrive twice.
        kind: Why they are written to.
        approval: What it is about, as it stands.
        user_id: The recipient.
        email: Their address, if it is known.
        account: The tenant's access to the channel.
        external_user: Who they are in the channel, where that was found out before.
    """

    delivery_id: str
    kind: NoticeKind
    approval: ApprovalRow
    user_id: str
    email: str | None
    account: Account
    external_user: str | None = None


@dataclass(frozen=True)
class Receipt:
    """What the channel says of a message that it took.

    Attributes:
        address: Where it went.
        external_id: What the channel calls it.
        external_user: Who the recipient is in the channel, where that was found out now.
    """

    address: str
    external_id: str
    external_user: str | None = None


class ChannelAdapter(Protocol):
    """One way to reach people."""

    async def send(self, message: Message) -> Receipt:
        """Send a message.

        Raises:
            ChannelUnavailableError: Not now; it says when, where it knows.
            ChannelRefusedError: Never: another channel takes its place.
        """
        ...

    async def finish(self, message: Message, external_id: str) -> None:
        """Bring a message to its final form: what was decided, by whom, and no buttons.

        Raises:
            ChannelUnavailableError: Not now.
            ChannelRefusedError: Never; the message stays as it is.
        """
        ...
