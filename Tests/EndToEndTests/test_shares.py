"""Shared subscriptions over three nodes: one member of a group gets each message, whoever comes, goes or dies."""

import collections
import threading

import pytest

from dunlin import Client, unique, until

GROUP = "$share/g/"


class Member(Client):
    """A member with a session that is kept. It notes what it gets: payload, and whether that was said to be a repetition."""

    def __init__(self, node, topic, qos):
        super().__init__(node, unique(f"member-{node.name}"), clean=False, expiry=300)
        self.node = node
        self.received = []
        self._client.on_message = lambda _client, _userdata, message: self.received.append(
            (message.payload.decode(), message.dup)
        )
        self.subscribe(GROUP + topic, qos)

    def come_back(self):
        """The same client, with what it remembers of QoS 2, on a new connection."""
        self.ended.clear()
        self.connack = None
        self._client.reconnect()
        self._client.loop_start()
        until(lambda: self.connack, f"CONNACK for {self.client_id}")
        assert self.session_present


class Publisher:
    """Publishes one message after the other until it is told to stop or loses its connection."""

    def __init__(self, node, topic, qos):
        self.acknowledged = []
        self.uncertain = []
        self._stopped = threading.Event()
        self._client = Client(node)
        self._thread = threading.Thread(target=self._run, args=(topic, qos))
        self._thread.start()

    def _run(self, topic, qos):
        number = 0
        while not self._stopped.is_set() and not self._client.ended.is_set():
            payload = f"{self._client.client_id} {number}"
            information = self._client._client.publish(topic, payload, qos)
            number += 1
            until(lambda: information.is_published() or self._client.ended.is_set(), f"an answer to {payload}")
            (self.acknowledged if information.is_published() else self.uncertain).append(payload)

    def stop(self):
        self._stopped.set()
        self._thread.join()
        self._client.close()


def counts(members):
    return collections.Counter(payload for member in members for payload, _ in member.received)


@pytest.mark.parametrize("qos", [1, 2])
def test_each_message_goes_to_one_member_while_members_and_a_node_come_and_go(cluster, tmp_path, qos):
    first = cluster.node()
    nodes = [first, cluster.node(join=[first]), cluster.node(join=[first], flags=["--data", str(tmp_path / "data")])]
    topic = unique("load")
    # The first node has no member at times, so that its publisher's messages cross links.
    members = [Member(node, topic, qos) for node in [nodes[0], nodes[1], nodes[1], nodes[2], nodes[2]]]
    publishers = [Publisher(node, topic, qos) for node in nodes]
    sent = lambda: len(publishers[0].acknowledged)  # noqa: E731

    def until_more(count):
        target = sent() + count
        until(lambda: sent() >= target, f"{count} more messages")

    try:
        until_more(50)
        for _ in range(3):
            for member in [members[0], members[1], members[3]]:
                member.drop()
                until_more(20)
                member.come_back()
                until_more(10)
        members[0].drop()
        settled = {payload for publisher in publishers for payload in publisher.acknowledged}
        until_more(50)
        nodes[2].kill()
        until_more(100)
        nodes[2].start()
        for member in [members[0], *members[3:]]:
            member._client.loop_stop()
            member.come_back()
        until_more(50)
    finally:
        for publisher in publishers:
            publisher.stop()
    acknowledged = {payload for publisher in publishers for payload in publisher.acknowledged}
    until(lambda: acknowledged <= counts(members).keys(), "every acknowledged message is with a member", 30)
    if qos == 2:
        assert set(counts(members).values()) == {1}
    else:
        # Again only as a repetition, or where the node that died may have had it.
        receivers = collections.defaultdict(list)
        for member in members:
            for payload, is_repetition in member.received:
                if not is_repetition:
                    receivers[payload].append(member.node)
        for payload, of in receivers.items():
            assert len(of) == 1 or (payload not in settled and nodes[2] in of), payload
    assert all(member.received for member in members)
    for member in members:
        member.close()


STRATEGIES = ["random", "round-robin", "sticky", "hash-client", "hash-topic"]


@pytest.mark.parametrize("strategy, qos", [("local", qos) for qos in range(3)] + [(name, 1) for name in STRATEGIES])
def test_each_message_goes_to_one_member_under_load(cluster, mqload, strategy, qos):
    flags = ["--share-strategy", strategy]
    first = cluster.node(flags=flags)
    nodes = [first, *(cluster.node(join=[first], flags=flags) for _ in range(2))]
    every, others = [",".join(node.host for node in some) for some in [nodes, nodes[1:]]]
    for publishing, subscribing in [(every, every), (first.host, others)]:
        hosts = ["--pub-host", publishing, "--sub-host", subscribing]
        mqload("shared", "-p", 6, "-c", 12, "-g", 4, "-q", qos, "-n", 20_000, *hosts).finish()


def test_a_topic_has_one_member_whatever_node_it_is_published_at(cluster):
    flags = ["--share-strategy", "hash-topic"]
    first = cluster.node(flags=flags)
    nodes = [first, *(cluster.node(join=[first], flags=flags) for _ in range(2))]
    topic = unique("hashed")
    members = [Member(node, topic + "/+", 1) for node in nodes for _ in range(2)]
    publishers = [Client(node) for node in nodes]
    topics = [f"{topic}/{number}" for number in range(30)]
    for name in topics:
        for publisher in publishers:
            publisher.publish(name, name, 1)
    until(lambda: sum(counts(members).values()) == 3 * len(topics), "all messages")
    for member in members:
        assert set(counts([member]).values()) <= {3}
    assert len([member for member in members if member.received]) > 3
    for client in members + publishers:
        client.close()


@pytest.mark.parametrize("publishing", [0, 2])
def test_a_group_whose_members_are_all_away_has_each_message_wait_for_one_of_them(cluster, publishing):
    nodes = cluster.grow(3)
    topic = unique("away")
    members = [Member(node, topic, 1) for node in [nodes[0], nodes[0], nodes[1]]]
    for member in members:
        member.drop()
    with Client(nodes[publishing]) as publisher:
        sent = [str(number) for number in range(20)]
        for payload in sent:
            publisher.publish(topic, payload, 1)
    for member in members:
        member.come_back()
    until(lambda: counts(members).keys() == set(sent), "all messages")
    with Client(nodes[publishing]) as publisher:
        publisher.publish(topic, "last", 1)
    until(lambda: "last" in counts(members), "the last message")
    assert set(counts(members).values()) == {1}
    for member in members:
        member.close()
