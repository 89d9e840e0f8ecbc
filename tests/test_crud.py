"""What is locked and stored of several repositories in one transaction."""

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import psycopg
import pytest
from pydantic import SecretStr
from sqlalchemy.ext.asyncio import AsyncSession

from app import crud
from app.database import Database
from app.factory import open_database
from app.models import Check, GitHubRepository, Record, Tracked
from app.settings import Settings

Rows = psycopg.Connection[Any]
MOMENT = datetime(2100, 1, 1, tzinfo=UTC)


@pytest.fixture
async def database(database_url: str, rows: Rows) -> AsyncIterator[Database]:
    async with open_database(Settings(database_url=SecretStr(database_url))) as database:
        yield database


@pytest.fixture
async def far() -> float:
    """A deadline that no test reaches."""
    return asyncio.get_running_loop().time() + 60


def said(github_id: int, stars: int = 0, etag: str | None = "old") -> GitHubRepository:
    return GitHubRepository(github_id, "a", str(github_id), stars, etag)


async def add(session: AsyncSession, github_ids: range) -> list[UUID]:
    """Insert records and return their ids."""
    records = [Record(uuid4(), "a", str(github_id), 0) for github_id in github_ids]
    for record in records:
        await crud.add(session=session, record=record, said=said(int(record.repo_name)))
    return [record.id for record in records]


async def test_many_checks_are_stored_at_once(database: Database, far: float) -> None:
    async def work(session: AsyncSession) -> dict[int, Tracked]:
        await add(session, range(1, 6))
        checks = [Check(said(1, 10, "new"), MOMENT), Check(said(2, 0, None), MOMENT)]
        await crud.lock_by_github_ids(session=session, github_ids=[1, 2])
        await crud.store(session=session, checks=checks)
        return await crud.lock_by_github_ids(session=session, github_ids=range(1, 6))

    stored = await database.transaction(work, deadline=far)
    assert [stored[number].record.stars for number in range(1, 6)] == [10, 0, 0, 0, 0]
    assert stored[1].last == Check(said(1, 10, "new"), MOMENT)
    assert stored[2].last == Check(said(2, 0, None), MOMENT)
    assert stored[3].last.repository == said(3)
    assert stored[3].last.asked_at <= stored[3].read_at


async def test_a_time_of_a_check_only_rises(database: Database, far: float) -> None:
    async def work(session: AsyncSession) -> Tracked:
        await add(session, range(1, 2))
        for hours in (0, -1):
            check = Check(said(1), MOMENT + timedelta(hours=hours))
            await crud.store(session=session, checks=[check])
        (stored,) = (await crud.lock_by_github_ids(session=session, github_ids=[1])).values()
        return stored

    stored = await database.transaction(work, deadline=far)
    assert stored.last.asked_at == MOMENT + timedelta(microseconds=1)


async def test_records_that_trade_names_are_renamed(database: Database, far: float) -> None:
    async def work(session: AsyncSession) -> list[str]:
        first, second, third = await add(session, range(1, 4))
        names = {first: ("a", "2"), second: ("A", "3"), third: ("a", "1")}
        await crud.rename(session=session, names=names)
        stored = await crud.lock_by_github_ids(session=session, github_ids=[1, 2, 3])
        return [stored[number].record.full_name for number in (1, 2, 3)]

    assert await database.transaction(work, deadline=far) == ["a/2", "A/3", "a/1"]


async def test_records_are_found_by_their_names_in_any_case(database: Database, far: float) -> None:
    async def work(session: AsyncSession) -> set[int]:
        await add(session, range(1, 4))
        found = await crud.find_by_names(session=session, names=[("A", "1"), ("a", "9")])
        return {tracked.last.repository.github_id for tracked in found}

    assert await database.transaction(work, deadline=far) == {1}
