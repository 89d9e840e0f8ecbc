"""FastAPI with a synchronous SQLAlchemy session for each request, in FastAPI's threads."""

import os
from collections.abc import Iterator
from typing import Annotated
from uuid import UUID

from fastapi import Depends, FastAPI, HTTPException, Response
from sqlalchemy import create_engine
from sqlalchemy.orm import Session

from lab.bench.peers.duties import Duties, Repository, RepositoryRead, configure_logging

configure_logging()

# As many connections as FastAPI has threads: with SQLAlchemy's own 5 + 10 the threads wait for one
# another, and with more than 40 the cost rises again.
engine = create_engine(
    f"postgresql+psycopg://{os.environ['DATABASE_URL'].partition('://')[2]}",
    pool_size=int(os.environ.get("CONNECTIONS", "40")),
    max_overflow=0,
)


def get_session() -> Iterator[Session]:
    """Yield a session of the request's own."""
    with Session(engine) as session:
        yield session


app = FastAPI()
app.add_middleware(Duties)


@app.get("/repos/{repository_id}", response_model=RepositoryRead)
def read_repository(
    repository_id: UUID, response: Response, session: Annotated[Session, Depends(get_session)]
) -> Repository:
    """Return a repository."""
    repository = session.get(Repository, repository_id)
    if repository is None:
        raise HTTPException(404, "There is no such repository")
    response.headers["ETag"] = repository.etag()
    response.headers["Cache-Control"] = "no-cache"
    return repository
