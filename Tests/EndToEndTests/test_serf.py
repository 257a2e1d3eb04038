"""A real Serf agent in the ring: both sides list each other."""

import json
import shutil
import socket
import subprocess

import pytest

from dunlin import PATIENCE, require, unique, until


class SerfAgent:
    def __init__(self, address, log_path, join=None):
        require(shutil.which("serf"), "no serf on this machine")
        self.name = unique("agent")
        self._rpc = f"{address}:{_free_port(address)}"
        self.address = f"{address}:{_free_port(address)}"
        command = [
            "serf",
            "agent",
            "-profile=local",
            f"-node={self.name}",
            f"-bind={self.address}",
            f"-rpc-addr={self._rpc}",
        ]
        if join:
            command.append(f"-retry-join={join}")
        with open(log_path, "ab") as log:
            self._process = subprocess.Popen(command, stdout=log, stderr=log, stdin=subprocess.DEVNULL)
        until(lambda: self._ask("info").returncode == 0, f"the agent answers; see {log_path}")

    def _ask(self, command, *arguments):
        return subprocess.run(
            ["serf", command, f"-rpc-addr={self._rpc}", *arguments], capture_output=True, text=True, timeout=PATIENCE
        )

    def members(self):
        """Name → member, as `serf members` lists them."""
        answer = self._ask("members", "-format=json")
        return {member["name"]: member for member in json.loads(answer.stdout)["members"]}

    def wait_for_status(self, node, status):
        return until(
            lambda: (member := self.members().get(node.name)) and member["status"] == status and member,
            f"serf lists {node.name} as {status}: {self.members()}",
        )

    def leave(self):
        self._ask("leave")

    def kill(self):
        self._process.kill()
        self._process.wait()


def _free_port(address):
    """A port that is free for TCP and UDP alike."""
    with socket.create_server((address, 0)) as server:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as datagram:
            datagram.bind((address, server.getsockname()[1]))
            return server.getsockname()[1]


@pytest.fixture
def agent(cluster, tmp_path):
    """Two nodes and an agent in one ring."""
    first, _second = cluster.grow(2)
    agent = SerfAgent("127.0.0.100", tmp_path / "serf.log", join=first.gossip)
    yield agent
    agent.kill()


def test_serf_lists_the_nodes_with_their_tags(cluster, agent):
    for node in cluster.nodes:
        member = agent.wait_for_status(node, "alive")
        assert member["addr"] == node.gossip
        assert str(node.ports["link"]) in member["tags"].values(), member["tags"]


def test_the_nodes_list_the_agent_and_notice_that_it_leaves(cluster, agent):
    for node in cluster.nodes:
        node.wait_for_log(agent.name)
    seen = {node: node.log_length() for node in cluster.nodes}
    agent.leave()
    for node in cluster.nodes:
        node.wait_for_log(rf"{agent.name}.*left|left.*{agent.name}", start=seen[node])


def test_the_nodes_notice_that_the_agent_is_killed(cluster, agent):
    for node in cluster.nodes:
        node.wait_for_log(agent.name)
    seen = {node: node.log_length() for node in cluster.nodes}
    agent.kill()
    for node in cluster.nodes:
        node.wait_for_log(rf"{agent.name}.*failed|failed.*{agent.name}", start=seen[node], seconds=15)


def test_serf_sees_a_node_leave(cluster, agent):
    node = cluster.nodes[1]
    agent.wait_for_status(node, "alive")
    assert node.terminate() == 0
    agent.wait_for_status(node, "left")


def test_a_node_joins_through_an_agent(cluster, agent):
    late = cluster.node(join=[agent.address])
    agent.wait_for_status(late, "alive")
    for node in cluster.nodes[:-1]:
        node.wait_for_log(late.name)
