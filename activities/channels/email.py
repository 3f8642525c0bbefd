"""Letters by SMTP, or into the local mailbox of the embedded stack (`switchyard mail`)."""

import hashlib
import html
import os
from dataclasses import dataclass
from email.message import EmailMessage
from email.utils import format_datetime
from pathlib import Path
from urllib.parse import unquote, urlsplit

import aiosmtplib

from models.errors import PlatformError, UnavailableError
from models.settings import InvalidSettingsError, Settings
from models.table import utc_now

SMTP_TIMEOUT_SECONDS = 20.0
MAILBOX = "mail"
"""Directory of the local mailbox under the data directory: one ``.eml`` file per letter."""


class MailUnavailableError(UnavailableError):
    """The mail server does not answer or asks to come back later."""

    code = "MAIL_UNAVAILABLE"

    def __init__(self, reason: BaseException) -> None:
        super().__init__(f"The mail server did not take the letter ({type(reason).__name__}); try again.")


class MailRefusedError(PlatformError):
    """The mail server refused the letter for good."""

    code = "MAIL_REFUSED"
    http_status = 502

    def __init__(self, status: int) -> None:
        super().__init__(f"The mail server refused the letter for good (SMTP status {status}).")


@dataclass(frozen=True)
class Letter:
    """One letter to one person.

    Attributes:
        key: What the letter is about, once: the same key gives the same Message-ID, by which mail
            programs recognise a letter that was sent twice, and the same file in the local mailbox.
        to: The addressee.
        subject: One line.
        paragraphs: The text; becomes a plain and an HTML part.
    """

    key: str
    to: str
    subject: str
    paragraphs: tuple[str, ...]


def compose(letter: Letter, sender: str) -> EmailMessage:
    """Make the MIME message: ``multipart/alternative`` with a plain and an HTML part."""
    message = EmailMessage()
    # A header ends at its line; what comes from a manifest may hold line breaks.
    message["Subject"] = _one_line(letter.subject)
    message["From"] = sender
    message["To"] = _one_line(letter.to)
    message["Date"] = format_datetime(utc_now())
    digest = hashlib.sha256(letter.key.encode()).hexdigest()[:32]
    message["Message-ID"] = f"<{digest}@{sender.rpartition('@')[2].strip('> ') or 'localhost'}>"
    message["Auto-Submitted"] = "auto-generated"
    message.set_content("\n\n".join(letter.paragraphs) + "\n")
    body = "".join(f"<p>{html.escape(part).replace(chr(10), '<br>')}</p>" for part in letter.paragraphs)
    message.add_alternative(f"<!doctype html><html><body>{body}</body></html>", subtype="html")
    return message


def _one_line(text: str) -> str:
    return " ".join(text.split())[:500]


def mailbox_directory(settings: Settings) -> Path:
    """Return where letters go when no SMTP server is configured."""
    return settings.data_dir / MAILBOX


class Mailer:
    """Sends letters the way the settings say."""

    def __init__(self, settings: Settings) -> None:
        """Use ``SMTP_URL``, or the local mailbox where it is empty."""
        self._settings = settings

    async def send(self, letter: Letter) -> None:
        """Hand the letter over.

        Raises:
            MailUnavailableError: The server is away, or asks to come back later.
            MailRefusedError: The server refuses for good.
            InvalidSettingsError: ``SMTP_URL`` is malformed.
        """
        message = compose(letter, self._settings.mail_from)
        address = self._settings.smtp_url.get_secret_value()
        if address:
            await self._send_by_smtp(message, address)
        else:
            self._keep(message, letter)

    async def _send_by_smtp(self, message: EmailMessage, address: str) -> None:
        parts = urlsplit(address)
        try:
            port = parts.port
        except ValueError:
            port = None
        if parts.scheme not in ("smtp", "smtps") or not parts.hostname:
            raise InvalidSettingsError({"SMTP_URL": "must be smtp[s]://user:password@host:port"})
        try:
            await aiosmtplib.send(
                message,
                hostname=parts.hostname,
                port=port or (465 if parts.scheme == "smtps" else 25),
                username=unquote(parts.username) if parts.username else None,
                password=unquote(parts.password) if parts.password else None,
                use_tls=parts.scheme == "smtps",
                timeout=SMTP_TIMEOUT_SECONDS,
            )
        except aiosmtplib.SMTPRecipientsRefused as error:
            raise _refusal(min(each.code for each in error.recipients), error) from None
        except aiosmtplib.SMTPResponseException as error:
            raise _refusal(error.code, error) from None
        except (aiosmtplib.SMTPException, OSError) as error:
            raise MailUnavailableError(error) from None

    def _keep(self, message: EmailMessage, letter: Letter) -> None:
        directory = mailbox_directory(self._settings)
        directory.mkdir(parents=True, exist_ok=True)
        name = hashlib.sha256(letter.key.encode()).hexdigest()[:32]
        temporary = directory / f".{name}.{os.getpid()}"
        temporary.write_bytes(message.as_bytes())
        temporary.replace(directory / f"{name}.eml")


def _refusal(code: int, error: BaseException) -> PlatformError:
    # RFC 5321 §4.2.1: 4yz is a passing failure, 5yz a permanent one.
    return MailRefusedError(code) if code >= 500 else MailUnavailableError(error)
