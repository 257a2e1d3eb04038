"""`node members`: a running node is asked through its control socket."""

import json
import os
import re
import signal
import stat
import subprocess

import pytest

from dunlin import BINARY, ENVIRONMENT, PATIENCE, ROOT, require, until
from serf import SerfAgent


def command(*arguments, folder=None, text=None, environment=None):
    """Runs a command as on a host that has only the nodes in the folder."""
    environment = {"DUNLIN_CONTROL_SOCKET": f"{folder}/"} if folder else environment or {}
    return subprocess.run(
        [BINARY, *arguments],
        capture_output=True,
        text=True,
        timeout=60,
        input=text or "",
        env=ENVIRONMENT | environment,
    )


def members(node):
    done = command("members", "--json", "--node", node.name, folder=node.control)
    assert (done.returncode, done.stderr) == (0, "")
    return json.loads(done.stdout)


def by_name(node):
    return {member["name"]: member for member in members(node)["members"]}


def wait_for_state(node, name, state):
    until(lambda: by_name(node).get(name, {}).get("state") == state, f"{node.name} takes {name} for {state}")


def test_members_as_json(cluster):
    first, second = cluster.grow(2)
    for node in cluster.nodes:
        for other in cluster.nodes:
            wait_for_state(node, other.name, "alive")
    until(lambda: "round_trip_ms" in by_name(first)[second.name], "the round trip is measured")
    answer = members(first)
    assert set(answer) == {"node", "health_score", "members"}
    assert answer["node"] == first.name
    assert 0 <= answer["health_score"] <= 7
    own, other = answer["members"]
    assert (own["name"], other["name"]) == (first.name, second.name)
    assert "round_trip_ms" not in own
    assert other["address"] == second.gossip
    assert 0 < other["round_trip_ms"] < 1000
    assert other["tags"]["role"] == "dunlin"
    assert other["tags"]["link"] == str(second.ports["link"])
    assert other["incarnation"] > 1_000_000_000


def test_the_schema_is_documented(cluster):
    first, second = cluster.grow(2)
    wait_for_state(first, second.name, "alive")
    until(lambda: "round_trip_ms" in by_name(first)[second.name], "the round trip is measured")
    answer = members(first)
    page = (ROOT / "docs/operations.md").read_text().partition("## Members")[2].partition("\n## ")[0]
    documented = re.findall(r"^\| `(members\[\]\.)?([a-z_]+)` \|", page, re.MULTILINE)
    assert {key for prefix, key in documented if not prefix} == set(answer)
    assert {key for prefix, key in documented if prefix} == {key for member in answer["members"] for key in member}


def test_members_as_a_table_and_how_they_end(cluster, tmp_path):
    first, second, third = cluster.grow(3)
    for other in cluster.nodes:
        wait_for_state(first, other.name, "alive")
    second.kill()
    assert third.terminate() == 0
    wait_for_state(first, second.name, "dead")
    wait_for_state(first, third.name, "left")
    done = command("members", folder=first.control)
    assert (done.returncode, done.stderr) == (0, "")
    heading, *rows = done.stdout.partition("\n\n")[0].splitlines()
    assert re.split(r"  +", heading) == ["name", "address", "state", "incarnation", "round trip", "tags"]
    assert [re.split(r"  +", row)[:3] for row in rows] == [
        [first.name, first.gossip, "alive"],
        [second.name, second.gossip, "dead"],
        [third.name, third.gossip, "left"],
    ]
    assert f"Seen by {first.name}, whose health score is" in done.stdout


def test_a_serf_agent_is_listed_with_its_tags(cluster, tmp_path):
    first = cluster.node()
    agent = SerfAgent("127.0.0.100", tmp_path / "serf.log", join=first.gossip, flags=["-tag=kind=watcher"])
    try:
        wait_for_state(first, agent.name, "alive")
        assert by_name(first)[agent.name]["tags"] == {"kind": "watcher"}
    finally:
        agent.kill()
    wait_for_state(first, agent.name, "dead")


def test_of_several_nodes_one_is_chosen(cluster):
    first, second = cluster.grow(2)
    assert first.control == second.control
    done = command("members", folder=first.control)
    assert (done.returncode, done.stdout) == (1, "")
    assert "several nodes run" in done.stderr and "--node" in done.stderr
    for node in (first, second):
        assert re.search(rf"{node.name} .*gossip={re.escape(node.gossip)}", done.stderr)
        for name in (node.name, node.address, node.gossip, node.host):
            chosen = command("members", "--json", "--node", name, folder=node.control)
            assert json.loads(chosen.stdout)["node"] == node.name, chosen.stderr
    sockets = sorted(first.control.iterdir())
    assert [path.name for path in sockets] == [f"{node.gossip}.sock" for node in (first, second)]
    by_path = command("members", "--json", "--node", str(sockets[1]))
    assert json.loads(by_path.stdout)["node"] == second.name
    wrong = command("members", "--node", "n9", folder=first.control)
    assert wrong.returncode == 1
    assert "'n9'" in wrong.stderr and first.name in wrong.stderr


def test_without_a_node_it_says_so(cluster, tmp_path):
    done = command("members", folder=tmp_path)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("Error: no node of this user runs on this host") and str(tmp_path) in done.stderr
    done = command("members", "--node", f"{tmp_path}/none.sock")
    assert (done.returncode, done.stdout) == (1, "")
    assert f"no node runs at {tmp_path}/none.sock" in done.stderr


def test_a_killed_node_is_not_found_and_its_socket_is_taken_over(cluster):
    node = cluster.node()
    node.kill()
    assert [path.name for path in node.control.iterdir()] == [f"{node.gossip}.sock"]
    assert "no node" in command("members", folder=node.control).stderr
    node.start()
    assert members(node)["node"] == node.name
    assert node.terminate() == 0
    assert list(node.control.iterdir()) == []


def test_a_stopped_process_does_not_hold_up_the_command(cluster):
    first, second = cluster.grow(2)
    first.process.send_signal(signal.SIGSTOP)
    try:
        done = command("members", "--json", "--node", second.name, folder=first.control)
        assert json.loads(done.stdout)["node"] == second.name
    finally:
        first.process.send_signal(signal.SIGCONT)


def test_a_node_that_is_alone_says_so(cluster):
    node = cluster.node(ports={"gossip": "off", "link": "off"})
    done = command("members", folder=node.control)
    assert done.returncode == 1
    assert "gossip-port off" in done.stderr
    assert [path.name for path in node.control.iterdir()] == [f"{node.host}.sock"]


def test_the_socket_is_where_the_setting_says_or_nowhere(cluster, tmp_path):
    path = tmp_path / "n.sock"
    node = cluster.node(flags=["--control-socket", str(path)])
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert json.loads(command("members", "--json", "--node", str(path)).stdout)["node"] == node.name
    cluster.node(flags=["--control-socket", "off"])
    assert not node.control.exists()
    # A place that cannot be had is an error where it was asked for.
    done = command("--bind", "127.0.0.9", *NO_PORTS, "--control-socket", f"{tmp_path}/no/n.sock")
    assert (done.returncode, done.stdout) == (1, "")
    assert "control socket" in done.stderr and f"{tmp_path}/no/n.sock" in done.stderr


def test_without_any_setting_node_and_command_meet(cluster, tmp_path):
    # An empty variable counts as not set. Which of the usual folders it is depends on the user.
    session = {"DUNLIN_CONTROL_SOCKET": "", "XDG_RUNTIME_DIR": str(tmp_path)}
    node = cluster.node(environment=session)
    assert not node.control.exists()
    # Others may run on this host.
    done = command("members", "--json", "--node", node.name, environment=session)
    assert json.loads(done.stdout)["node"] == node.name, done.stderr
    path = node.wait_for_log(r"ask this node at (\S+)").group(1)
    assert path.endswith(f"/dunlin/{node.gossip}.sock")
    assert node.terminate() == 0
    assert not os.path.exists(path)


NO_PORTS = ["--mqtt-port", "0", "--ws-port", "0", "--gossip-port", "0", "--link-port", "0"]


def test_a_folder_that_others_may_write_to_is_refused(tmp_path):
    folder = tmp_path / "open"
    folder.mkdir()
    folder.chmod(0o777)
    done = command("--bind", "127.0.0.9", *NO_PORTS, "--control-socket", f"{folder}/")
    assert (done.returncode, done.stdout) == (1, "")
    assert "other users may write" in done.stderr
    (folder / "x.sock").touch()
    assert "no node" in command("members", folder=folder).stderr


@pytest.mark.skipif(not os.path.exists("/usr/bin/setpriv"), reason="no setpriv")
def test_other_users_are_not_answered(cluster, tmp_path):
    require(os.geteuid() == 0, "only root can become another user")
    path = tmp_path / "n.sock"
    cluster.node(flags=["--control-socket", str(path)])
    # The mode of the file alone would let them in; who asks is looked at as well.
    path.chmod(0o666)
    for folder in [tmp_path, *tmp_path.parents][:3]:
        folder.chmod(0o755)
    program = (
        "import socket, sys\n"
        "s = socket.socket(socket.AF_UNIX)\n"
        f"s.connect({str(path)!r})\n"
        's.sendall(b\'{"version":1,"command":"members","body":{}}\\n\')\n'
        "print(len(s.recv(100)))\n"
    )
    for user, answered in ((65534, False), (0, True)):
        done = subprocess.run(
            ["setpriv", f"--reuid={user}", "--clear-groups", "python3", "-c", program],
            capture_output=True,
            text=True,
            timeout=PATIENCE,
        )
        assert (done.stdout.strip() not in ("0", "")) == answered, (done.stdout, done.stderr)
