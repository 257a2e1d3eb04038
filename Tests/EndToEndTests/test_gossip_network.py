"""A ring on a network of its own: torn and healed, with real Serf agents in it, and with names that change."""

import re

import pytest

from dunlin import until
from serf import SerfAgent
from test_gossip_keys import Keys, new_key


WORDS = {"joined": "alive", "restarted": "alive", "failed": "failed", "left": "left"}


def members(node):
    """Name → what the node's log last said of it."""
    lines = re.finditer(rf" name=(\S+) .*member ({'|'.join(WORDS)})$", node.log(), re.MULTILINE)
    return {line[1]: WORDS[line[2]] for line in lines}


@pytest.fixture(params=["plain", "encrypted"])
def mixed(request, cluster, network, tmp_path):
    """Three nodes and two agents, each on a host of its own."""
    node_flags, agent_flags = [], []
    if request.param == "encrypted":
        key, keys = new_key(), Keys(tmp_path / "cluster.keys")
        keys.write(key)
        node_flags, agent_flags = keys.flags, [f"-encrypt={key}"]
    ports = {"gossip": 7946}
    for host in network.hosts[:3]:
        join = [cluster.nodes[0]] if cluster.nodes else []
        cluster.node(address=host.address, prefix=host.prefix, join=join, flags=node_flags, ports=ports)
    agents = []
    for host in network.hosts[3:]:
        log = tmp_path / f"serf{host.number}.log"
        join = cluster.nodes[0].gossip
        agents.append(SerfAgent(host.address, log, join=join, flags=agent_flags, prefix=host.prefix))
    yield [*cluster.nodes, *agents]
    for agent in agents:
        agent.kill()


def view(member):
    """What a member, of either kind, makes of the others."""
    if isinstance(member, SerfAgent):
        return {name: other["status"] for name, other in member.members().items() if name != member.name}
    return members(member)


def wait_for_views(ring, groups, seconds):
    """Until each takes those of its own group for alive, and all others for failed."""

    def wrong():
        for group in groups:
            for member in group:
                expected = {o.name: "alive" if o in group else "failed" for o in ring if o is not member}
                if (seen := view(member)) != expected:
                    return f"{member.name} sees {seen}"
        return None

    until(lambda: wrong() is None, f"all see {[[member.name for member in group] for group in groups]}", seconds)


@pytest.mark.timeout(180)
@pytest.mark.parametrize("network", [5], indirect=True)
def test_a_ring_of_both_kinds_is_torn_and_heals(network, mixed):
    n1, n2, n3, s1, s2 = mixed
    wait_for_views(mixed, [mixed], 30)
    hosts = dict(zip(mixed, network.hosts))
    sides = [[n1, n2, s1], [n3, s2]]
    network.partition(*([hosts[member] for member in side] for side in sides))
    wait_for_views(mixed, sides, 30)
    network.heal()
    wait_for_views(mixed, [mixed], 60)
    for agent in (s1, s2):
        assert not re.search(r"\[ERR\].*(onflict|decrypt|version)", agent.log()), agent.log()


@pytest.mark.parametrize("network", [2], indirect=True)
def test_a_seeds_name_is_looked_up_anew_and_all_its_addresses_are_used(cluster, network):
    first, second = network.hosts
    # Nobody is at these.
    second.write_names(ring_test=["10.89.0.77", "fd00::77"])
    inside = cluster.node(address=first.address, prefix=first.prefix, ports={"gossip": 7946})
    late = cluster.node(address=second.address, prefix=second.prefix, join=["ring.test"])
    late.wait_for_log("seed=ring.test:7946 .*cannot join through seed")
    second.write_names(ring_test=["10.89.0.77", "fd00::77", "10.89.0.78", first.address])
    late.wait_for_log("joined through seed", seconds=30)
    for node, other in [(inside, late), (late, inside)]:
        node.wait_for_log(rf"name={other.name}\b.*member joined")


@pytest.mark.parametrize("network", [1], indirect=True)
def test_a_host_with_public_addresses_only_advertises_one_and_says_what_it_takes(cluster, network):
    host = network.hosts[0]
    host.ip("addr", "flush", "dev", "eth0")
    host.ip("addr", "add", "203.0.113.5/24", "dev", "eth0")
    node = cluster.node(address="0.0.0.0", prefix=host.prefix)
    assert node.ready["gossip"].startswith("203.0.113.5:")
    node.wait_for_log("address=203.0.113.5:.*without a key other nodes ignore it: set --cluster-key-file")


@pytest.mark.parametrize("network", [1], indirect=True)
def test_a_node_bound_to_ipv4_neither_advertises_nor_tries_ipv6(cluster, network):
    host = network.hosts[0]
    host.ip("addr", "add", "fd00::5/64", "dev", "eth0", "nodad")
    host.write_names(ring_test=["fd00::5"])
    node = cluster.node(address="0.0.0.0", prefix=host.prefix, join=["ring.test"])
    assert node.ready["gossip"].startswith(f"{host.address}:")
    node.wait_for_log("it has IPv6 addresses only, and gossip is bound to IPv4: set --bind")


@pytest.mark.parametrize("network", [3], indirect=True)
def test_a_ring_speaks_ipv6(network, cluster):
    for host in network.hosts:
        host.ip("addr", "add", f"fd00::{host.number}/64", "dev", "eth0", "nodad")
    # The last one listens on all addresses of both families, and tells the one that it reaches its seed from.
    for host, address in zip(network.hosts, ["fd00::1", "fd00::2", "::"]):
        join = [f"[fd00::1]:{cluster.nodes[0].ports['gossip']}"] if cluster.nodes else []
        node = cluster.node(address=address, prefix=host.prefix, join=join)
        assert node.ready["gossip"].startswith(f"[fd00::{host.number}]:")
    for node in cluster.nodes:
        for other in cluster.nodes:
            if other is not node:
                node.wait_for_log(rf"peer={other.name}\b.*link up")
    killed = cluster.nodes[2]
    killed.kill()
    for node in cluster.nodes[:2]:
        node.wait_for_log(rf"address=fd00::3:\d+ .*name={killed.name}\b.*member failed")
