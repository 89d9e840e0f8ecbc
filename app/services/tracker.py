"""What the four endpoints do."""

import asyncio
from functools import partial
from uuid import UUID, uuid4

import structlog
from sqlalchemy.ext.asyncio import AsyncSession

from app import crud, deadlines
from app.database import Database
from app.errors import AlreadyTracked, GoneFromGitHub, NotOnGitHub, RepositoryNotFound
from app.models import Record, Tracked
from app.postgres.shared_reads import SharedReads
from app.schemas import RepositoryReference, Representation, represent
from app.services.github.client import GitHub
from app.services.github.sharing import SharedCalls
from app.services.records import Records
from app.web.conditions import Conditions

log = structlog.get_logger(__name__)


class Tracker:
    """Tracks repositories: PostgreSQL keeps the records, GitHub says what is in them.

    GitHub is never asked inside a transaction, and a change is stored as a whole or not at all.
    Every method may raise DatabaseUnavailable, and those that ask GitHub any GitHubError.
    """

    def __init__(self, database: Database, github: GitHub) -> None:
        self._database = database
        self._github = github
        self._records = Records(database, github)
        self._by_id = SharedReads(partial(crud.read_by_id, database.fetch))
        self._by_name = SharedReads(partial(crud.read_by_name, database.fetch), at_once=1)
        self._tracking: SharedCalls[str, Record] = SharedCalls()

    async def close(self) -> None:
        """End what is running."""
        await self._tracking.close()
        await self._by_name.close()
        await self._by_id.close()

    async def find(self, repository_id: UUID) -> Representation:
        """Return a record; raise RepositoryNotFound."""
        record = await self._by_id.get(repository_id)
        if record is None:
            raise RepositoryNotFound(repository_id)
        return represent(record)

    async def track(self, reference: RepositoryReference) -> Representation:
        """Create the record of a repository on GitHub; raise AlreadyTracked or NameHeld.

        Callers who name the same repository at the same time share the work: the record is new
        to the one who began it, and tracked already to the others.
        """
        repository_id = uuid4()
        track = partial(self._track, repository_id, reference)
        record = await self._tracking.join(reference.full_name.lower(), track)
        if record.id != repository_id:
            raise AlreadyTracked(record.id, record.full_name)
        return represent(record)

    async def refresh(self, repository_id: UUID, conditions: Conditions) -> Representation:
        """Store what GitHub says of a record now, its name included, and return the record.

        Raises RepositoryNotFound, PreconditionFailed, GoneFromGitHub and NameHeld.
        """
        deadline = _now() + deadlines.REQUEST
        find = partial(_find, repository_id=repository_id, conditions=conditions)
        known = await self._database.transaction(find, deadline=deadline - deadlines.STORE)
        try:
            check = await self._github.check(
                known.last.repository, asked_at=known.read_at, deadline=deadline
            )
        except NotOnGitHub as error:
            raise GoneFromGitHub(known.record.full_name) from error
        record = await self._records.update(repository_id, check, conditions, deadline=deadline)
        log.info(
            "repository refreshed", id=str(repository_id), github_id=check.repository.github_id
        )
        return represent(record)

    async def untrack(self, repository_id: UUID, conditions: Conditions) -> None:
        """Delete a record; raise RepositoryNotFound or PreconditionFailed."""
        remove = partial(_remove, repository_id=repository_id, conditions=conditions)
        await self._database.transaction(remove, deadline=_now() + deadlines.DATABASE)
        log.info("repository untracked", id=str(repository_id))

    async def _track(self, repository_id: UUID, reference: RepositoryReference) -> Record:
        deadline = _now() + deadlines.REQUEST
        holder = await self._by_name.get(reference.full_name.lower())
        if holder is not None:
            raise AlreadyTracked(holder.id, holder.full_name)
        said = await self._github.repository(
            reference.owner, reference.repo_name, deadline=deadline
        )
        record = await self._records.add(repository_id, said, deadline=deadline)
        log.info(
            "repository tracked",
            id=str(record.id),
            repository=record.full_name,
            github_id=said.github_id,
            stars=record.stars,
        )
        return record


async def _find(session: AsyncSession, *, repository_id: UUID, conditions: Conditions) -> Tracked:
    tracked = await crud.find(session=session, repository_id=repository_id)
    return _checked(tracked, repository_id, conditions)


async def _remove(session: AsyncSession, *, repository_id: UUID, conditions: Conditions) -> None:
    tracked = await crud.lock(session=session, repository_id=repository_id)
    _checked(tracked, repository_id, conditions)
    await crud.remove(session=session, repository_id=repository_id)


def _checked(tracked: Tracked | None, repository_id: UUID, conditions: Conditions) -> Tracked:
    """Return what is stored; raise RepositoryNotFound or PreconditionFailed."""
    if tracked is None:
        raise RepositoryNotFound(repository_id)
    conditions.check(represent(tracked.record).etag)
    return tracked


def _now() -> float:
    return asyncio.get_running_loop().time()
