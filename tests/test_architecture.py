"""docs/architecture.md shows the house as it stands."""

import re

from app import PROJECT_DIR

PAGE = (PROJECT_DIR / "docs" / "architecture.md").read_text()
SHOWN = set(re.findall(r"^\| `([a-z_/]+\.py)` \|", PAGE, re.MULTILINE))


def test_each_module_of_the_application_stands_on_the_page() -> None:
    folder = PROJECT_DIR / "app"
    modules = {path.relative_to(folder).as_posix() for path in folder.rglob("*.py")}
    assert {module for module in modules if not module.endswith("__init__.py")} == SHOWN
