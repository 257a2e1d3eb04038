"""Several nodes as one broker: nodes join late, die and come back."""

import re
import threading

from dunlin import Client, Subscriber, mosquitto_pub, settle, settle_subscriber, until, unique


def test_a_retained_message_reaches_nodes_that_join_later(cluster):
    first, second = cluster.grow(2)
    topic = unique("late")
    mosquitto_pub(second, topic, "early", 1, "5", retain=True)
    late = cluster.node(join=[first])
    # At once: a node serves no client before it has what the others have.
    with Subscriber(late, topic, 1) as subscriber:
        assert subscriber.line() == f"{topic}|1|1|early"


def test_nodes_find_each_other_through_any_seed(cluster):
    first = cluster.node()
    second = cluster.node(join=[first])
    third = cluster.node(join=[second])
    topic = unique("chain")
    with Client(third) as client:
        client.subscribe(topic, 1)
        settle(client, topic, [first, second])


def test_the_last_of_two_retained_messages_wins_on_every_node(cluster):
    nodes = cluster.grow(3)
    topic = unique("rewritten")
    for number in range(6):
        mosquitto_pub(nodes[number % 3], topic, f"value {number}", 1, "5", retain=True)
    for node in nodes:
        until(lambda: retained_value(node, topic) == "value 5", f"{node.name} has the last value")


def retained_value(node, topic):
    """What a new subscriber at the node is given."""
    with Client(node) as client:
        client.subscribe(topic, 1)
        client.subscribe(topic + "/end", 1)
        client.publish(topic + "/end", "end", 1)
        message = client.receive()
        return message.payload.decode() if message.topic == topic else None


def test_a_will_reaches_subscribers_on_other_nodes(cluster):
    first, second = cluster.grow(2)
    topic = unique("will")
    with Client(second) as watcher:
        watcher.subscribe(topic, 1)
        settle(watcher, topic, [first])
        Client(first, will={"topic": topic, "payload": "gone", "qos": 1}).drop()
        assert watcher.payloads(1) == ["gone"]


def test_survivors_keep_serving_while_a_node_dies_and_comes_back(cluster):
    first, second, third = cluster.grow(3)
    topic = unique("survivors")
    with Client(first) as publisher, Client(second) as subscriber:
        subscriber.subscribe(topic, 1)
        settle(subscriber, topic, [first])
        sent = 0
        stopped = threading.Event()

        def publish():
            nonlocal sent
            while not stopped.is_set():
                publisher.publish(topic, str(sent), 1)
                sent += 1

        thread = threading.Thread(target=publish)
        thread.start()
        try:
            third.kill()
            received = subscriber.payloads(50)
            third.start()
            received += subscriber.payloads(50)
        finally:
            stopped.set()
            thread.join()
        received += subscriber.payloads(sent - len(received))
        assert received == [str(number) for number in range(sent)]


def test_a_reborn_node_gets_subscriptions_and_retained_messages_back(cluster):
    first, second, third = cluster.grow(3)
    topic, kept = unique("reborn"), unique("kept")
    mosquitto_pub(third, kept, "before the crash", 1, retain=True)
    with Subscriber(first, topic, 1) as subscriber:
        settle_subscriber(subscriber, topic, [third])
        until(lambda: retained_value(first, kept) == "before the crash", "the retained message is at the first node")
        third.kill()
        mosquitto_pub(second, kept, "during the outage", 1, retain=True)
        third.start()
        # Nobody subscribes or publishes anew: the reborn node learns both from its peers before it serves a client.
        mosquitto_pub(third, topic, "from the reborn", 1)
        assert subscriber.line() == f"{topic}|1|0|from the reborn"
        assert retained_value(third, kept) == "during the outage"


def test_the_first_node_comes_back_without_a_seed_of_its_own(cluster):
    first, second = cluster.grow(2)
    topic = unique("first")
    with Client(second) as client:
        client.subscribe(topic, 1)
        settle(client, topic, [first])
        first.kill()
        # It is started without --join: it is the others that remember it.
        first.start()
        settle(client, topic, [first])


def test_a_node_that_leaves_takes_its_subscriptions_with_it(cluster):
    first, second = cluster.grow(2)
    topic = unique("left")
    with Client(second) as client:
        client.subscribe(topic, 1)
        settle(client, topic, [first])
        assert second.terminate() == 0
    with Client(first) as publisher:
        for number in range(100):
            publisher.publish(topic, str(number), 1)


def test_after_suback_a_publish_at_another_node_is_delivered(cluster):
    first, second = cluster.grow(2)
    with Client(first) as subscriber, Client(second) as publisher:
        linked = unique("linked")
        subscriber.subscribe(linked)
        settle(subscriber, linked, [second])
        for number in range(50):
            # At QoS 0 and at once: what is not routed yet is lost, and nothing would repeat it.
            subscriber.subscribe(f"at-once/{number}")
            publisher.publish(f"at-once/{number}", str(number), qos=0)
        assert subscriber.payloads(50) == [str(number) for number in range(50)]


def test_what_becomes_of_a_member_is_logged_once(cluster):
    first, second = cluster.grow(2)
    assert second.terminate() == 0
    first.wait_for_log(rf"name={second.name}\b.*member left")
    lines = re.findall(rf".*\b{second.name}\b.*(joined|left)$", first.log(), re.MULTILINE)
    assert lines == ["joined", "left"]
