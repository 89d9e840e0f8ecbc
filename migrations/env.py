"""Runs the migrations, on the service's own connection or on one to DATABASE_URL."""

from alembic import context
from sqlalchemy import Connection, create_engine

from app.models import Base
from app.postgres.connections import parameters
from app.settings import Settings


def migrate(connection: Connection) -> None:
    """Migrate in one transaction: that of the connection, or one that is committed here."""
    context.configure(connection=connection, target_metadata=Base.metadata)
    with context.begin_transaction():
        context.run_migrations()


def run() -> None:
    """Use the connection that the caller has, else make one."""
    connection = context.config.attributes.get("connection")
    if connection is not None:
        migrate(connection)
        return
    url = Settings.load().database_url
    if url is None:
        raise SystemExit("Set DATABASE_URL to the database to migrate.")
    arguments = parameters(url.get_secret_value())
    with create_engine("postgresql+psycopg://", connect_args=arguments).connect() as own:
        migrate(own)


run()
