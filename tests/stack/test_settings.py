import base64
from pathlib import Path

import pytest

from cli.stack.settings_page import PAGE, page
from models.settings import InvalidSettingsError, Settings, load_settings, markdown_table

KEY = base64.b64encode(bytes(range(32))).decode()


def test_the_settings_page_is_current() -> None:
    assert PAGE.read_text() == page(), "run: make docs"


def test_every_setting_is_described() -> None:
    assert all(field.description for field in Settings.model_fields.values())


def test_the_table_shows_no_secret_default() -> None:
    assert KEY not in markdown_table()


def test_every_malformed_variable_is_named_without_its_value(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SANDBOX_CONCURRENCY", "many")
    monkeypatch.setenv("API_PORT", "70000")
    with pytest.raises(InvalidSettingsError) as caught:
        load_settings()
    assert set(caught.value.details["fields"]) == {"SANDBOX_CONCURRENCY", "API_PORT"}
    assert "many" not in caught.value.message
    assert "70000" not in caught.value.message


def test_secrets_do_not_show_when_settings_are_printed() -> None:
    settings = Settings(s3_secret_access_key="abracadabra", encryption_keys=f"a:{KEY}")  # pyright: ignore[reportArgumentType]
    assert "abracadabra" not in repr(settings)
    assert KEY not in str(settings)
    assert "bytes" not in repr(settings.encryption_key_ring())


def test_settings_survive_the_way_through_an_environment_file(tmp_path: Path) -> None:
    settings = Settings(s3_secret_access_key="a-b_c", api_port=1234, data_dir=tmp_path)  # pyright: ignore[reportArgumentType]
    file = tmp_path / "stack.env"
    file.write_text("".join(f"{name}='{value}'\n" for name, value in settings.as_environment().items()))
    assert load_settings(file) == settings


def test_the_environment_overrides_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "stack.env"
    file.write_text("API_PORT='1234'\n")
    monkeypatch.setenv("API_PORT", "4321")
    assert load_settings(file).api_port == 4321


def test_the_key_ring_keeps_its_order() -> None:
    settings = Settings(encryption_keys=f"new:{KEY},old:{KEY}")  # pyright: ignore[reportArgumentType]
    assert [key.id for key in settings.encryption_key_ring()] == ["new", "old"]


@pytest.mark.parametrize(
    ("ring", "complaint"),
    [
        ("", "entry 1"),
        (f"{KEY}", "entry 1"),
        (f"a:{KEY},b:short", "entry 2"),
        (f"a:{KEY},b:{base64.b64encode(b'x' * 31).decode()}", "entry 2"),
        (f"a:{KEY},a:{KEY}", "occurs twice"),
        (f":{KEY}", "entry 1"),
        ("a:not base64 at all!", "entry 1"),
    ],
)
def test_a_malformed_key_ring_is_refused_without_being_repeated(ring: str, complaint: str) -> None:
    settings = Settings(encryption_keys=ring)  # pyright: ignore[reportArgumentType]
    with pytest.raises(InvalidSettingsError, match=complaint) as caught:
        settings.encryption_key_ring()
    assert KEY not in caught.value.message
