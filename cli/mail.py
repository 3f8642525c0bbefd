"""``switchyard mail``: the local mailbox of the embedded stack."""

import email
import email.policy
from email.message import EmailMessage
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Annotated, Any

import typer

from cli.output import JsonOption, clean, print_json, print_table
from models.errors import NotFoundError

_COLUMNS = {"number": "NO", "date": "DATE", "to": "TO", "subject": "SUBJECT"}


class LetterNotFoundError(NotFoundError):
    """The mailbox has no letter of that number."""

    code = "LETTER_NOT_FOUND"

    def __init__(self, number: int, count: int) -> None:
        super().__init__(f"There is no letter {number}; the mailbox has {count}. See `switchyard mail`.")


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command(rich_help_panel="Stack")(mail)


def mail(
    number: Annotated[
        int | None, typer.Argument(help="Show this letter; without it, list them, oldest first.")
    ] = None,
    to: Annotated[str | None, typer.Option(help="Only letters to this address.")] = None,
    data_dir: Annotated[
        Path | None,
        typer.Option("--data-dir", help="Data directory; default: SWITCHYARD_DATA_DIR or .switchyard."),
    ] = None,
    json: JsonOption = False,
) -> None:
    """Read the letters that the embedded stack wrote instead of sending them."""
    letters = [letter for letter in read_mailbox(data_dir) if to is None or letter["to"] == to]
    if number is not None:
        if not 1 <= number <= len(letters):
            raise LetterNotFoundError(number, len(letters))
        chosen = letters[number - 1]
        if json:
            print_json(chosen)
        else:
            typer.echo(clean(f"{chosen['subject']}\nTo: {chosen['to']}\n\n{chosen['text']}"))
        return
    if json:
        print_json(letters)
    else:
        print_table(_COLUMNS, letters, empty="The mailbox is empty.")


def read_mailbox(data_dir: Path | None) -> list[dict[str, Any]]:
    """Read every letter, oldest first, numbered from 1."""
    from activities.channels.email import MAILBOX
    from models.settings import load_settings

    directory = (data_dir or load_settings().data_dir) / MAILBOX
    letters: list[dict[str, Any]] = []
    for path in directory.glob("*.eml"):
        message = email.message_from_bytes(path.read_bytes(), policy=email.policy.default)
        assert isinstance(message, EmailMessage), "the default policy makes EmailMessage"
        body = message.get_body(("plain",))
        letters.append(
            {
                "date": parsedate_to_datetime(str(message["Date"])),
                "to": str(message["To"]),
                "subject": str(message["Subject"]),
                "message_id": str(message["Message-ID"]),
                "text": body.get_content() if body is not None else "",
            }
        )
    letters.sort(key=lambda letter: (letter["date"], letter["message_id"]))
    return [{"number": number, **letter} for number, letter in enumerate(letters, start=1)]
