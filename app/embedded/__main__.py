"""Makes `python -m app.embedded DATA_DIR [LOCK_FD]` the supervisor."""

import sys
from pathlib import Path

from app.embedded.errors import EmbeddedPostgresError
from app.embedded.files import open_private
from app.embedded.supervisor import supervise

_folder = Path(sys.argv[1])
_lock = [int(number) for number in sys.argv[2:]] or [open_private(_folder / "supervisor.lock")]
try:
    supervise(_folder, _lock[0])
except EmbeddedPostgresError as error:
    sys.exit(str(error))
except OSError as error:
    sys.exit(f"The PostgreSQL in {_folder} cannot be started: {error}")
