"""Clients that keep to the letter of the protocol and do as much harm as they can: slow, endless, deep, many."""

import contextlib
import itertools
import random
import socket
import time

import pytest

from dunlin import unique, until
from wire import CONNACK, DISCONNECT, PINGREQ, PINGRESP, PUBACK, PUBCOMP, PUBLISH, PUBREC, PUBREL, SUBACK, UNSUBACK
from wire import Raw, Witness, connect, is_steady, packet, properties, publish, subscribe, text, u16, unsubscribe

# Seconds that a connection may take for its CONNECT, by default.
CONNECT_TIMEOUT = 10
MEBIBYTE = 1024 * 1024


@pytest.fixture(scope="module")
def node(shared_cluster):
    return shared_cluster.node(flags=["--max-queued-bytes", str(MEBIBYTE)])


@pytest.fixture(scope="module", autouse=True)
def silent(node):
    """Connections that never send, send half a CONNECT, or go on sending it for ever; opened first, looked at last."""
    beginnings = (
        [b""] * 40 + [connect("x")[:size] for size in (1, 2, 3, 8, 15)] + [b"\x10\xff\xff\x3f" + b"a" * 5000] * 5
    )
    connections = [Raw(node.mqtt) for _ in beginnings]
    opened = time.monotonic()
    for connection, beginning in zip(connections, beginnings):
        connection.send(beginning)
    yield opened, connections
    for connection in connections:
        connection.socket.close()


@pytest.fixture(scope="module")
def witness(node):
    witness = Witness(node, unique("witness"))
    yield witness
    witness.close()


@pytest.fixture(autouse=True)
def others_are_served(witness):
    yield
    witness.check()


def is_ended(raw):
    """Whether the broker has closed the connection."""
    raw.socket.setblocking(False)
    try:
        return raw.socket.recv(1) == b""
    except BlockingIOError:
        return False
    except ConnectionResetError:
        return True
    finally:
        raw.socket.setblocking(True)


# MARK: Odd, but legal


@pytest.mark.parametrize(
    "sent, answer",
    [
        (packet(PUBACK, u16(7)), b""),
        (packet(PUBACK, u16(7) + b"\x97"), b""),
        (packet(PUBCOMP, u16(7)), b""),
        (packet(PUBREC, u16(7) + b"\x80"), b""),
        (packet(PUBREC, u16(7)), packet(PUBREL, u16(7) + b"\x92")),
        (packet(PUBREL, u16(7)), packet(PUBCOMP, u16(7) + b"\x92")),
        (packet(PUBREL, u16(65_535) + b"\x92"), packet(PUBCOMP, u16(65_535) + b"\x92")),
        (unsubscribe("never/subscribed", identifier=9), packet(UNSUBACK, u16(9) + b"\x00\x11")),
        (publish("nobody/listens", qos=1, identifier=3), packet(PUBACK, u16(3) + b"\x10")),
        (publish("nobody/listens", qos=2, identifier=3), packet(PUBREC, u16(3) + b"\x10")),
    ],
    ids=lambda value: value.hex(),
)
def test_an_acknowledgement_of_nothing_is_answered_and_harmless(node, sent, answer):
    with Raw(node.mqtt) as raw:
        raw.connect(unique("odd"))
        raw.send(sent)
        if answer:
            first, body = raw.packet()
            # That nobody listens may be said or not. (MQTT 5, section 3.4.2.1)
            assert packet(first, body) in (answer, packet(answer[0], answer[2:4]) if answer[-1] == 0x10 else answer)
        raw.expect_ping()


def test_a_qos_2_message_sent_again_and_again_is_delivered_once(node):
    topic = unique("once")
    with Raw(node.mqtt) as raw:
        raw.connect(unique("repeater"))
        raw.send(subscribe(topic))
        raw.packet()
        raw.send(publish(topic, b"x", qos=2, identifier=5) + publish(topic, b"x", qos=2, identifier=5, dup=True) * 500)
        kinds = [raw.packet()[0] for _ in range(502)]
        assert sorted(kinds) == [PUBLISH] + [PUBREC] * 501
        raw.expect_ping()


def test_more_qos_2_messages_than_the_receive_maximum_end_the_connection(node):
    with Raw(node.mqtt) as raw:
        _, content = raw.connect(unique("greedy"))
        maximum = int.from_bytes(content[content.index(0x21) + 1 :][:2], "big")
        raw.try_send(b"".join(publish("a", qos=2, identifier=number) for number in range(1, maximum + 2)))
        for _ in range(maximum):
            assert raw.packet()[0] == PUBREC
        raw.expect_disconnect(0x93)


# MARK: Slow


@pytest.mark.parametrize("version", [3, 4, 5])
def test_a_client_that_sends_byte_by_byte_is_served(node, version):
    topic = unique("slow")
    with Raw(node.mqtt) as raw:
        for byte in (
            connect(unique("s"), version) + subscribe(topic, version=version) + publish(topic, b"x", version=version)
        ):
            raw.send(bytes([byte]))
        assert raw.packet()[0] == CONNACK
        # What matches may come before SUBACK. (MQTT 5, section 3.8.4)
        assert sorted(raw.packet()[0] for _ in range(2)) == [PUBLISH, SUBACK]


# [MQTT-3.1.2-22]
def test_bytes_that_make_no_packet_are_no_sign_of_life(node):
    with Raw(node.mqtt) as raw:
        raw.connect(unique("drip"), keep_alive=1)
        raw.send(b"\x30\xff\xff\x03\x00\x05")

        def is_closed():
            raw.try_send(b"a")
            return is_ended(raw)

        until(is_closed, "the end of a client that sends no whole packet", 5)


def test_packets_are_understood_wherever_they_are_split(node):
    topic = unique("split")
    stream = connect("", props=b"\x26" + text("k") + text("v")) + subscribe(topic, topic + "/+")
    stream += publish(topic, b"x" * 200, qos=1) + packet(PINGREQ)
    for size in range(1, len(stream)):
        with Raw(node.mqtt) as raw:
            raw.send(stream[:size])
            raw.send(stream[size:])
            kinds = [raw.packet()[0] & 0xF0 for _ in range(5)]
            assert sorted(kinds) == [CONNACK, PUBLISH, PUBACK, SUBACK, PINGRESP]


def test_a_client_that_closes_its_side_is_closed(node):
    with Raw(node.mqtt) as raw:
        raw.connect(unique("half"))
        raw.socket.shutdown(socket.SHUT_WR)
        raw.expect_end()


# MARK: Deep and long


@pytest.mark.parametrize("version, refusal", [(5, 0x8F), (4, 0x80)])
def test_filters_have_128_levels_at_most(node, version, refusal):
    deep = "/".join(["+"] * 128)
    with Raw(node.mqtt) as raw:
        raw.connect(unique("deep"), version=version)
        raw.send(subscribe(deep, deep + "/+", deep + "/#", "a/" * 32_767, version=version))
        assert raw.packet()[1][-4:] == bytes([0, refusal, refusal, refusal])
        topic = "/".join(["d"] * 128)
        raw.send(publish(topic, b"x", version=version))
        first, body = raw.packet()
        assert (first, body[: 2 + len(topic)]) == (PUBLISH, text(topic))


def test_a_topic_may_have_65535_bytes(node):
    topic = "t" * 65_535
    with Raw(node.mqtt) as raw:
        raw.connect(unique("long"))
        raw.send(subscribe(topic))
        assert raw.packet()[0] == SUBACK
        raw.send(publish(topic, b"x"))
        assert raw.packet() == (PUBLISH, text(topic) + b"\x00x")


def test_ten_thousand_user_properties_go_through_in_order(node):
    topic = unique("properties")
    content = b"".join(b"\x26" + text(f"k{number % 7}") + text(f"v{number}") for number in range(10_000))
    with Raw(node.mqtt) as raw:
        raw.connect(unique("owner"), props=content)
        raw.send(subscribe(topic, props=content))
        assert raw.packet()[0] == SUBACK
        raw.send(publish(topic, b"x", props=content))
        assert raw.packet() == (PUBLISH, text(topic) + properties(content) + b"x")


def test_filters_that_all_match_one_topic_cost_one_copy_and_little_time(node):
    filters = ["/".join(levels) for levels in itertools.product("a+", repeat=12)]
    with Raw(node.mqtt) as raw:
        raw.connect(unique("wild"))
        raw.send(subscribe(*filters))
        assert raw.packet()[1] == u16(1) + b"\x00" + bytes(len(filters))
        began = time.monotonic()
        raw.send(publish("/".join("a" * 12), b"x") + packet(PINGREQ))
        assert sorted(raw.packet()[0] for _ in range(2)) == [PUBLISH, PINGRESP]
        assert time.monotonic() - began < 1


# MARK: Many


def test_ten_thousand_packets_in_one_write_are_all_answered(node):
    with Raw(node.mqtt) as raw:
        raw.connect(unique("many"))
        raw.send(packet(PINGREQ) * 10_000)
        for _ in range(10_000):
            assert raw.packet() == (PINGRESP, b"")


def test_twenty_thousand_subscriptions_come_and_go_without_a_trace(node):
    filters = [f"{unique('flood')}/{number}/+" for number in range(20_000)]
    # Once, so that the tables have the size that so many need.
    for round_number in range(3):
        with contextlib.ExitStack() as stack:
            if round_number == 2:
                stack.enter_context(is_steady(node, 8))
            raw = stack.enter_context(Raw(node.mqtt))
            raw.connect(unique("flooder"))
            raw.send(subscribe(*filters[:10_000]) + subscribe(*filters[10_000:], identifier=2))
            for _ in range(2):
                assert raw.packet()[1][3:] == bytes(10_000)
            raw.send(packet(DISCONNECT))
            raw.expect_end()


def test_a_subscription_made_and_unmade_without_end_leaves_nothing(node):
    topic = unique("again")
    with Raw(node.mqtt) as raw:
        raw.connect(unique("restless"))
        for _ in range(20):
            raw.send((subscribe(topic) + unsubscribe(topic)) * 50)
            for _ in range(50):
                assert raw.packet()[0] == SUBACK
                assert raw.packet() == (UNSUBACK, u16(1) + b"\x00\x00")
        raw.send(publish(topic, b"x"))
        raw.expect_ping()


@pytest.mark.parametrize("ending", ["reset", "close", "in CONNECT", "in a packet"])
def test_hundreds_of_connections_that_break_off_leave_nothing(node, ending):
    def attack():
        for _ in range(300):
            raw = Raw(node.mqtt)
            if ending == "in CONNECT":
                raw.send(connect("x")[:5])
            else:
                raw.connect(unique("broken"))
                raw.send(subscribe("a/+", "b/#"))
            if ending == "in a packet":
                raw.send(b"\x30\xff\xff\x03\x00\x01a")
            raw.socket.close() if ending == "close" else raw.reset()

    attack()
    with is_steady(node, 8):
        attack()


def test_a_client_identifier_fought_over_belongs_to_the_last(node):
    name = unique("wanted")
    with contextlib.ExitStack() as stack:
        fighters = []
        for _ in range(100):
            fighters.append(stack.enter_context(Raw(node.mqtt)))
            fighters[-1].connect(name)
        for loser in fighters[:-1]:
            loser.expect_disconnect(0x8E)
        fighters[-1].expect_ping()


@pytest.mark.parametrize("seed", range(30))
def test_random_bytes_after_connect_do_no_harm(node, seed):
    generator = random.Random(seed)
    with Raw(node.mqtt) as raw:
        raw.connect(unique("noise"))
        # Type 0 in the end: whatever the noise began, it ends in a malformed packet or in a packet that never ends.
        raw.try_send(generator.randbytes(generator.randrange(1, 3000)) + bytes(MEBIBYTE))
        first, body = raw.packet()
        while first not in (DISCONNECT, None):
            first, body = raw.packet()
        assert first is None or body[0] >= 0x80


# MARK: Those who do not read


def test_a_subscriber_that_never_reads_costs_no_more_than_its_limit(node, witness):
    topic = unique("deaf")
    message = publish(topic, bytes(60_000))
    with Raw(node.mqtt) as deaf, Raw(node.mqtt) as publisher:
        deaf.connect(unique("deaf"))
        deaf.send(subscribe(topic))
        assert deaf.packet()[0] == SUBACK
        publisher.connect(unique("publisher"))
        # 60 MB for one that may have 1 MiB waiting, besides what the two sockets hold.
        with is_steady(node, 16):
            for _ in range(100):
                publisher.send(message * 10)
                publisher.expect_ping()
            witness.check()


def test_a_client_that_asks_and_never_reads_the_answers_is_closed(node):
    raw = Raw(node.mqtt)
    raw.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    with raw, is_steady(node, 16):
        raw.connect(unique("asker"))
        ping = packet(PINGREQ) * 50_000

        def is_closed():
            try:
                raw.socket.sendall(ping)
            except (BrokenPipeError, ConnectionResetError):
                return True
            return False

        until(is_closed, "the end of a client that only asks", 20)


# MARK: Those who never begin


def test_connections_that_never_complete_connect_are_closed_in_time(node, silent):
    opened, connections = silent
    # Some of them go on sending, a byte at a time.
    drips = connections[-5:]

    def are_closed():
        for drip in drips:
            drip.try_send(b"a")
        return all(is_ended(drip) for drip in drips)

    until(are_closed, "the end of those who drip", CONNECT_TIMEOUT + 5)
    for connection in connections[:-5]:
        connection.expect_end(max(0.1, opened + CONNECT_TIMEOUT + 5 - time.monotonic()))
    assert time.monotonic() - opened > CONNECT_TIMEOUT / 2
