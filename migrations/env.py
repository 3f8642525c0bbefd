"""Run by Alembic: connects as the schema's owner and applies the migrations in one transaction each."""

from alembic import context
from sqlalchemy import create_engine, pool

from models.tables import metadata


def run() -> None:
    """Apply the migrations to the database whose address the caller put into the configuration."""
    url: str = context.config.attributes["url"]
    engine = create_engine(url.replace("postgresql://", "postgresql+psycopg://", 1), poolclass=pool.NullPool)
    with engine.connect() as connection:
        # Two processes that start at once must not both migrate.
        connection.exec_driver_sql("SELECT pg_advisory_lock(7303017150)")
        connection.commit()
        context.configure(connection=connection, target_metadata=metadata, transaction_per_migration=True)
        with context.begin_transaction():
            context.run_migrations()
    engine.dispose()


run()
