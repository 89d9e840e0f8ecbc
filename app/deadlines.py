"""The time limits of a request and of what it waits for, in seconds: they depend on each other.

A caller has the answer within 5.5 s: GitHub has until `REQUEST`, the database at least `STORE`
after that, and a tenth of a second is left for everything else. A request that needs only the
database has `DATABASE`.
"""

# From a request's arrival to the end of the exchange with GitHub, redirects and body included.
REQUEST = 5.0
# For the transaction that stores GitHub's answer, however late that came.
STORE = 0.4
# For a request that needs the database alone.
DATABASE = 4.5
# From SIGTERM to the end of the process: requests that have begun are answered first.
SHUTDOWN = 10
