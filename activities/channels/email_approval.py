"""Approvals by e-mail: what is asked, and a link to decide."""

from activities.channels.email import Letter, Mailer, MailRefusedError, MailUnavailableError
from activities.channels.links import new_link, seal
from activities.channels.protocol import Message, Receipt
from activities.channels.slack_blocks import ending
from activities.temporal.codec import KeyRing
from models.approval import NoticeKind
from models.channel import ChannelRefusedError, ChannelUnavailableError

_SUBJECTS = {
    NoticeKind.APPROVAL: "Approval needed",
    NoticeKind.REMINDER: "Reminder",
    NoticeKind.ESCALATION: "Escalated to you",
    NoticeKind.BREACH: "Overdue",
    NoticeKind.QUESTION: "Question",
}
MAX_FACTS = 30


class EmailAdapter:
    """Writes letters; a letter cannot be changed afterwards, its page can."""

    def __init__(self, mailer: Mailer, ring: KeyRing, public_url: str) -> None:
        """Send by ``mailer``; links are sealed with ``ring`` and lead below ``public_url``."""
        self._mailer, self._ring = mailer, ring
        self._public_url = public_url.rstrip("/")

    async def send(self, message: Message) -> Receipt:
        """Write a letter.

        Raises:
            ChannelUnavailableError: The mail server is away.
            ChannelRefusedError: There is no address, or the server refuses it.
        """
        if message.email is None:
            raise ChannelRefusedError("email", "the person's address is not known")
        row = message.approval
        link = new_link(
            row.tenant_id, row.id, message.user_id, message.email, message.delivery_id, row.payload_hash
        )
        facts = list({**row.context, **row.payload}.items())[:MAX_FACTS]
        due = () if row.due_at is None else (f"Due: {row.due_at:%Y-%m-%d %H:%M} UTC",)
        letter = Letter(
            key=message.delivery_id,
            to=message.email,
            subject=f"{_SUBJECTS[message.kind]}: {row.title}",
            paragraphs=(
                row.title,
                *((row.description,) if row.description else ()),
                *(("\n".join(f"{name}: {str(value)[:500]}" for name, value in facts),) if facts else ()),
                *due,
                f"Read and decide:\n{self._public_url}/approvals/links/{seal(self._ring, link)}",
                "This link is yours. Do not pass the e-mail on.",
            ),
        )
        try:
            await self._mailer.send(letter)
        except MailUnavailableError as error:
            raise ChannelUnavailableError("email", error.message) from None
        except MailRefusedError as error:
            raise ChannelRefusedError("email", error.message) from None
        return Receipt(address=message.email, external_id=message.delivery_id)

    async def finish(self, message: Message, external_id: str) -> None:
        """Do nothing: the page behind the link says how it ended.

        Raises:
            ChannelRefusedError: Always; letters are never asked to be finished.
        """
        raise ChannelRefusedError("email", f"{external_id} cannot be changed: {ending(message.approval)}")
