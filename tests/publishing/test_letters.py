"""Letters by SMTP and into the local mailbox."""

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from activities.channels.email import (
    Letter,
    Mailer,
    MailRefusedError,
    MailUnavailableError,
    compose,
    mailbox_directory,
)
from cli.mail import read_mailbox
from models.settings import InvalidSettingsError, Settings

LETTER = Letter(
    key="ver_1:rejected",
    to="dora@example.com",
    subject="Agent\r\nBcc: everybody@example.com",
    paragraphs=("Hello <Dora>,", "line one\nline two"),
)


@asynccontextmanager
async def smtp_server(answer: Callable[[str], str]) -> AsyncGenerator[tuple[int, list[str]]]:
    """An SMTP server on a free port; ``answer`` gives the reply to each command."""
    received: list[str] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"220 test ESMTP\r\n")
        in_data = False
        while line := (await reader.readline()).decode().rstrip("\r\n") if not reader.at_eof() else "":
            if in_data:
                received.append(line)
                if line != ".":
                    continue
                in_data = False
                writer.write(b"250 kept\r\n")
                continue
            writer.write(f"{answer(line)}\r\n".encode())
            in_data = line.upper() == "DATA"
            if line.upper() == "QUIT":
                break
        writer.close()

    async def lines(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        # An empty line inside DATA must not end the loop above: it is sent on with a mark.
        await serve(_Marking(reader), writer)  # pyright: ignore[reportArgumentType]

    server = await asyncio.start_server(lines, "127.0.0.1", 0)
    async with server:
        yield server.sockets[0].getsockname()[1], received


class _Marking:
    def __init__(self, reader: asyncio.StreamReader) -> None:
        self._reader = reader

    def at_eof(self) -> bool:
        return self._reader.at_eof()

    async def readline(self) -> bytes:
        line = await self._reader.readline()
        return b" \r\n" if line == b"\r\n" else line


def polite(line: str) -> str:
    replies = {"EHLO": "250 test", "DATA": "354 go on", "QUIT": "221 bye"}
    return replies.get(line.split(" ")[0].upper(), "250 ok")


def mailer(port: int, data_dir: Path) -> Mailer:
    return Mailer(
        Settings.model_validate(
            {"smtp_url": f"smtp://127.0.0.1:{port}", "SWITCHYARD_DATA_DIR": str(data_dir)}
        )
    )


def test_a_letter_has_a_plain_and_an_html_part_and_headers_of_one_line() -> None:
    message = compose(LETTER, "switchyard@example.com")
    assert message.get_content_type() == "multipart/alternative"
    assert message["Subject"] == "Agent Bcc: everybody@example.com"
    assert message["Bcc"] is None
    html = message.get_body(("html",))
    assert html is not None
    assert "Hello &lt;Dora&gt;," in html.get_content()
    assert "line one<br>line two" in html.get_content()
    assert message["Message-ID"] == compose(LETTER, "switchyard@example.com")["Message-ID"]


async def test_a_letter_is_handed_to_the_mail_server(tmp_path: Path) -> None:
    async with smtp_server(polite) as (port, received):
        await mailer(port, tmp_path).send(LETTER)
    assert "To: dora@example.com" in received
    assert not mailbox_directory(Settings.model_validate({"SWITCHYARD_DATA_DIR": str(tmp_path)})).exists()


@pytest.mark.parametrize(("status", "error"), [(451, MailUnavailableError), (550, MailRefusedError)])
async def test_a_passing_refusal_is_retried_and_a_final_one_is_not(
    tmp_path: Path, status: int, error: type[Exception]
) -> None:
    def refusing(line: str) -> str:
        return f"{status} no" if line.upper().startswith("RCPT") else polite(line)

    async with smtp_server(refusing) as (port, _):
        with pytest.raises(error) as refused:
            await mailer(port, tmp_path).send(LETTER)
    assert refused.value.retryable is (error is MailUnavailableError)  # pyright: ignore[reportAttributeAccessIssue]


async def test_a_mail_server_that_is_away_is_tried_again(tmp_path: Path) -> None:
    async with smtp_server(polite) as (port, _):
        pass
    with pytest.raises(MailUnavailableError):
        await mailer(port, tmp_path).send(LETTER)


async def test_a_malformed_address_of_the_server_names_the_setting(tmp_path: Path) -> None:
    settings = Settings.model_validate({"smtp_url": "http://x", "SWITCHYARD_DATA_DIR": str(tmp_path)})
    with pytest.raises(InvalidSettingsError, match="SMTP_URL"):
        await Mailer(settings).send(LETTER)


async def test_the_local_mailbox_keeps_each_letter_once(tmp_path: Path) -> None:
    settings = Settings.model_validate({"SWITCHYARD_DATA_DIR": str(tmp_path)})
    for _ in range(2):
        await Mailer(settings).send(LETTER)
    (letter,) = read_mailbox(tmp_path)
    assert (letter["number"], letter["to"]) == (1, "dora@example.com")
    assert "line one" in letter["text"]
