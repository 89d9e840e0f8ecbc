"""The repositories that the stand-in for GitHub knows, and how GitHub describes each."""

import functools
import gzip
import hashlib
import itertools
import json
import re
import time
from base64 import b64encode
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

HOUR = 3600
CREATED = "2011-01-26T19:01:12Z"
GENERATED = re.compile(r"[a-z0-9_-]{1,39}/(?!\.{1,2}$)[a-z0-9._-]{1,100}")
OWNER_PATHS = [
    "followers",
    "following{/other_user}",
    "gists{/gist_id}",
    "starred{/owner}{/repo}",
    "subscriptions",
    "orgs",
    "repos",
    "events{/privacy}",
    "received_events",
]
REPOSITORY_PATHS = [
    "forks",
    "keys{/key_id}",
    "collaborators{/collaborator}",
    "teams",
    "hooks",
    "issues/events{/number}",
    "events",
    "assignees{/user}",
    "branches{/branch}",
    "tags",
    "git/blobs{/sha}",
    "git/tags{/sha}",
    "git/refs{/sha}",
    "git/trees{/sha}",
    "statuses/{sha}",
    "languages",
    "stargazers",
    "contributors",
    "subscribers",
    "subscription",
    "commits{/sha}",
    "git/commits{/sha}",
    "comments{/number}",
    "issues/comments{/number}",
    "contents/{+path}",
    "compare/{base}...{head}",
    "merges",
    "{archive_format}{/ref}",
    "downloads",
    "issues{/number}",
    "pulls{/number}",
    "milestones{/number}",
    "notifications{?since,all,participating}",
    "labels{/name}",
    "releases{/id}",
    "deployments",
]


@dataclass
class GitHubRepository:
    """A repository at GitHub; set `stars` directly, but rename it through the stand-in."""

    id: int
    owner: str
    name: str
    stars: int = 0

    @property
    def full_name(self) -> str:
        """Return owner/name."""
        return f"{self.owner}/{self.name}"


@dataclass(frozen=True)
class Rendered:
    """A body, plain and compressed, and the tag that changes with it."""

    plain: bytes
    packed: bytes
    digest: str


def links(base: str, paths: list[str]) -> dict[str, str]:
    """Return `x_url` members as GitHub writes them."""
    return {
        re.sub(r"\W+", "_", path.split("{")[0].rstrip("/") or "archive") + "_url": (
            f"{base}{path}" if path.startswith("{") else f"{base}/{path}"
        )
        for path in paths
    }


@functools.lru_cache(maxsize=4096)
def render(number: int, owner: str, name: str, stars: int, base: str) -> Rendered:
    """Return the whole body of `GET /repos/{owner}/{name}`, some 6 KB."""
    url, page = f"{base}/repos/{owner}/{name}", f"https://github.com/{owner}/{name}"
    user = f"{base}/users/{owner}"
    account = {
        "login": owner,
        "id": number % 90_000_000 + 1,
        "node_id": b64encode(f"04:User{number}".encode()).decode(),
        "avatar_url": f"https://avatars.githubusercontent.com/u/{number % 90_000_000 + 1}?v=4",
        "gravatar_id": "",
        "url": user,
        "html_url": f"https://github.com/{owner}",
        **links(user, OWNER_PATHS),
        "type": "Organization",
        "user_view_type": "public",
        "site_admin": False,
    }
    body = {
        "id": number,
        "node_id": b64encode(f"010:Repository{number}".encode()).decode(),
        "name": name,
        "full_name": f"{owner}/{name}",
        "private": False,
        "owner": account,
        "html_url": page,
        "description": "Made up for a test: nothing here is réal 🦄",
        "fork": False,
        "url": url,
        **links(url, REPOSITORY_PATHS),
        **dict.fromkeys(("created_at", "updated_at", "pushed_at"), CREATED),
        "git_url": f"git://github.com/{owner}/{name}.git",
        "ssh_url": f"git@github.com:{owner}/{name}.git",
        "clone_url": f"{page}.git",
        "svn_url": page,
        "homepage": None,
        "size": 108,
        **dict.fromkeys(("stargazers_count", "watchers_count", "watchers"), stars),
        "language": "Python",
        **dict.fromkeys(("has_issues", "has_projects", "has_downloads", "has_wiki"), True),
        **dict.fromkeys(("has_pages", "has_discussions", "archived", "disabled"), False),
        "mirror_url": None,
        "license": {"key": "mit", "name": "MIT License", "spdx_id": "MIT", "url": None},
        **dict.fromkeys(("allow_forking", "has_pull_requests"), True),
        **dict.fromkeys(("is_template", "web_commit_signoff_required"), False),
        "topics": ["atom", "electron", "octocat"],
        "visibility": "public",
        **dict.fromkeys(("forks", "forks_count", "network_count"), stars // 7),
        **dict.fromkeys(("open_issues", "open_issues_count", "subscribers_count"), stars // 30),
        "default_branch": "main",
        "temp_clone_token": None,
        "custom_properties": {},
        "organization": account,
    }
    plain = json.dumps(body, ensure_ascii=False, separators=(",", ":")).encode()
    return Rendered(plain, gzip.compress(plain, 6, mtime=0), hashlib.sha256(plain).hexdigest())


@dataclass
class Budget:
    """The limit of requests for an hour, and how many are left."""

    limit: int
    remaining: int
    reset: float

    def charge(self) -> bool:
        """Count one request; return False if none is left."""
        if time.time() >= self.reset:
            self.remaining, self.reset = self.limit, time.time() + HOUR
        if self.remaining <= 0:
            return False
        self.remaining -= 1
        return True

    def headers(self) -> Mapping[str, str]:
        """Return the limit as GitHub reports it."""
        limit = max(self.limit, self.remaining)
        return {
            "X-RateLimit-Limit": str(limit),
            "X-RateLimit-Remaining": str(self.remaining),
            "X-RateLimit-Reset": str(int(self.reset)),
            "X-RateLimit-Used": str(limit - self.remaining),
            "X-RateLimit-Resource": "core",
        }


class World:
    """Repositories by name (in any case) and by id, and the old names that lead to them."""

    def __init__(self) -> None:
        """Begin empty."""
        self.names: dict[str, GitHubRepository] = {}
        self.ids: dict[int, GitHubRepository] = {}
        self.old_names: dict[str, int] = {}
        self.generate = False
        self._numbers = itertools.count(1_100_000_000)

    def add(
        self,
        owner: str,
        name: str,
        *,
        stars: int = 0,
        id: int | None = None,  # noqa: A002 - GitHub's own word
    ) -> GitHubRepository:
        """Create a repository; an old name of another may be taken again, as at GitHub."""
        number = next(self._numbers) if id is None else id
        repository = GitHubRepository(number, owner, name, stars)
        key = repository.full_name.lower()
        if key in self.names or repository.id in self.ids:
            message = f"{repository} exists already"
            raise ValueError(message)
        self.old_names.pop(key, None)
        self.names[key] = self.ids[repository.id] = repository
        return repository

    def rename(self, old: str | GitHubRepository, new_owner: str, new_name: str) -> None:
        """Rename or transfer a repository; its old name then leads to it."""
        repository = self.known(old)
        key = f"{new_owner}/{new_name}".lower()
        if self.names.get(key, repository) is not repository:
            message = f"{key} is taken"
            raise ValueError(message)
        self.old_names[repository.full_name.lower()] = repository.id
        del self.names[repository.full_name.lower()]
        self.old_names.pop(key, None)
        repository.owner, repository.name = new_owner, new_name
        self.names[key] = repository

    def remove(self, which: str | GitHubRepository) -> None:
        """Delete a repository or make it private: 404 by name, by old name and by id."""
        repository = self.known(which)
        del self.names[repository.full_name.lower()], self.ids[repository.id]

    def known(self, which: str | GitHubRepository) -> GitHubRepository:
        """Return a repository by its present name."""
        return which if isinstance(which, GitHubRepository) else self.names[which.lower()]

    def load_index(self, path: Path | str) -> int:
        """Add the repositories of an index of JSON lines and return how many there are now."""
        with Path(path).open(encoding="utf-8") as lines:
            for row in map(json.loads, lines):
                owner, _, name = row["full_name"].partition("/")
                if row["full_name"].lower() not in self.names and row["id"] not in self.ids:
                    self.add(owner, name, stars=row["stargazers_count"], id=row["id"])
        return len(self.names)

    def look_up(self, full_name: str) -> GitHubRepository | int | None:
        """Return what has this name now, or the id of what once had it."""
        key = full_name.lower()
        if key in self.names:
            return self.names[key]
        if self.old_names.get(key) in self.ids:
            return self.old_names[key]
        if self.generate and GENERATED.fullmatch(key):
            number = int.from_bytes(hashlib.sha256(key.encode()).digest()[:8]) >> 12
            owner, _, name = key.partition("/")
            return self.add(owner, name, stars=number % 200_000, id=number)
        return None
