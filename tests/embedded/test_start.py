"""The service on its embedded PostgreSQL: what counts and what is told."""

from pathlib import Path

from psycopg.conninfo import conninfo_to_dict

from lab.database import new_database, url_of
from lab.service import AS_MODULE, embedded_in, ran, running

LIBPQ = {
    "PGCHANNELBINDING": "require",
    "PGCLIENTENCODING": "SQL_ASCII",
    "PGDATESTYLE": "nonsense",
    "PGHOSTADDR": "127.0.0.2",
    "PGOPTIONS": "-c search_path=x -c default_transaction_read_only=on",
    "PGPASSFILE": "/dev/null",
    "PGREQUIREAUTH": "gss",
    "PGSERVICE": "production",
    "PGSERVICEFILE": "/dev/null",
    "PGSSLMODE": "verify-full",
    "PGSSLROOTCERT": "/dev/null",
    "PGTARGETSESSIONATTRS": "standby",
    "PGTZ": "Nowhere",
}


def test_variables_of_libpq_do_not_count_for_the_embedded_server(folder: Path) -> None:
    with running(**embedded_in(folder), **LIBPQ, WORKERS="2") as service:
        assert service.said("waiting for PostgreSQL") == 0


def test_variables_of_libpq_count_for_a_url_of_the_user(postgresql: str) -> None:
    with new_database(postgresql) as url:
        parameters = conninfo_to_dict(url)
        password = str(parameters.pop("password"))
        with running(DATABASE_URL=url_of(parameters), PGPASSWORD=password) as service:
            assert service.serves


def test_embedded_server_that_cannot_start_is_told_in_a_sentence(empty_folder: Path) -> None:
    empty_folder.write_text("")
    ended = ran(*AS_MODULE, **embedded_in(empty_folder))
    assert ended.returncode != 0
    assert "Traceback" not in ended.stderr
    assert f'"The data folder {empty_folder} cannot be used (File exists). Set' in ended.stderr
