"""One node as a broker: sessions, retained messages, wills."""

import pytest

from dunlin import Client, until, unique

SESSION_TAKEN_OVER = 0x8E
VERSIONS = [4, 5]


@pytest.mark.parametrize("version", VERSIONS)
def test_a_second_connection_with_the_same_client_id_takes_over(one, version):
    name = unique("gateway")
    with Client(one, name, version) as first, Client(one, name, version) as second:
        until(first.ended.is_set, "the first connection ends")
        if version == 5:
            assert first.end_reason == SESSION_TAKEN_OVER
        second.subscribe(name)
        second.publish(name, "still here")
        assert second.payloads(1) == ["still here"]


def resume(node, name, version, **options):
    """A client whose session outlives its connection."""
    return Client(node, name, version, clean=False, expiry=300 if version == 5 else None, **options)


@pytest.mark.parametrize("version", VERSIONS)
def test_a_persistent_session_queues_while_its_client_is_away(one, version):
    name, topic = unique("away"), unique("queue")
    with resume(one, name, version) as client:
        assert not client.session_present
        client.subscribe(topic, 1)
    with Client(one) as publisher:
        for number in range(20):
            publisher.publish(topic, str(number), qos=1)
    with resume(one, name, version) as client:
        assert client.session_present
        assert client.payloads(20) == [str(number) for number in range(20)]


@pytest.mark.parametrize("qos", [1, 2])
@pytest.mark.parametrize("version", VERSIONS)
def test_what_was_not_acknowledged_is_delivered_again(one, version, qos):
    name, topic = unique("unacknowledged"), unique("again")
    client = resume(one, name, version, manual_ack=True)
    client.subscribe(topic, qos)
    with Client(one) as publisher:
        publisher.publish(topic, "important", qos)
    message = client.receive()
    assert not message.dup
    client.drop()
    with resume(one, name, version) as client:
        assert client.session_present
        message = client.receive()
        assert message.payload == b"important"
        assert message.qos == qos


@pytest.mark.parametrize("version", VERSIONS)
def test_a_clean_start_ends_the_old_session(one, version):
    name, topic = unique("clean"), unique("old")
    with resume(one, name, version) as client:
        client.subscribe(topic, 1)
    with Client(one, name, version, clean=True) as client:
        assert not client.session_present
        client.publish(topic, "for the old session", qos=1)
        client.subscribe(topic + "/end")
        client.publish(topic + "/end", "end")
        assert client.payloads(1) == ["end"]


def test_a_retained_message_waits_for_subscribers(one):
    stem = unique("retained")
    with Client(one) as client:
        client.publish(f"{stem}/a", "first", 1, retain=True)
        client.publish(f"{stem}/a", "second", 1, retain=True)
        client.publish(f"{stem}/b", "other", 1, retain=True)
        client.subscribe(f"{stem}/#", 1)
        messages = [client.receive(), client.receive()]
        assert sorted((message.topic, message.payload, message.retain) for message in messages) == [
            (f"{stem}/a", b"second", True),
            (f"{stem}/b", b"other", True),
        ]


def test_an_empty_retained_message_deletes(one):
    topic = unique("deleted")
    with Client(one) as client:
        client.publish(topic, "value", 1, retain=True)
        client.publish(topic, "", 1, retain=True)
        client.subscribe(topic, 1)
        client.publish(topic, "fresh", 1)
        message = client.receive()
        assert (message.payload, message.retain) == (b"fresh", False)


@pytest.mark.parametrize("version", VERSIONS)
def test_a_lost_connection_publishes_the_will(one, version):
    topic = unique("will")
    with Client(one) as watcher:
        watcher.subscribe(topic, 1)
        client = Client(one, version=version, will={"topic": topic, "payload": "gone", "qos": 1})
        client.drop()
        assert watcher.payloads(1) == ["gone"]


@pytest.mark.parametrize("version", VERSIONS)
def test_a_disconnect_deletes_the_will(one, version):
    topic = unique("will")
    with Client(one) as watcher:
        watcher.subscribe(topic, 1)
        with Client(one, version=version, will={"topic": topic, "payload": "gone", "qos": 1}):
            pass
        watcher.publish(topic, "nothing happened", 1)
        assert watcher.payloads(1) == ["nothing happened"]


def test_an_unsubscribed_client_gets_nothing_more(one):
    topic = unique("unsubscribed")
    with Client(one) as client:
        client.subscribe(topic, 1)
        client.publish(topic, "wanted", 1)
        assert client.payloads(1) == ["wanted"]
        client.unsubscribe(topic)
        client.publish(topic, "unwanted", 1)
        client.subscribe(topic, 1)
        client.publish(topic, "wanted again", 1)
        assert client.payloads(1) == ["wanted again"]
