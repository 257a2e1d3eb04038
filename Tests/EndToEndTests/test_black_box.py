"""What MQTT 5 has over its predecessors, as independent clients see it: paho-mqtt, and mosquitto's tools."""

import time

import pytest

from certificates import make_authority
from dunlin import unique, until
from mqtt5 import Endpoint, Mosquitto, Peer, mosquitto

ADDRESS = "127.0.0.1"
LISTENERS = ["mqtt", "mqtts", "ws", "wss"]


@pytest.fixture(scope="module")
def authority(tmp_path_factory):
    return make_authority(tmp_path_factory.mktemp("authority"), [ADDRESS])


@pytest.fixture(scope="module")
def node(shared_cluster, authority):
    ports = {listener: 0 for listener in LISTENERS}
    return shared_cluster.node(flags=authority.flags, address=ADDRESS, ports=ports)


def make_endpoint(node, authority, listener):
    return Endpoint(node, listener, authority.certificate if listener in ("mqtts", "wss") else None)


@pytest.fixture(params=LISTENERS)
def endpoint(request, node, authority):
    """Each listener, for paho."""
    return make_endpoint(node, authority, request.param)


@pytest.fixture
def plain(node):
    """One listener, for what takes its time."""
    return Endpoint(node)


@pytest.fixture(params=["mqtt", "mqtts"])
def direct(request, node, authority):
    """Each listener that mosquitto's tools speak to."""
    return make_endpoint(node, authority, request.param)


# MARK: Messages


def test_a_request_finds_its_answer(endpoint):
    question, answers = unique("question"), unique("answers")
    with Peer(endpoint) as service, Peer(endpoint) as asker:
        service.subscribe(question)
        asker.subscribe(answers)
        asker.publish(question, b"2+2", ResponseTopic=answers, CorrelationData=b"\x00\x01")
        request = service.receive()
        service.publish(
            request.properties.ResponseTopic, b"4", qos=1, CorrelationData=request.properties.CorrelationData
        )
        answer = asker.receive()
        assert (answer.payload, answer.properties.CorrelationData) == (b"4", b"\x00\x01")


def test_mosquitto_rr_gets_its_answer(direct):
    question, answers = unique("question"), unique("answers")
    with Peer(direct) as service:
        service.subscribe(question, 1)
        with Mosquitto("rr", direct, "-t", question, "-e", answers, "-m", "ping", "-q", "1", "-W", "10") as asker:
            request = service.receive()
            assert request.payload == b"ping"
            service.publish(request.properties.ResponseTopic, b"pong", qos=1)
            assert asker.line() == "pong"


@pytest.mark.parametrize("qos", [0, 1, 2])
def test_user_properties_and_content_type_go_through(endpoint, qos):
    topic = unique("properties")
    pairs = [("b", "1"), ("a", "ü"), ("b", ""), ("", "x")]
    with Peer(endpoint) as subscriber, Peer(endpoint) as publisher:
        subscriber.subscribe(topic, qos)
        publisher.publish(topic, b"x", qos, UserProperty=pairs, ContentType="text/plain", PayloadFormatIndicator=1)
        content = subscriber.receive().properties
        assert (content.UserProperty, content.ContentType) == (pairs, "text/plain")
        assert content.PayloadFormatIndicator == 1


def test_mosquitto_pubs_properties_reach_mosquitto_sub(direct):
    topic = unique("properties")
    content = []
    for name, *value in (
        ("content-type", "text/csv"),
        ("response-topic", "answers"),
        ("correlation-data", "42"),
        ("user-property", "k", "v"),
    ):
        content += ["-D", "publish", name, *value]
    # Retained, so that nothing depends on who comes first.
    mosquitto("pub", direct, "-t", topic, "-m", "a,b", "-r", "-q", "1", *content)
    arguments = ["-t", topic, "-C", "1", "-W", "10", "-F", "%t|%p|%C|%R|%D|%P"]
    assert mosquitto("sub", direct, *arguments) == [f"{topic}|a,b|text/csv|answers|42|k:v"]
    mosquitto("pub", direct, "-t", topic, "-n", "-r", "-q", "1")


def test_a_message_expires_while_its_receiver_is_away(plain):
    name, topic = unique("away"), unique("expiry")
    with Peer(plain, name, SessionExpiryInterval=60) as subscriber:
        subscriber.subscribe(topic, 1)
    with Peer(plain) as publisher:
        publisher.publish(topic, b"short", qos=1, MessageExpiryInterval=1)
        publisher.publish(topic, b"long", qos=1, MessageExpiryInterval=60)
        publisher.publish(topic, b"for ever", qos=1)
        end = time.monotonic() + 2
        until(lambda: time.monotonic() > end, "the expiry")
    with Peer(plain, name, clean=False, SessionExpiryInterval=60) as subscriber:
        assert subscriber.session_present
        message = subscriber.receive()
        assert message.payload == b"long" and 50 <= message.properties.MessageExpiryInterval <= 59
        message = subscriber.receive()
        assert message.payload == b"for ever" and not hasattr(message.properties, "MessageExpiryInterval")


def test_lines_and_large_payloads_of_mosquitto_pub_arrive(direct):
    topic = unique("lines")
    lines = [f"line {number}" for number in range(1000)]
    with Peer(direct) as subscriber:
        subscriber.subscribe(topic, 2)
        mosquitto("pub", direct, "-t", topic, "-q", "2", "-l", stdin="\n".join(lines) + "\n")
        assert [subscriber.receive().payload.decode() for _ in lines] == lines
        mosquitto("pub", direct, "-t", topic, "-q", "1", "-s", stdin="x" * 1_000_000)
        assert len(subscriber.receive().payload) == 1_000_000


# MARK: Subscriptions


def test_retain_handling_says_when_retained_messages_are_sent(endpoint):
    topic = unique("handling")
    with Peer(endpoint) as client:
        client.publish(topic, b"kept", qos=1, retain=True)
        client.subscribe(topic, 1, handling=2)
        client.expect_nothing()
        client.subscribe(topic, 1, handling=1)
        client.expect_nothing()
        client.subscribe(topic, 1, handling=0)
        assert client.receive().retain
        client.unsubscribe(topic)
        client.subscribe(topic, 1, handling=1)
        assert client.receive().retain
        client.publish(topic, b"", qos=1, retain=True)


def test_mosquitto_sub_gets_retained_messages_as_it_asks(direct):
    topic = unique("handling")
    mosquitto("pub", direct, "-t", topic, "-m", "kept", "-r", "-q", "1")
    assert mosquitto("sub", direct, "-t", topic, "-C", "1", "-F", "%r|%p") == ["1|kept"]
    assert mosquitto("sub", direct, "-t", topic, "--retained-only", "-C", "1", "-W", "5") == ["kept"]
    mosquitto("pub", direct, "-t", topic, "-n", "-r", "-q", "1")
    with Peer(direct) as client:
        client.subscribe(topic)
        client.expect_nothing()


def test_retain_as_published_keeps_the_flag(endpoint):
    topic = unique("flag")
    with Peer(endpoint) as plain_one, Peer(endpoint) as keeper:
        plain_one.subscribe(topic)
        keeper.subscribe(topic, as_published=True)
        plain_one.publish(topic, b"x", qos=1, retain=True)
        assert (plain_one.receive().retain, keeper.receive().retain) == (False, True)
        plain_one.publish(topic, b"", qos=1, retain=True)


def test_no_local_keeps_own_messages_away(endpoint):
    topic = unique("local")
    with Peer(endpoint) as client, Peer(endpoint) as other:
        client.subscribe(topic, 1, no_local=True)
        client.publish(topic, b"own", qos=1)
        other.publish(topic, b"other's", qos=1)
        assert client.receive().payload == b"other's"


def test_a_message_names_the_subscriptions_it_comes_for(endpoint):
    topic = unique("identifiers")
    with Peer(endpoint) as client:
        client.subscribe(topic, SubscriptionIdentifier=1)
        client.subscribe(f"{topic}/#", 1, SubscriptionIdentifier=268_435_455)
        client.subscribe("+", 2)
        client.publish(topic, b"both", qos=1)
        message = client.receive()
        assert sorted(message.properties.SubscriptionIdentifier) == [1, 268_435_455]
        client.publish(f"{topic}/a", b"one", qos=1)
        assert client.receive().properties.SubscriptionIdentifier == [268_435_455]
        client.subscribe(f"{topic}/#")
        client.publish(f"{topic}/a", b"none", qos=1)
        assert not hasattr(client.receive().properties, "SubscriptionIdentifier")


@pytest.mark.parametrize("qos", [0, 1, 2])
def test_a_shared_subscription_gives_each_message_to_one(endpoint, qos):
    topic = unique("work")
    with Peer(endpoint) as first, Peer(endpoint) as second, Peer(endpoint) as all_of_it, Peer(endpoint) as publisher:
        for worker in (first, second):
            assert worker.subscribe(f"$share/workers/{topic}", qos) == [qos]
        all_of_it.subscribe(topic, qos)
        payloads = [str(number).encode() for number in range(100)]
        for payload in payloads:
            publisher.publish(topic, payload, qos)
        assert [all_of_it.receive().payload for _ in payloads] == payloads
        until(lambda: first.messages.qsize() + second.messages.qsize() >= 100, "all the work")
        shares = [[worker.receive().payload for _ in range(worker.messages.qsize())] for worker in (first, second)]
        assert sorted(shares[0] + shares[1], key=int) == payloads
        # Each gets its part, in order.
        assert all(len(share) >= 20 and share == sorted(share, key=int) for share in shares)


def test_work_of_a_member_that_leaves_goes_to_the_others(endpoint):
    topic = unique("work")
    with Peer(endpoint) as stays, Peer(endpoint) as publisher:
        leaves = Peer(endpoint, manual_ack=True, ReceiveMaximum=3)
        for worker in (leaves, stays):
            worker.subscribe(f"$share/workers/{topic}", 1)
        payloads = {str(number).encode() for number in range(40)}
        for payload in payloads:
            publisher.publish(topic, payload, 1)
        # It has three messages that it does not acknowledge, and more wait for it.
        held = {leaves.receive().payload for _ in range(3)}
        leaves.drop()
        done = {stays.receive().payload for _ in payloads}
        assert done == payloads and held < done


# MARK: Connections


def test_a_session_lives_as_long_as_its_expiry(plain):
    name, topic = unique("session"), unique("kept")
    with Peer(plain, name, SessionExpiryInterval=60) as client:
        assert not client.session_present
        client.subscribe(topic, 1)
    with Peer(plain, name, clean=False, SessionExpiryInterval=60) as client:
        assert client.session_present
        client.publish(topic, b"still subscribed", qos=1)
        assert client.receive().payload == b"still subscribed"
        # A shorter one on leaving.
        client.close(SessionExpiryInterval=1)
    end = time.monotonic() + 3
    until(lambda: time.monotonic() > end, "the session's expiry")
    with Peer(plain, name, clean=False) as client:
        assert not client.session_present


def test_a_will_waits_for_its_delay(plain):
    topic, name = unique("will"), unique("mortal")
    will = {"topic": topic, "payload": "gone", "qos": 1, "properties": {"WillDelayInterval": 2}}
    with Peer(plain) as watcher:
        watcher.subscribe(topic, 1)
        Peer(plain, name, will=will, SessionExpiryInterval=60).drop()
        # Back in time: no will.
        again = Peer(plain, name, clean=False, will=will, SessionExpiryInterval=60)
        assert again.session_present
        began = time.monotonic()
        again.drop()
        message = watcher.receive()
        assert message.payload == b"gone" and 1.5 < time.monotonic() - began < 6
        watcher.expect_nothing()


def test_a_client_without_a_name_gets_one(endpoint):
    with Peer(endpoint, client_id="") as first, Peer(endpoint, client_id="") as second:
        names = {peer.connack_properties.AssignedClientIdentifier for peer in (first, second)}
        assert len(names) == 2 and "" not in names


def test_the_receive_maximum_of_a_client_is_kept(endpoint):
    topic = unique("window")
    with Peer(endpoint, manual_ack=True, ReceiveMaximum=2) as slow, Peer(endpoint) as publisher:
        slow.subscribe(topic, 2)
        for number in range(6):
            publisher.publish(topic, str(number), qos=1 + number % 2)
        for number in range(0, 6, 2):
            held = [slow.receive(), slow.receive()]
            assert [message.payload for message in held] == [str(number).encode(), str(number + 1).encode()]
            for message in held:
                slow.acknowledge(message)


def test_the_maximum_packet_size_of_a_client_is_kept(endpoint):
    topic = unique("size")
    with Peer(endpoint, MaximumPacketSize=200) as small, Peer(endpoint) as publisher:
        small.subscribe(topic, 1)
        publisher.publish(topic, b"x" * 1000, qos=1)
        publisher.publish(topic, b"fits", qos=1)
        assert small.receive().payload == b"fits"


def test_topic_aliases_of_a_client_stand_for_their_topics(endpoint):
    topic = unique("alias")
    with Peer(endpoint) as subscriber, Peer(endpoint) as publisher:
        assert publisher.connack_properties.TopicAliasMaximum > 0
        subscriber.subscribe(topic, 2)
        publisher.publish(topic, b"0", TopicAlias=1)
        for qos in (0, 1, 2):
            publisher.publish("", str(qos).encode(), qos, TopicAlias=1)
        received = [subscriber.receive() for _ in range(4)]
        assert [message.topic for message in received] == [topic] * 4


def test_the_broker_uses_topic_aliases_where_a_client_takes_them(endpoint):
    topics = [unique("alias") for _ in range(3)]
    with Peer(endpoint, TopicAliasMaximum=2) as subscriber, Peer(endpoint) as publisher:
        for topic in topics:
            subscriber.subscribe(topic)
        names = {}
        for _ in range(3):
            for topic in topics:
                publisher.publish(topic, topic.encode())
                message = subscriber.receive()
                alias = getattr(message.properties, "TopicAlias", 0)
                assert 0 <= alias <= 2
                if message.topic and alias:
                    names[alias] = message.topic
                # Whatever way the broker takes, the topic can be told.
                assert (message.topic or names[alias]) == message.payload.decode()
        assert names
