"""One node as a broker: sessions, retained messages, wills."""

import pytest

from dunlin import DISCONNECT, DUP, PUBCOMP, PUBLISH, PUBREC, PUBREL, Client, RawSession, unique

SESSION_TAKEN_OVER = 0x8E
VERSIONS = [4, 5]


def test_a_second_connection_with_the_same_client_id_takes_over(one):
    name = unique("gateway")
    with RawSession(one, name, version=5) as first, RawSession(one, name, version=5) as second:
        kind, body = first.packet()
        assert (kind, body[0]) == (DISCONNECT, SESSION_TAKEN_OVER)
        assert first.at_end()
        assert second.session_present


def test_in_the_old_protocol_a_takeover_just_closes_the_connection(one):
    name, topic = unique("gateway"), unique("old")
    with RawSession(one, name) as first, RawSession(one, name) as second:
        assert first.at_end()
        second.subscribe(topic, 1)
        with Client(one) as publisher:
            publisher.publish(topic, "hello", 1)
        assert second.packet()[0] == PUBLISH | 1 << 1


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
def test_what_was_not_acknowledged_is_delivered_again_with_its_identifier(one, qos):
    name, topic = unique("unacknowledged"), unique("again")
    with RawSession(one, name) as client:
        client.subscribe(topic, qos)
        with Client(one) as publisher:
            publisher.publish(topic, "important", qos)
        kind, body = client.packet()
        assert kind == PUBLISH | qos << 1
    with RawSession(one, name) as client:
        assert client.session_present
        assert client.packet() == (PUBLISH | qos << 1 | DUP, body)


def test_a_qos_2_delivery_goes_on_where_it_was(one):
    name, topic = unique("halfway"), unique("once")
    with RawSession(one, name) as client:
        client.subscribe(topic, 2)
        with Client(one) as publisher:
            publisher.publish(topic, "once", 2)
        _kind, body = client.packet()
        identifier = body[2 + len(topic) :][:2]
        client.send(PUBREC, identifier)
        assert client.packet() == (PUBREL, identifier)
    with RawSession(one, name) as client:
        # The message itself has been received: only its release is repeated.
        assert client.packet() == (PUBREL, identifier)
        client.send(PUBCOMP, identifier)
    with RawSession(one, name) as client:
        client.subscribe(topic + "/end", 0)
        with Client(one) as publisher:
            publisher.publish(topic + "/end", "end")
        assert client.packet()[0] == PUBLISH


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
