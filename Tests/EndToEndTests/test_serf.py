"""A real Serf agent in the ring: both sides list each other."""

import re

import pytest

from dunlin import until
from serf import SerfAgent


@pytest.fixture
def agent(cluster, tmp_path):
    """Two nodes and an agent in one ring."""
    first, _second = cluster.grow(2)
    agent = SerfAgent("127.0.0.100", tmp_path / "serf.log", join=first.gossip)
    yield agent
    agent.kill()


def test_an_agent_takes_what_nodes_send_compressed_and_in_small_packets(cluster, tmp_path):
    flags = ["--gossip-compress", "--gossip-mtu", "1000", "--gossip-profile", "local"]
    first = cluster.node(flags=flags)
    second = cluster.node(join=[first], flags=flags)
    agent = SerfAgent("127.0.0.101", tmp_path / "serf.log", join=first.gossip)
    try:
        for node in (first, second):
            agent.wait_for_status(node, "alive")
        # What comes after joining goes over packets.
        third = cluster.node(join=[second], flags=flags)
        agent.wait_for_status(third, "alive")
        assert third.terminate() == 0
        agent.wait_for_status(third, "left")
        assert "[ERR]" not in agent.log()
    finally:
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


@pytest.mark.parametrize("ending", ["left", "failed"])
def test_a_node_that_comes_back_at_another_address_is_known_there(cluster, agent, ending):
    first, second = cluster.nodes
    agent.wait_for_status(second, "alive")
    if ending == "left":
        assert second.terminate() == 0
    else:
        second.kill()
    agent.wait_for_status(second, ending)
    seen = first.log_length()
    second.address = "127.0.0.77"
    second.ports = dict.fromkeys(second.ports, 0)
    second.start()
    first.wait_for_log(rf"address={second.gossip} .*name={second.name}\b.*member (joined|restarted)", start=seen)
    until(
        lambda: (member := agent.members()[second.name])["status"] == "alive" and member["addr"] == second.gossip,
        f"the agent lists the new address: {agent.members()}\n{agent.log()}",
        45,
    )
    assert not re.search(r"onflict", agent.log()), agent.log()
