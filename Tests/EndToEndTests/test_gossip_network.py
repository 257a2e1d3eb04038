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
        key, keys = new_key(), Keys(tmp_path / "gossip.keys")
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
