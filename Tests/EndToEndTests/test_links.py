"""Bridge links that break: nothing lost, nothing doubled, order kept."""

import os
import subprocess

import pytest

from dunlin import established, require, reset_connections, resets_possible, until

# The acceptance run does a hundred: DUNLIN_LINK_RESETS=100
ROUNDS = int(os.environ.get("DUNLIN_LINK_RESETS", "10"))


def link_of(node):
    """The established links that peers have opened to the node."""
    return f"dst {node.address} dport = :{node.ports['link']}"


@pytest.mark.timeout(60 + 3 * ROUNDS)
@pytest.mark.parametrize("qos", [1, 2])
def test_a_link_that_is_reset_again_and_again_loses_and_doubles_nothing(two, mqload, qos):
    require(resets_possible(), "resetting connections needs root (or sudo) and a kernel with INET_DIAG_DESTROY")
    first, second = two
    seconds = 2 + ROUNDS * 0.6
    load = mqload(
        *("pair", "-p", 20, "-q", qos, "-V", 5, "-d", seconds, "--fill", "json", "-s", 176, "--settle", 500),
        *("--timeout", 15, "--pub-host", first.host, "--sub-host", second.host),
    )
    # Data of these pairs flows on the link that the first node opens; each round takes a connection not seen before.
    broken = set()
    for number in range(ROUNDS):
        fresh = until(lambda: established(link_of(second)) - broken, f"the link is up in round {number}")
        until(lambda: carries_data(fresh) or not load.running(), f"messages cross the link in round {number}")
        assert load.running(), f"the load ended before round {number}: {load.finish()}"
        assert reset_connections(link_of(second)) > 0
        broken |= fresh
    figures = load.finish(120)
    assert figures["delivered"] == figures["sent"] > 0


def carries_data(connections):
    """Whether one of the connections has sent more than its hello: the reset then hits a busy stream."""
    output = subprocess.run(["ss", "-Htin", "state", "established"], capture_output=True, text=True, check=True).stdout
    lines = output.splitlines()
    for head, details in zip(lines[::2], lines[1::2]):
        if tuple(head.split()[2:4]) in connections:
            sent = [int(word.split(":")[1]) for word in details.split() if word.startswith("bytes_sent:")]
            if sent and sent[0] > 20_000:
                return True
    return False
