"""How soon a ring knows of a death, and that it does not make one up.

A few rounds each; CONTRIBUTING.md says how to make it as many as the figures in docs/gossip.md come from.
"""

import math
import os
import re
import subprocess
import sys
import time

import pytest

from dunlin import PATIENCE, until

KILLS = int(os.environ.get("DUNLIN_KILLS", "5"))
SILENCES = int(os.environ.get("DUNLIN_SILENCES", "2"))
STRESS_SECONDS = float(os.environ.get("DUNLIN_STRESS_SECONDS", "10"))


def delays(nodes, pattern, starts, begun, seconds=PATIENCE):
    """When each node's log first had what matches, in seconds since `begun`; looked at every millisecond."""
    seen = {}
    while len(seen) < len(nodes):
        for node in nodes:
            if node not in seen and re.search(pattern, node.log(starts[node])):
                seen[node] = time.monotonic() - begun
        missing = [node.name for node in nodes if node not in seen]
        assert not missing or time.monotonic() - begun < seconds, f"/{pattern}/ is not in the logs of {missing}"
        time.sleep(0.001)
    return list(seen.values())


def report(what, times):
    """Prints the distribution, for who asks for it with -s, and returns its 99th percentile."""
    ordered = sorted(times)
    at = lambda share: ordered[math.ceil(share * len(ordered)) - 1]
    figures = ", ".join(f"{name} {at(share) * 1000:.0f}" for name, share in [("p50", 0.5), ("p99", 0.99), ("most", 1)])
    print(f"\n{what}: {len(times)} observations, {figures} ms")
    return at(0.99)


def lengths(nodes):
    return {node: node.log_length() for node in nodes}


def wait_for_links(nodes, starts):
    """Each of the nodes has logged that its links to all others are up."""
    for node in nodes:
        for other in nodes:
            if other is not node:
                node.wait_for_log(rf"peer={other.name}\b.*link up", start=starts[node].get(other, 0))


@pytest.mark.timeout(60 + 5 * KILLS)
@pytest.mark.parametrize("size", [3, 5])
def test_every_node_knows_of_a_killed_process_within_a_quarter_of_a_second(cluster, size):
    nodes = cluster.grow(size)
    # From where on in its log a node must have said that its link to another is up.
    starts = {node: {} for node in nodes}
    times = []
    for number in range(KILLS):
        wait_for_links(nodes, starts)
        victim = nodes[number % size]
        others = [node for node in nodes if node is not victim]
        before = lengths(others)
        begun = time.monotonic()
        victim.kill()
        times += delays(others, rf"name={victim.name}\b.*member failed", before, begun)
        for node in others:
            starts[node][victim] = node.log_length()
            starts[victim][node] = victim.log_length()
        victim.join = [others[0]]
        victim.start()
    assert report(f"kill -9 in a ring of {size}, {KILLS} kills", times) <= 0.25


def wait_until_quiet(nodes, seconds):
    """Until no log has had a new line for so long. Who was cut off itself judges slowly for a while afterwards, and
    that is not what is measured."""
    last = (lengths(nodes), time.monotonic())

    def is_quiet():
        nonlocal last
        now = lengths(nodes)
        if now != last[0]:
            last = (now, time.monotonic())
        return time.monotonic() - last[1] > seconds

    until(is_quiet, f"{seconds} s without a line in any log", 60)


@pytest.mark.timeout(120 + 60 * SILENCES)
@pytest.mark.parametrize("network", [3, 5], indirect=True)
def test_every_node_knows_within_three_seconds_of_a_host_that_has_gone_silent(cluster, network):
    for host in network.hosts:
        join = [cluster.nodes[0]] if cluster.nodes else []
        cluster.node(address=host.address, prefix=host.prefix, join=join)
    nodes = list(cluster.nodes)
    for node in nodes:
        for other in nodes:
            if other is not node:
                node.wait_for_log(rf"name={other.name}\b.*member joined")
    times = []
    for number in range(SILENCES):
        if number > 0:
            wait_until_quiet(nodes, 8)
        victim = nodes[number % len(nodes)]
        others = [node for node in nodes if node is not victim]
        before = lengths(nodes)
        begun = time.monotonic()
        network.isolate(network.hosts[number % len(nodes)])
        times += delays(others, rf"name={victim.name}\b.*member failed", before, begun)
        # The one that was cut off, and cannot know that it is, gives the others more time; in the end all are back.
        for node in others:
            victim.wait_for_log(rf"name={node.name}\b.*member failed", start=before[victim], seconds=60)
        healed = lengths(nodes)
        network.heal()
        for node in others:
            node.wait_for_log(rf"name={victim.name}\b.*member joined", start=healed[node], seconds=30)
            victim.wait_for_log(rf"name={node.name}\b.*member joined", start=healed[victim], seconds=30)
    assert report(f"silent host in a ring of {len(nodes)}, {SILENCES} cuts", times) <= 3.0


@pytest.mark.timeout(60 + 2 * STRESS_SECONDS)
def test_nobody_dies_of_busy_cores(cluster):
    nodes = cluster.grow(3)
    for node in nodes:
        for other in nodes:
            if other is not node:
                node.wait_for_log(rf"name={other.name}\b.*member joined")
    # Twice as many processes that compute as there are cores.
    loop = f"import time\nend = time.monotonic() + {STRESS_SECONDS}\nwhile time.monotonic() < end: pass"
    busy = [subprocess.Popen([sys.executable, "-c", loop]) for _ in range(2 * os.cpu_count())]
    try:
        for process in busy:
            assert process.wait(PATIENCE + 2 * STRESS_SECONDS) == 0
    finally:
        for process in busy:
            process.kill()
    for node in nodes:
        assert "member failed" not in node.log(), node.log()
    suspicions = sum(node.log().count("member does not answer") for node in nodes)
    print(f"\n{STRESS_SECONDS:g} s with {len(busy)} busy processes: no death, {suspicions} suspicions, all refuted")
