"""Stores what GitHub says of repositories: nothing else writes counts and names."""

import asyncio
from collections.abc import Awaitable, Callable, Collection, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Protocol, TypeVar
from uuid import UUID

from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession

from app import crud, deadlines
from app.database import Database
from app.errors import (
    AlreadyTracked,
    GitHubBadAnswer,
    NameHeld,
    NotOnGitHub,
    RepositoryNotFound,
)
from app.models import Check, GitHubRepository, Record, Tracked
from app.schemas import represent
from app.services.github.client import GitHub
from app.web.conditions import Conditions

T = TypeVar("T")

# Stale names form a chain only if several repositories were renamed one after the other.
MOST_ATTEMPTS = 10

# By GitHub's number of the repository.
Checks = Mapping[int, Check]


class Records:
    """The one writer of counts and names.

    A change is one transaction, and first tries to do without other names. If the database
    refuses that, or a record was renamed, the change begins anew with the lock that all renames
    share. Then a record that holds a name which GitHub gives to another repository has a stale
    name by definition: GitHub is asked about that record too, outside of the transaction, and
    both are stored together.

    Every method may raise DatabaseUnavailable and a GitHubError. A deadline is a time of the
    event loop's clock; an answer of GitHub that comes just before it is still stored.
    """

    def __init__(self, database: Database, github: GitHub) -> None:
        self._database = database
        self._github = github

    async def add(self, repository_id: UUID, said: GitHubRepository, *, deadline: float) -> Record:
        """Create and return the record of a repository; raise AlreadyTracked or NameHeld."""
        return await self._make(_Addition(repository_id, said), deadline)

    async def update(
        self, repository_id: UUID, check: Check, conditions: Conditions, *, deadline: float
    ) -> Record:
        """Store a check and return the record as it then stands.

        A check that a later one has overtaken is not stored. Raises RepositoryNotFound,
        PreconditionFailed and NameHeld.
        """
        return await self._make(_Update(repository_id, check, conditions), deadline)

    async def _make(self, change: "_Change", deadline: float) -> Record:
        try:
            record = await self._transaction(change.attempt, deadline)
        except IntegrityError:
            # The name or the number is taken: by a stale record, or by a caller who was faster.
            record = None
        return record or await self._make_with_names(change, deadline)

    async def _make_with_names(self, change: "_Change", deadline: float) -> Record:
        holders: dict[int, Check] = {}
        for _ in range(MOST_ATTEMPTS):
            attempt = partial(change.attempt_with_names, holders=holders)
            try:
                outcome = await self._transaction(attempt, deadline)
            except IntegrityError:
                continue  # Somebody tracked one of the names since: the next attempt sees it.
            if isinstance(outcome, Record):
                return outcome
            check = await self._check_holder(outcome, deadline)
            holders[check.repository.github_id] = check
        raise GitHubBadAnswer("GitHub gives one name to several repositories. Try again later.")

    async def _check_holder(self, holder: Tracked, deadline: float) -> Check:
        try:
            return await self._github.check(
                holder.last.repository, asked_at=holder.read_at, deadline=deadline
            )
        except NotOnGitHub as error:
            raise NameHeld(holder.id, holder.record.full_name) from error

    async def _transaction(
        self, work: Callable[[AsyncSession], Awaitable[T]], deadline: float
    ) -> T:
        store_by = max(deadline, asyncio.get_running_loop().time() + deadlines.STORE)
        return await self._database.transaction(work, deadline=store_by)


class _Change(Protocol):
    """What one caller wants to be stored."""

    async def attempt(self, session: AsyncSession) -> Record | None:
        """Return the record as stored, or None if names have to be locked first."""

    async def attempt_with_names(
        self, session: AsyncSession, *, holders: Checks
    ) -> Record | Tracked:
        """Return the record as stored together with these checks of records that hold names.

        If one more record holds a name, store nothing and return it.
        """


@dataclass(frozen=True, slots=True)
class _Addition:
    """A new record."""

    id: UUID
    said: GitHubRepository

    async def attempt(self, session: AsyncSession) -> Record:
        record = Record(self.id, self.said.owner, self.said.name, self.said.stars)
        await crud.add(session=session, record=record, said=self.said)
        return record

    async def attempt_with_names(
        self, session: AsyncSession, *, holders: Checks
    ) -> Record | Tracked:
        stored = await _lock_with_names(session, {*holders, self.said.github_id})
        if existing := stored.get(self.said.github_id):
            raise AlreadyTracked(existing.id, existing.record.full_name)
        wanted = (self.said.owner, self.said.name)
        holder = await _store_with_names(session, stored, holders, wanted)
        return holder or await self.attempt(session)


@dataclass(frozen=True, slots=True)
class _Update:
    """A check of a record."""

    id: UUID
    check: Check
    conditions: Conditions

    async def attempt(self, session: AsyncSession) -> Record | None:
        github_ids = {self.check.repository.github_id}
        stored = await crud.lock_by_github_ids(session=session, github_ids=github_ids)
        target = self._target(stored)
        after = target.after(self.check)
        if after.full_name != target.record.full_name:
            return None
        if not target.is_overtaken(self.check):
            await crud.store(session=session, checks=[self.check])
        return after

    async def attempt_with_names(
        self, session: AsyncSession, *, holders: Checks
    ) -> Record | Tracked:
        checks = {**holders, self.check.repository.github_id: self.check}
        stored = await _lock_with_names(session, checks)
        target = self._target(stored)
        holder = await _store_with_names(session, stored, checks)
        return holder or target.after(self.check)

    def _target(self, stored: Mapping[int, Tracked]) -> Tracked:
        """Return the record to update; raise RepositoryNotFound or PreconditionFailed."""
        target = stored.get(self.check.repository.github_id)
        if target is None or target.id != self.id:
            raise RepositoryNotFound(self.id)
        self.conditions.check(represent(target.record).etag)
        return target


async def _lock_with_names(
    session: AsyncSession, github_ids: Collection[int]
) -> dict[int, Tracked]:
    await crud.lock_names(session=session)
    return await crud.lock_by_github_ids(session=session, github_ids=github_ids)


async def _store_with_names(
    session: AsyncSession,
    stored: Mapping[int, Tracked],
    checks: Checks,
    *wanted: tuple[str, str],
) -> Tracked | None:
    """Store checks of locked records, and the names that GitHub gives them.

    If another record holds one of these names, or a name that is wanted besides, store nothing
    and return it.
    """
    later = {
        github_id: check
        for github_id, check in checks.items()
        if github_id in stored and not stored[github_id].is_overtaken(check)
    }
    names = {
        stored[github_id].id: (check.repository.owner, check.repository.name)
        for github_id, check in later.items()
        if check.repository.full_name != stored[github_id].record.full_name
    }
    for holder in await crud.find_by_names(session=session, names=[*names.values(), *wanted]):
        if holder.last.repository.github_id not in later:
            return holder
    await crud.store(session=session, checks=later.values())
    await crud.rename(session=session, names=names)
    return None
