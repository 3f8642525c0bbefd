"""The migrations and the table classes describe the same schema."""

from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import create_engine, text

from models.settings import Settings
from models.tables import metadata


def _is_no_partition(name: str | None, kind: str, _: object) -> bool:
    # Months of events are made as time goes by.
    return kind != "table" or name is None or not name.startswith("run_events_")


def test_migrations_and_models_agree(database: Settings) -> None:
    url = database.database_owner_url.get_secret_value().replace("postgresql://", "postgresql+psycopg://", 1)
    engine = create_engine(url)
    with engine.connect() as connection:
        # Views are made by migrations only; a comparison is of tables.
        options = {"compare_type": True, "include_name": _is_no_partition}
        context = MigrationContext.configure(connection, opts=options)
        differences = compare_metadata(context, metadata)
    engine.dispose()
    assert differences == []


def test_every_table_of_the_database_is_known_to_the_models(database: Settings) -> None:
    engine = create_engine(
        database.database_owner_url.get_secret_value().replace("postgresql://", "postgresql+psycopg://", 1)
    )
    with engine.connect() as connection:
        names = set(
            connection.execute(
                text(
                    "SELECT relname FROM pg_class WHERE relkind IN ('r', 'p') AND NOT relispartition "
                    "AND relnamespace = 'public'::regnamespace"
                )
            ).scalars()
        )
    engine.dispose()
    assert names - {"alembic_version"} == set(metadata.tables)
