"""Fold names as ASCII, whatever the language of the database.

In Turkish, `lower('I')` is not `i`. Names that GitHub takes for one could be stored twice there;
the one that was checked last keeps the name. The other is stale: it gets a name that GitHub
cannot give, until it is refreshed.
"""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op

revision: str = "0002"
down_revision: str | None = "0001"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None


def upgrade() -> None:
    op.drop_index("uq_repositories_owner_repo_name", "repositories")
    _collate("C")
    op.execute("""
        UPDATE repositories SET repo_name = left(repo_name, 63) || '~' || id
        WHERE id IN (
            SELECT id FROM (
                SELECT id, row_number() OVER (
                    PARTITION BY lower(owner), lower(repo_name)
                    ORDER BY checked_at DESC NULLS LAST
                ) AS place
                FROM repositories LEFT JOIN github_links ON repository_id = id
            ) AS namesakes
            WHERE place > 1
        )
    """)
    _create_index()


def downgrade() -> None:
    op.drop_index("uq_repositories_owner_repo_name", "repositories")
    _collate("default")
    _create_index()


def _collate(collation: str) -> None:
    for column in ("owner", "repo_name"):
        op.alter_column("repositories", column, type_=sa.String(100, collation=collation))


def _create_index() -> None:
    op.create_index(
        "uq_repositories_owner_repo_name",
        "repositories",
        [sa.text("lower(owner)"), sa.text("lower(repo_name)")],
        unique=True,
    )
