"""Report by the exit status whether the service can answer from its database."""

import os
import sys
from http.client import HTTPConnection, HTTPException

# No record has this id, but only a database that answers can tell.
ABSENT = "/repos/00000000-0000-0000-0000-000000000000"


def main() -> int:
    """Ask for a record by an allowed host name, and return the exit status."""
    host = os.environ.get("ALLOWED_HOSTS", "").split(",")[0].strip() or "localhost"
    port = int(os.environ.get("PORT") or 8000)
    # Not urllib, which would send this to the proxy of HTTP_PROXY.
    connection = HTTPConnection("localhost", port, timeout=8)
    try:
        headers = {"Host": host.replace("*", "healthcheck"), "Connection": "close"}
        connection.request("GET", ABSENT, headers=headers)
        answer = connection.getresponse()
        problem = answer.read(1000).decode(errors="replace")
    except (OSError, HTTPException) as error:
        print(f"The service does not answer: {error}")
        return 1
    if answer.status == 404 and "/problems/repository-not-found" in problem:
        return 0
    print(f"{answer.status} {problem}")
    return 1


if __name__ == "__main__":
    sys.exit(main())
