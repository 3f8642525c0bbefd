"""`docs/api.md` names every error there is."""

from pathlib import Path

from api.errors import error_classes, status_of_code
from api.reference import errors_table, import_all, with_table

PAGE = Path(__file__).resolve().parents[2] / "docs" / "api.md"


def test_the_table_of_errors_is_current() -> None:
    page = PAGE.read_text(encoding="utf-8")
    assert page == with_table(page), "run `python -m api.reference`"


def test_errors_that_share_a_code_share_its_status() -> None:
    import_all()
    ambiguous = {
        failure.__qualname__: (failure.code, failure.http_status)
        for failure in error_classes()
        if not failure.__module__.startswith("tests") and status_of_code(failure.code) != failure.http_status
    }
    assert ambiguous == {}, "a refusal that comes back from a workflow is known by its code alone"


def test_every_error_says_what_it_means() -> None:
    assert "|  |\n" not in errors_table()
