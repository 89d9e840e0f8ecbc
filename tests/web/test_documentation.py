"""`/docs` and `/redoc` show themselves although nothing but this service can be reached."""

import re
import shutil
import subprocess
from pathlib import Path

import httpx2 as httpx
import pytest

from lab.service import Service

FILES = {
    "/docs/swagger-ui-bundle.js": "text/javascript; charset=utf-8",
    "/docs/swagger-ui.css": "text/css; charset=utf-8",
    "/redoc/redoc.standalone.js": "text/javascript; charset=utf-8",
    "/redoc/logo-mini.svg": "image/svg+xml",
}
pages = pytest.mark.parametrize("page", ["/docs", "/redoc"])
files = pytest.mark.parametrize("file", FILES)


@pages
def test_a_page_is_html(service: Service, page: str) -> None:
    answer = httpx.get(f"{service.url}{page}")
    assert (answer.status_code, answer.headers["content-type"]) == (200, "text/html; charset=utf-8")


@pages
def test_a_page_names_no_other_host(service: Service, page: str) -> None:
    assert re.findall(r"[\"'](?:https?:)?//[^\"']*", httpx.get(f"{service.url}{page}").text) == []


@pages
def test_a_page_allows_the_browser_this_service_only(service: Service, page: str) -> None:
    policy = httpx.get(f"{service.url}{page}").headers["content-security-policy"]
    sources = {source for directive in policy.split("; ") for source in directive.split()[1:]}
    assert "default-src 'none'" in policy
    assert sources == {"'none'", "'self'", "'unsafe-inline'", "data:", "blob:"}


@pages
def test_what_a_page_loads_is_served(service: Service, page: str) -> None:
    address = f"{service.url}{page}"
    loaded = re.findall(
        r"(?:src|href|spec-url)=\"([^\"]+)\"|url: '([^']+)'", httpx.get(address).text
    )
    addresses = {httpx.URL(address).join("".join(found)) for found in loaded}
    found = [url for url in addresses if url.scheme != "data"]
    assert len(found) >= 2
    assert {httpx.get(url).status_code for url in found} == {200}


@files
def test_a_file_of_a_page_is_served(service: Service, file: str) -> None:
    answer = httpx.get(f"{service.url}{file}")
    assert (answer.status_code, answer.headers["content-type"]) == (200, FILES[file])


@files
def test_a_file_that_the_browser_has_is_not_sent_again(service: Service, file: str) -> None:
    etag = httpx.get(f"{service.url}{file}").headers["etag"]
    answer = httpx.get(f"{service.url}{file}", headers={"If-None-Match": etag})
    assert (answer.status_code, answer.content) == (304, b"")


@pytest.mark.parametrize(
    "path",
    ["/docs/", "/docs/nothing.js", "/docs/%2e%2e", "/docs/%2e%2e%2f__init__.py", "/redoc/%00"],
)
def test_another_path_below_a_page_is_404(service: Service, path: str) -> None:
    answer = httpx.get(f"{service.url}{path}")
    assert (answer.status_code, answer.json()["type"]) == (404, "/problems/route-not-found")


@files
def test_a_file_can_only_be_read(service: Service, file: str) -> None:
    answer = httpx.post(f"{service.url}{file}")
    assert (answer.status_code, answer.headers["allow"]) == (405, "GET, HEAD")


@pytest.mark.timeout(180)
@pages
def test_a_browser_shows_the_four_operations(service: Service, page: str, tmp_path: Path) -> None:
    chromium = shutil.which("chromium") or pytest.skip("Chromium is not installed")
    shown = subprocess.run(
        [
            chromium,
            *("--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"),
            *("--no-first-run", "--disable-background-networking", "--disable-component-update"),
            "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
            f"--user-data-dir={tmp_path}",
            "--virtual-time-budget=20000",
            "--dump-dom",
            f"{service.url}{page}",
        ],
        capture_output=True,
        text=True,
        timeout=150,
        check=True,
    ).stdout
    summaries = [
        "Track a repository",
        "Read a record",
        "Refresh a record",
        "Stop tracking a repository",
    ]
    assert [summary for summary in summaries if summary not in shown] == []
