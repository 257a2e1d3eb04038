"""The command line: what it prints, what it refuses, how it ends."""

import re
import socket
import subprocess

import pytest

from dunlin import BINARY, DISCONNECT, PATIENCE, ROOT, Client, RawSession, unique

SERVER_SHUTTING_DOWN = 0x8B


def run(*arguments):
    return subprocess.run(
        [BINARY, *arguments], capture_output=True, text=True, timeout=PATIENCE, stdin=subprocess.DEVNULL
    )


def test_the_ready_line_names_the_node_and_its_addresses(cluster):
    node = cluster.node("kiln")
    assert node.ready["name"] == "kiln"
    for listener in ("mqtt", "gossip", "link"):
        assert node.ready[listener] == f"127.0.0.1:{node.ports[listener]}"
        assert node.ports[listener] > 0


def test_version_and_help_go_to_standard_output():
    assert re.search(r"\d+\.\d+", run("--version").stdout)
    assert "--join" in run("--help").stdout


def test_every_flag_is_documented_and_every_documented_flag_exists():
    flags = set(re.findall(r"--[a-z][a-z-]+", run("--help").stdout))
    documentation = (ROOT / "docs/configuration.md").read_text()
    documented = set(re.findall(r"^\| `(--[a-z][a-z-]+)", documentation, re.MULTILINE))
    assert flags == documented


def test_flags_in_the_documentation_are_real():
    flags = set(re.findall(r"--[a-z][a-z-]+", run("--help").stdout))
    pages = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
    for page in pages:
        for line in re.findall(r"^.*(?:\bnode|scripts/run) +(--.*)$", page.read_text(), re.MULTILINE):
            for flag in re.findall(r"--[a-z][a-z-]+", line):
                assert flag in flags, f"{page.name}: {flag}"


@pytest.mark.parametrize(
    "arguments, culprit",
    [
        (["--no-such-flag"], "--no-such-flag"),
        (["--mqtt-port", "70000"], "70000"),
        (["--mqtt-port", "many"], "many"),
        (["--advertise", "127.0.0.1:port"], "127.0.0.1:port"),
        (["--join", "127.0.0.1:99999"], "127.0.0.1:99999"),
        (["--log-level", "chatty"], "chatty"),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else "",
)
def test_a_bad_flag_is_named_and_refused(arguments, culprit):
    done = run(*arguments)
    assert done.returncode == 64
    assert culprit in done.stderr
    assert done.stdout == ""


def test_an_address_that_is_not_this_machines_is_named():
    # TEST-NET-1 (RFC 5737): nobody has it.
    done = run("--bind", "192.0.2.1", "--mqtt-port", "0", "--gossip-port", "0", "--link-port", "0")
    assert done.returncode not in (0, 64)
    assert "192.0.2.1" in done.stderr


@pytest.mark.parametrize("listener", ["mqtt", "gossip", "link"])
def test_a_port_in_use_is_named(listener):
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        ports = {"mqtt": 0, "gossip": 0, "link": 0, listener: port}
        flags = [word for name, number in ports.items() for word in (f"--{name}-port", str(number))]
        done = run("--bind", "127.0.0.1", *flags)
    assert done.returncode not in (0, 64)
    assert f"127.0.0.1:{port}" in done.stderr
    assert "in use" in done.stderr
    assert not done.stdout.startswith("ready")


def test_an_unreachable_seed_is_logged_and_retried(cluster):
    with socket.create_server(("127.0.0.1", 0)) as reserved:
        port = reserved.getsockname()[1]
    seed = f"127.0.0.1:{port}"
    node = cluster.node(join=[seed])
    node.wait_for_log(re.escape(seed))
    # It serves meanwhile.
    with Client(node) as client:
        client.subscribe("here")
        client.publish("here", "yes")
        assert client.payloads(1) == ["yes"]
    # And it joins when the seed appears.
    late = cluster.node("late", address="127.0.0.1", ports={"gossip": port})
    node.wait_for_log(late.name, seconds=20)


def test_a_seed_that_does_not_resolve_is_logged(cluster):
    node = cluster.node(join=["no-such-host.invalid"])
    node.wait_for_log(r"no-such-host\.invalid")


def test_sigterm_says_goodbye_and_exits_zero(cluster):
    first, second = cluster.grow(2)
    seen = second.log_length()
    with RawSession(first, unique("modern"), version=5) as modern, RawSession(first, unique("old")) as old:
        assert first.terminate() == 0
        kind, body = modern.packet()
        assert (kind, body[0]) == (DISCONNECT, SERVER_SHUTTING_DOWN)
        assert modern.at_end()
        assert old.at_end()
    second.wait_for_log(rf"{first.name}.*left|left.*{first.name}", start=seen)


def test_a_listener_can_be_turned_off(cluster):
    node = cluster.node(ports={"gossip": "off", "link": "off"})
    assert node.ready.get("gossip", "off") == "off"
    assert node.ready.get("link", "off") == "off"
    with Client(node) as client:
        client.subscribe("alone")
        client.publish("alone", "yes")
        assert client.payloads(1) == ["yes"]


def test_nodes_on_one_machine_get_different_names_by_default():
    names = set()
    for address in ("127.0.0.1", "127.0.0.2"):
        process = subprocess.Popen(
            [BINARY, "--bind", address, "--mqtt-port", "0", "--gossip-port", "0", "--link-port", "0"],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        try:
            names.add(re.search(r"name=(\S+)", process.stdout.readline()).group(1))
        finally:
            process.kill()
            process.wait()
    assert len(names) == 2
