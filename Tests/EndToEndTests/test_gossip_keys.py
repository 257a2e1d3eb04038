"""Encrypted gossip: keys from a file, changed at run time, with real Serf agents in the ring."""

import base64
import json
import pathlib
import re
import signal
import subprocess

import pytest

from dunlin import BINARY, ENVIRONMENT, PATIENCE, until
from serf import SerfAgent


def node_command(*arguments):
    return subprocess.run(
        [BINARY, *arguments], capture_output=True, text=True, timeout=PATIENCE, env=ENVIRONMENT, stdin=subprocess.DEVNULL
    )


def new_key():
    done = node_command("key", "generate")
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout.strip()


class Keys:
    """The file of keys of all nodes."""

    def __init__(self, path):
        self.path = path
        self.flags = ["--cluster-key-file", str(path)]

    def write(self, *keys, form="\n".join):
        # In one step: a node may read it at any moment.
        temporary = self.path.with_suffix(".new")
        temporary.write_text(form(keys) + "\n")
        temporary.chmod(0o600)
        temporary.rename(self.path)

    def change(self, nodes, *keys):
        """The same as an operator does it: the file, then SIGHUP."""
        seen = {node: node.log_length() for node in nodes}
        self.write(*keys)
        for node in nodes:
            node.process.send_signal(signal.SIGHUP)
        for node in nodes:
            node.wait_for_log("read again: cluster keys", start=seen[node])


@pytest.fixture
def key():
    return new_key()


@pytest.fixture
def keys(tmp_path, key):
    keys = Keys(tmp_path / "cluster.keys")
    keys.write(key)
    return keys


@pytest.fixture
def ring(cluster, keys, key, tmp_path):
    """Two nodes and an agent."""
    first = cluster.node(flags=keys.flags)
    cluster.node(join=[first], flags=keys.flags)
    agent = SerfAgent("127.0.0.100", tmp_path / "serf.log", join=first.gossip, flags=[f"-encrypt={key}"])
    for node in cluster.nodes:
        agent.wait_for_status(node, "alive")
        node.wait_for_log(agent.name)
    yield agent
    agent.kill()


def complaints(agent):
    return [line for line in agent.log().splitlines() if re.search(r"\[(ERR|WARN)\].*memberlist", line)]


def test_a_new_key_has_32_bytes_and_is_another_each_time():
    first, second = new_key(), new_key()
    assert len(base64.b64decode(first, validate=True)) == 32
    assert first != second


def test_an_agent_with_the_key_is_in_the_ring_and_sees_leave_and_death(cluster, ring):
    first, second = cluster.nodes
    third = cluster.node(join=[first], flags=first.flags)
    ring.wait_for_status(third, "alive")
    assert second.terminate() == 0
    ring.wait_for_status(second, "left")
    assert complaints(ring) == []
    third.kill()
    ring.wait_for_status(third, "failed")
    seen = first.log_length()
    ring.kill()
    first.wait_for_log(rf"{ring.name}.*failed|failed.*{ring.name}", start=seen, seconds=15)
    assert "gossip: dropped" not in first.log()


def test_the_agents_leave_is_left(cluster, ring):
    seen = {node: node.log_length() for node in cluster.nodes}
    ring.leave()
    for node in cluster.nodes:
        node.wait_for_log(rf"{ring.name}\b.*left", start=seen[node])


def test_keys_change_under_traffic(cluster, ring, keys, key):
    new = new_key()
    for step, argument, content in [
        ("-install", new, [key, new]),
        ("-use", new, [new, key]),
        ("-remove", key, [new]),
    ]:
        keys.change(cluster.nodes, *content)
        # The nodes have made the step, which is as good as if they made it now.
        assert ring.keys(f"{step}={argument}")[0] == 0
        # A member that is new under these keys is told to everybody.
        late = cluster.node(join=[cluster.nodes[0]], flags=keys.flags)
        ring.wait_for_status(late, "alive")
        for node in cluster.nodes[:-1]:
            node.wait_for_log(late.name)
    for node in cluster.nodes:
        assert not re.search(r"failed|gossip: dropped", node.log()), node.log()
    for node in cluster.nodes:
        ring.wait_for_status(node, "alive")
    assert complaints(ring) == []


def test_a_node_without_the_key_stays_out_and_both_logs_say_why(cluster, keys):
    inside = cluster.node(flags=keys.flags)
    outside = cluster.node(join=[inside])
    inside.wait_for_log("not encrypted, and this node has a key")
    outside.wait_for_log("encrypted, and this node has no key")
    other = Keys(keys.path.with_name("other.keys"))
    other.write(new_key())
    stranger = cluster.node(join=[inside], flags=other.flags)
    inside.wait_for_log("key that this node does not have")
    stranger.wait_for_log("key that this node does not have")
    assert outside.name not in inside.log()
    assert stranger.name not in inside.log()


def test_a_label_keeps_clusters_apart(cluster):
    first = cluster.node(flags=["--gossip-label", "plant7"])
    second = cluster.node(join=[first], flags=["--gossip-label", "plant7"])
    first.wait_for_log(rf"name={second.name}\b.*joined")
    other = cluster.node(join=[first], flags=["--gossip-label", "plant8"])
    unlabelled = cluster.node(join=[first])
    first.wait_for_log("does not have the label of this node")
    until(lambda: "closed without an answer" in other.log(), "the other is told nothing")
    assert other.name not in first.log()
    assert unlabelled.name not in first.log()


def test_the_key_is_nowhere_to_be_seen(cluster, ring, keys, key):
    node = cluster.nodes[0]
    process = pathlib.Path("/proc") / str(node.process.pid)
    for text in [(process / "cmdline").read_text(), (process / "environ").read_text(), node.log()]:
        assert key not in text
    shown = node_command("config", "--check", *keys.flags).stdout
    assert str(keys.path) in shown
    assert key not in shown


def test_a_wrong_file_keeps_a_node_from_starting_and_a_running_one_at_its_keys(cluster, ring, keys, key):
    node = cluster.nodes[0]
    seen = node.log_length()
    keys.path.write_text(f"# the keys\n{key[:-4]}\n")
    node.process.send_signal(signal.SIGHUP)
    node.wait_for_log("cluster keys.*line 2 is not", start=seen)
    assert key[:-4] not in node.log()
    done = node_command("--bind", "127.0.0.9", *keys.flags)
    assert done.returncode == 1
    assert str(keys.path) in done.stderr and "line 2" in done.stderr
    assert key[:-4] not in done.stderr
    keys.write(key)
    late = cluster.node(join=[node], flags=keys.flags)
    ring.wait_for_status(late, "alive")


def test_the_keyring_file_of_an_agent_is_understood(cluster, keys, key):
    first = cluster.node(flags=keys.flags)
    array = Keys(keys.path.with_name("keyring.json"))
    array.write(key, new_key(), form=json.dumps)
    second = cluster.node(join=[first], flags=array.flags)
    first.wait_for_log(rf"name={second.name}\b.*joined")


def test_a_file_that_everybody_may_read_is_warned_of(cluster, keys):
    assert "every user" not in cluster.node(flags=keys.flags).log()
    keys.path.chmod(0o644)
    cluster.node(flags=keys.flags).wait_for_log("every user of this host may read the cluster keys")
