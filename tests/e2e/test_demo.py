"""The demonstration of ``make run``, performed against the stack of the tests."""

import io

from rich.console import Console

from cli.demo import perform
from models.settings import Settings


def test_the_main_job_is_done_through_the_public_api(stack: Settings) -> None:
    output = io.StringIO()
    perform(stack.public_url, 6, Console(file=output, width=160))
    said = output.getvalue()
    assert "6 succeeded" in said
    assert "coupon-finder is refused by the scanner" in said
    assert "receipts verified offline" in said
    assert "sum to 0" in said
