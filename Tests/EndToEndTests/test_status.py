"""What a node says of itself: the $SYS topics."""

import re

import pytest

from dunlin import ROOT, Client, settle, unique, until

FLAGS = ["--sys-interval", "1"]


@pytest.fixture(scope="module")
def nodes(shared_cluster, tmp_path_factory):
    first = shared_cluster.node(flags=[*FLAGS, "--data", str(tmp_path_factory.mktemp("data"))])
    return first, shared_cluster.node(join=[first], flags=FLAGS)


def documented_topics():
    page = (ROOT / "docs/monitoring.md").read_text()
    topics = set()
    for topic in re.findall(r"^\| `(\$SYS/[^`]+)`", page, re.MULTILINE):
        parts = ["1min", "5min", "15min"] if topic.endswith("/+") else [""]
        topics |= {topic.removesuffix("+") + part for part in parts}
    return topics


class Watcher(Client):
    """A client that knows the last value of each topic."""

    def __init__(self, node, topic_filter):
        super().__init__(node)
        self._values = {}
        self.subscribe(topic_filter)

    def values(self):
        while not self.messages.empty():
            message = self.messages.get()
            self._values[message.topic] = message.payload.decode()
        return self._values

    def wait(self, topic, value):
        until(lambda: self.values().get(topic) == value, f"{topic} is {value}: {self.values().get(topic)}")


def test_every_documented_topic_is_published_and_every_published_one_is_documented(nodes):
    with Watcher(nodes[0], "$SYS/#") as watcher:
        until(lambda: documented_topics() == set(watcher.values()), "all topics that are documented, and no other")


def test_the_values_have_mosquittos_forms(nodes):
    with Watcher(nodes[0], "$SYS/#") as watcher:
        until(lambda: "$SYS/broker/version" in watcher.values(), "values")
        values = watcher.values()
        assert re.fullmatch(r"dunlin version \d+\.\d+\.\d+", values.pop("$SYS/broker/version"))
        assert re.fullmatch(r"\d+ seconds", values.pop("$SYS/broker/uptime"))
        for topic, value in values.items():
            assert re.fullmatch(r"\d+\.\d\d" if "/load/" in topic else r"\d+", value), f"{topic}: {value}"


def test_each_node_has_its_own_values(nodes):
    with Watcher(nodes[0], "$SYS/broker/clients/connected") as first:
        with Watcher(nodes[1], "$SYS/broker/clients/connected") as second, Client(nodes[1]), Client(nodes[1]):
            first.wait("$SYS/broker/clients/connected", "1")
            second.wait("$SYS/broker/clients/connected", "3")
            # Not even for a moment has the other node's value been here.
            assert first.messages.empty() or first.values()["$SYS/broker/clients/connected"] == "1"


def test_the_counters_follow_what_happens(nodes):
    topic = unique("counted")
    with Watcher(nodes[0], "$SYS/broker/publish/#") as watcher, Client(nodes[0]) as client:
        received = "$SYS/broker/publish/messages/received"
        payload = "$SYS/broker/publish/bytes/received"
        until(lambda: received in watcher.values() and payload in watcher.values(), "values")
        before = dict(watcher.values())
        for _ in range(10):
            client.publish(topic, "12345", qos=1)
        watcher.wait(received, str(int(before[received]) + 10))
        watcher.wait(payload, str(int(before[payload]) + 50))


def test_an_interval_of_zero_publishes_nothing(cluster):
    node = cluster.node(flags=["--sys-interval", "0"])
    with Client(node) as client:
        client.subscribe("$SYS/#")
        client.subscribe("mine")
        client.publish("mine", "last")
        assert client.payloads(1) == ["last"]


def test_links_are_counted_together(nodes):
    with Watcher(nodes[0], "$SYS/broker/links/#") as watcher, Client(nodes[1]) as receiver:
        watcher.wait("$SYS/broker/links/connected", "1")
        topic = unique("crossing")
        receiver.subscribe(topic, 1)
        settle(receiver, topic, [nodes[0]])
        before = int(watcher.values()["$SYS/broker/links/messages-sent"])
        with Client(nodes[0]) as sender:
            for _ in range(20):
                sender.publish(topic, "over", qos=1)
        receiver.payloads(20)
        until(
            lambda: int(watcher.values()["$SYS/broker/links/messages-sent"]) >= before + 20,
            "the messages are counted",
        )
        values = watcher.values()
        assert int(values["$SYS/broker/links/bytes-sent-raw"]) > 0
        assert values["$SYS/broker/links/dropped/lost"] == values["$SYS/broker/links/missing"] == "0"
