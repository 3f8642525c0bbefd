"""Bring a database to the newest schema with Alembic."""

from pathlib import Path

from alembic import command
from alembic.config import Config

MIGRATIONS = Path(__file__).resolve().parents[2] / "migrations"


def alembic_config(owner_url: str) -> Config:
    """Return Alembic's configuration for the database at ``owner_url`` (the owner's role)."""
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    config.attributes["url"] = owner_url
    return config


def upgrade(owner_url: str) -> None:
    """Apply every migration that the database lacks; an up-to-date one is left alone.

    Args:
        owner_url: ``postgresql://`` address with the role that owns the schema.
    """
    command.upgrade(alembic_config(owner_url), "head")
