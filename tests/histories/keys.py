"""The key that recorded histories are encrypted under: fixed, public, and used for nothing else."""

import base64

from temporalio.converter import DataConverter

from activities.temporal.client import data_converter
from models.settings import EncryptionKey, Settings

HISTORY_KEY = EncryptionKey("histories", bytes(range(32)))


def history_settings() -> Settings:
    """Settings whose key ring is the histories' key alone."""
    pair = f"{HISTORY_KEY.id}:{base64.b64encode(HISTORY_KEY.key).decode()}"
    return Settings.model_validate({"encryption_keys": pair})


def history_converter() -> DataConverter:
    """The converter that recorded histories are read and written with; nothing goes to S3."""
    return data_converter(history_settings(), None)
