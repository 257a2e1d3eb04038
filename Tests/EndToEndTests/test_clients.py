"""What a user sees first: mosquitto_sub at one node, mosquitto_pub at another."""

import pytest

from dunlin import Subscriber, mosquitto_pub, settle_subscriber, unique


@pytest.mark.parametrize("version", ["31", "311", "5"])
@pytest.mark.parametrize("qos", [0, 1, 2])
def test_a_message_reaches_a_subscriber_on_every_node(three, qos, version):
    topic = unique("plant/line") + "/temperature"
    publisher_node, *other_nodes = three
    for node in [publisher_node, *other_nodes]:
        with Subscriber(node, topic.replace("/temperature", "/+"), qos, version) as subscriber:
            settle_subscriber(subscriber, topic, [publisher_node])
            for number in range(5):
                mosquitto_pub(publisher_node, topic, f"reading {number}", qos, version)
            # At QoS 0 nothing promises the order of messages of five different connections.
            expected = [f"{topic}|{qos}|0|reading {number}" for number in range(5)]
            assert sorted(subscriber.lines(5)) == expected


@pytest.mark.parametrize("published, subscribed", [(0, 2), (1, 2), (2, 1), (2, 0), (1, 0)])
def test_the_lower_quality_of_service_counts_also_across_nodes(three, published, subscribed):
    topic = unique("qos")
    with Subscriber(three[2], topic, subscribed, "5") as subscriber:
        settle_subscriber(subscriber, topic, [three[0]])
        mosquitto_pub(three[0], topic, "hello", published, "5")
        assert subscriber.line() == f"{topic}|{min(published, subscribed)}|0|hello"


@pytest.mark.parametrize("published, subscribed", [("311", "5"), ("5", "311"), ("31", "5")])
def test_old_and_new_protocol_versions_talk_to_each_other(three, published, subscribed):
    topic = unique("versions")
    with Subscriber(three[2], topic, 1, subscribed) as subscriber:
        settle_subscriber(subscriber, topic, [three[0]])
        mosquitto_pub(three[0], topic, "hello", 1, published)
        assert subscriber.line() == f"{topic}|1|0|hello"


def test_a_wildcard_subscription_gets_each_message_once(three):
    stem = unique("building")
    with Subscriber(three[1], f"{stem}/#", 1, "5") as subscriber:
        settle_subscriber(subscriber, f"{stem}/probe", [three[0], three[2]])
        for node in three:
            mosquitto_pub(node, f"{stem}/{node.name}/door", "open", 1, "5")
        assert sorted(subscriber.lines(3)) == sorted(f"{stem}/{node.name}/door|1|0|open" for node in three)
        assert not subscriber.has_line()
