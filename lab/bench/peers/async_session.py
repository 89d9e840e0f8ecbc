"""FastAPI with an asynchronous SQLAlchemy session for each request."""

import os
from collections.abc import AsyncIterator
from importlib.util import find_spec
from typing import Annotated
from uuid import UUID

from fastapi import Depends, FastAPI, HTTPException, Response
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker, create_async_engine

from lab.bench.peers.duties import Duties, Repository, RepositoryRead, configure_logging

configure_logging()

engine = create_async_engine(
    f"postgresql+{'asyncpg' if find_spec('asyncpg') else 'psycopg'}://"
    + os.environ["DATABASE_URL"].partition("://")[2],
    pool_size=int(os.environ.get("CONNECTIONS", "32")),
    max_overflow=0,
)
sessions = async_sessionmaker(engine, expire_on_commit=False)


async def get_session() -> AsyncIterator[AsyncSession]:
    """Yield a session of the request's own."""
    async with sessions() as session:
        yield session


app = FastAPI()
app.add_middleware(Duties)


@app.get("/repos/{repository_id}", response_model=RepositoryRead)
async def read_repository(
    repository_id: UUID, response: Response, session: Annotated[AsyncSession, Depends(get_session)]
) -> Repository:
    """Return a repository."""
    repository = await session.get(Repository, repository_id)
    if repository is None:
        raise HTTPException(404, "There is no such repository")
    response.headers["ETag"] = repository.etag()
    response.headers["Cache-Control"] = "no-cache"
    return repository
