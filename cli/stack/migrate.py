"""The step that brings the database to the newest schema: ``python -m cli.stack.migrate``."""

from activities.records.migrate import upgrade
from models.settings import load_settings

if __name__ == "__main__":
    upgrade(load_settings().database_owner_url.get_secret_value())
