"""Importing this module makes every table known to the metadata, for Alembic and its drift test."""

import models.event
import models.identity
import models.marketplace
import models.publishing
import models.run
from models.table import metadata as metadata

_ = (models.event, models.identity, models.marketplace, models.publishing, models.run)
