"""What the four endpoints do."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial
from typing import TypeVar
from uuid import UUID, uuid4

import structlog
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession

from app import crud, deadlines
from app.database import Database
from app.errors import (
    AlreadyTracked,
    GitHubBadAnswer,
    GitHubTimeout,
    GoneFromGitHub,
    NameHeld,
    NotOnGitHub,
    RepositoryNotFound,
)
from app.models import Repository
from app.postgres.shared_reads import SharedReads
from app.schemas import RepositoryReference, RepositoryRow, Representation, represent
from app.services.github.answers import GitHubRepository
from app.services.github.client import GitHub
from app.services.github.sharing import SharedCalls
from app.web.conditions import Conditions

log = structlog.get_logger(__name__)

T = TypeVar("T")

# Stale names form a chain only where several repositories were renamed in a row.
MOST_ATTEMPTS = 10


@dataclass(slots=True)
class _Created:
    """A new record, and whether one of those who waited for it has been told that it is new."""

    representation: Representation
    full_name: str
    claimed: bool = False


@dataclass(frozen=True, slots=True)
class _Said:
    """What GitHub said, by its number for the repository.

    Records may be renamed under the lock on names; what is disputed has been refused by the
    database once.
    """

    answers: Mapping[int, GitHubRepository]
    may_rename: bool = False
    is_disputed: bool = False


class _RenameNeeded(Exception):
    """The transaction has to begin anew, with the lock on names before all others."""


class Tracker:
    """Tracks repositories: PostgreSQL holds the records, GitHub says what is in them.

    GitHub is never asked inside a transaction, and nothing is stored unless all of it is. Every
    method may raise DatabaseUnavailable, and those that ask GitHub any GitHubError.
    """

    def __init__(self, database: Database, github: GitHub) -> None:
        self._database = database
        self._github = github
        self._by_id = SharedReads(database, crud.BY_ID)
        self._by_name = SharedReads(database, crud.BY_NAME, lanes=1)
        self._tracking: SharedCalls[str, _Created] = SharedCalls()

    async def close(self) -> None:
        """End what is under way."""
        await self._tracking.close()
        await self._by_name.close()
        await self._by_id.close()

    async def read(self, repository_id: UUID) -> Representation:
        """Return a record; raises RepositoryNotFound."""
        row = await self._by_id.read(repository_id)
        if row is None:
            raise RepositoryNotFound(repository_id)
        return represent(row)

    async def track(self, reference: RepositoryReference) -> Representation:
        """Create the record of a repository on GitHub; raises AlreadyTracked.

        Callers who name the same repository at the same time share the work; the record is new
        to the first of them and tracked already for the others.
        """
        created = await self._tracking.join(
            reference.full_name.lower(), partial(self._track, reference)
        )
        if created.claimed:
            raise AlreadyTracked(created.representation.id, created.full_name)
        created.claimed = True
        return created.representation

    async def refresh(self, repository_id: UUID, conditions: Conditions) -> Representation:
        """Store what GitHub says of a record now, its name included.

        Raises RepositoryNotFound, PreconditionFailed, GoneFromGitHub and NameHeld.
        """
        deadline = _now() + deadlines.REQUEST
        record = await self._database.transaction(
            partial(_get, repository_id=repository_id, conditions=conditions),
            deadline=deadline - deadlines.STORE,
        )
        github_id = record.link.github_id
        try:
            found = await _in_time(
                self._github.repository_unless(github_id, record.link.etag), deadline
            )
        except NotOnGitHub as error:
            raise GoneFromGitHub(record.full_name) from error

        async def update(said: _Said, session: AsyncSession) -> Representation:
            records = await _lock(session, said, github_id)
            record = records.get(github_id)
            if record is None or record.id != repository_id:
                raise RepositoryNotFound(repository_id)
            conditions.check(represent(record.row).etag)
            record.link.checked_at = datetime.now(UTC)
            await _apply(session, said, records)
            return represent(record.row)

        answers = {} if found is None else {github_id: found}
        representation = await self._store(update, _Said(answers), deadline)
        log.info("repository refreshed", id=str(repository_id), github_id=github_id)
        return representation

    async def untrack(self, repository_id: UUID, conditions: Conditions) -> None:
        """Delete a record; raises RepositoryNotFound and PreconditionFailed."""

        async def remove(session: AsyncSession) -> None:
            await _get(session, repository_id=repository_id, conditions=conditions, lock=True)
            await crud.remove(session=session, repository_id=repository_id)

        await self._database.transaction(remove, deadline=_now() + deadlines.DATABASE)
        log.info("repository untracked", id=str(repository_id))

    async def _track(self, reference: RepositoryReference) -> _Created:
        deadline = _now() + deadlines.REQUEST
        holder = await self._by_name.read(reference.full_name.lower())
        if holder is not None:
            raise AlreadyTracked(holder.id, holder.full_name)
        found = await _in_time(
            self._github.repository(reference.owner, reference.repo_name), deadline
        )

        async def insert(said: _Said, session: AsyncSession) -> _Created:
            if said.is_disputed:
                records = await _lock(session, said)
                if existing := records.get(found.github_id):
                    raise AlreadyTracked(existing.id, existing.full_name)
                await _apply(session, said, records)
            row = RepositoryRow(uuid4(), found.owner, found.name, found.stars)
            await crud.add(session=session, row=row, github_id=found.github_id, etag=found.etag)
            return _Created(represent(row), row.full_name)

        created = await self._store(insert, _Said({found.github_id: found}), deadline)
        log.info(
            "repository tracked",
            id=str(created.representation.id),
            repository=created.full_name,
            github_id=found.github_id,
            stars=found.stars,
        )
        return created

    async def _store(
        self,
        write: Callable[[_Said, AsyncSession], Awaitable[T]],
        said: _Said,
        deadline: float,
    ) -> T:
        """Return what `write` returns, committed.

        A record that holds a name which GitHub now gives to another repository has a stale name
        by definition: GitHub is asked about that record too, and both are stored together.
        """
        for _ in range(MOST_ATTEMPTS):
            try:
                return await self._database.transaction(
                    partial(write, said), deadline=_store_by(deadline)
                )
            except _RenameNeeded:
                said = replace(said, may_rename=True)
                continue
            except IntegrityError:
                # A name is taken: by a record with a stale name, or by a caller who was faster.
                holder = await self._database.transaction(
                    partial(_find_holder, said), deadline=_store_by(deadline)
                )
            said = replace(said, may_rename=True, is_disputed=True)
            if holder is not None:
                answer = await self._ask_holder(holder, deadline)
                said = replace(said, answers={**said.answers, holder.link.github_id: answer})
        raise GitHubBadAnswer("GitHub gives one name to several repositories. Try again later.")

    async def _ask_holder(self, holder: Repository, deadline: float) -> GitHubRepository:
        try:
            return await _in_time(self._github.repository_by_id(holder.link.github_id), deadline)
        except NotOnGitHub as error:
            raise NameHeld(holder.id, holder.full_name) from error


async def _get(
    session: AsyncSession, *, repository_id: UUID, conditions: Conditions, lock: bool = False
) -> Repository:
    record = await crud.get(session=session, repository_id=repository_id, lock=lock)
    if record is None:
        raise RepositoryNotFound(repository_id)
    conditions.check(represent(record.row).etag)
    return record


async def _lock(session: AsyncSession, said: _Said, *more_github_ids: int) -> dict[int, Repository]:
    """Return the records that there are of these repositories, by GitHub's number, locked."""
    if said.may_rename:
        await crud.lock_names(session=session)
    records = await crud.lock_by_github_ids(
        session=session, github_ids={*said.answers, *more_github_ids}
    )
    return {record.link.github_id: record for record in records}


async def _apply(session: AsyncSession, said: _Said, records: Mapping[int, Repository]) -> None:
    """Bring locked records to what GitHub says of them."""
    names = {}
    for github_id, answer in said.answers.items():
        if (record := records.get(github_id)) is None:
            continue
        record.stars = answer.stars
        record.link.etag = answer.etag
        record.link.checked_at = datetime.now(UTC)
        if (answer.owner, answer.name) != (record.owner, record.repo_name):
            names[record] = (answer.owner, answer.name)
    if names and not said.may_rename:
        raise _RenameNeeded
    await crud.rename(session=session, names=names)


async def _find_holder(said: _Said, session: AsyncSession) -> Repository | None:
    """Return a record that holds one of the answers' names without being one of them."""
    names = [(answer.owner, answer.name) for answer in said.answers.values()]
    for holder in await crud.find_by_names(session=session, names=names):
        if holder.link.github_id not in said.answers:
            return holder
    return None


async def _in_time(call: Awaitable[T], deadline: float) -> T:
    try:
        async with asyncio.timeout_at(deadline):
            return await call
    except TimeoutError as error:
        raise GitHubTimeout from error


def _now() -> float:
    return asyncio.get_running_loop().time()


def _store_by(deadline: float) -> float:
    return max(deadline, _now() + deadlines.STORE)
