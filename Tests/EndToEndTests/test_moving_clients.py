"""Clients move between three nodes all the time, under load, while links, nodes and the network break, or nodes are restarted.

`moving.py` says what is promised meanwhile.
"""

import os
import re

import pytest

from dunlin import require, reset_connections, resets_possible, until
from journey import Journey
from test_links import link_of
from test_node_status import wait_for_links

# How often clients move between two events, and how often everything happens: longer by hand.
MOVES = int(os.environ.get("DUNLIN_MOVES", "25"))
ROUNDS = int(os.environ.get("DUNLIN_MOVE_ROUNDS", "1"))

pytestmark = pytest.mark.timeout(90 + 60 * ROUNDS)


def nodes_with_data(cluster, tmp_path, hosts=(None, None, None)):
    nodes = []
    for number, host in enumerate(hosts):
        options = {"address": host.address, "prefix": host.prefix} if host else {}
        flags = ["--data", str(tmp_path / f"data{number}")]
        nodes.append(cluster.node(join=nodes[:1], flags=flags, **options))
    wait_for_links(*nodes)
    for node in nodes:
        # One that is started again without a seed serves clients before it knows of the others.
        node.join = [other for other in nodes if other is not node]
    return nodes


def test_links_are_reset_and_nodes_killed_and_no_message_is_lost_or_doubled(cluster, tmp_path, seed):
    require(resets_possible(), "resetting connections needs root (or sudo) and a kernel with INET_DIAG_DESTROY")
    nodes = nodes_with_data(cluster, tmp_path)
    journey = Journey(nodes, seed)

    def resets(journey):
        for _ in range(10):
            journey.go_on(max(1, MOVES // 5))
            until(lambda: reset_connections(link_of(journey.random.choice(nodes))) > 0, "links are reset")

    def kill(journey):
        journey.go_on(MOVES)
        killed = journey.random.choice(nodes)
        journey.change({killed: None}, killed.kill)
        journey.go_on(MOVES)
        killed.start()
        # Its clients are served, and it may not have found the others yet.
        journey.change({killed: 1})
        wait_for_links(*nodes)
        journey.change({killed: 0})
        journey.go_on(MOVES)

    for _ in range(ROUNDS):
        journey.live(resets)
        journey.live(kill)
    print(journey.figures())


def test_each_node_is_restarted_in_turn_and_no_message_is_lost_or_doubled(cluster, seed):
    # They keep nothing on disk: a session is at another node before its own ends.
    nodes = []
    for _ in range(3):
        nodes.append(cluster.node(join=nodes[:1], flags=["--drain-time", "1"]))
    wait_for_links(*nodes)
    journey = Journey(nodes, seed)

    def restarts(journey):
        for node in nodes:
            journey.go_on(MOVES)
            journey.world.leaving.add(node)
            assert node.terminate(seconds=30) == 0
            node.join = [other for other in nodes if other is not node]
            journey.go_on(MOVES // 2)
            node.start()
            wait_for_links(*nodes)
            journey.world.leaving.clear()
        journey.go_on(MOVES)

    for _ in range(ROUNDS):
        journey.live(restarts)
    for node in nodes:
        assert not re.search("left=[1-9]", node.log())
    print(journey.figures())


@pytest.mark.parametrize("network", [3], indirect=True)
def test_the_network_is_torn_and_heals_and_no_message_is_lost_or_doubled(cluster, network, tmp_path, seed):
    nodes = nodes_with_data(cluster, tmp_path, network.hosts)
    journey = Journey(nodes, seed)

    def partition(journey):
        journey.go_on(MOVES)
        alone, host = journey.random.choice([*zip(nodes, network.hosts)])
        others = [node for node in nodes if node is not alone]
        starts = {node: node.log_length() for node in nodes}
        journey.change({alone: 1}, lambda: network.isolate(host))
        journey.go_on(2 * MOVES)
        for other in others:
            alone.wait_for_log(f"name={other.name} .*member failed", starts[alone])
            other.wait_for_log(f"name={alone.name} .*member failed", starts[other])

        def heal():
            network.heal()
            wait_for_links(*nodes)

        # Nobody moves until all links are there: what waits for one node may be sent when another has no link yet.
        journey.change({alone: 0}, heal)
        journey.go_on(MOVES)

    for _ in range(ROUNDS):
        journey.live(partition)
    print(journey.figures())
