"""Statements of the specification that no client library shows, packet by packet. `docs/conformance.md` names them."""

import time

import pytest

from dunlin import unique, until
from wire import PINGREQ, PINGRESP, PUBACK, PUBCOMP, PUBLISH, PUBREC, PUBREL, SUBACK, UNSUBACK
from wire import Raw, binary, packet, properties, publish, subscribe, text, u16, u32, unsubscribe

# Reason codes.
NO_SUBSCRIPTION_EXISTED, FILTER_INVALID = 0x11, 0x8F
SESSION_EXPIRY = b"\x11" + u32(300)


def client(node, client_id=None, **options):
    raw = Raw(node.mqtt)
    raw.session_present, _ = raw.connect(client_id or unique("client"), **options)
    return raw


def subscribed(node, *filters, options=0, connect_props=b""):
    """An MQTT 5 client with subscriptions; their retained messages, if any, are still to be read."""
    raw = client(node, props=connect_props)
    raw.send(subscribe(*filters, options=options))
    assert raw.packet()[0] == SUBACK
    return raw


def message(raw):
    """The next packet, which is a PUBLISH of MQTT 5: flags, topic, identifier, properties and payload."""
    first, body = raw.packet()
    assert first is not None and first & 0xF0 == PUBLISH, f"{first} {body.hex()}"
    size = int.from_bytes(body[:2], "big")
    topic, rest = body[2 : 2 + size], body[2 + size :]
    identifier = 0
    if first & 6:
        identifier, rest = int.from_bytes(rest[:2], "big"), rest[2:]
    length = rest[0]
    assert length < 128
    return first & 0x0F, topic.decode(), identifier, rest[1 : 1 + length], rest[1 + length :]


def test_a_byte_order_mark_is_part_of_a_topic(one):
    topic = unique("mark")
    marked = "\ufeff" + topic
    with subscribed(one, marked) as raw:
        raw.send(publish(topic, b"without") + publish(marked, b"with"))
        assert message(raw)[1:] == (marked, 0, b"", b"with")


def test_topics_are_matched_without_normalisation(one):
    stem = unique("normal")
    with subscribed(one, f"{stem}/\u00e9", f"{stem}/A//b") as raw:
        for other in ("e\u0301", "E\u0301", "\u00c9", "a//b", "A/b", "A//b/", " A//b"):
            raw.send(publish(f"{stem}/{other}", b"other"))
        raw.send(publish(f"{stem}/\u00e9", b"1") + publish(f"{stem}/A//b", b"2"))
        assert [message(raw)[4] for _ in range(2)] == [b"1", b"2"]


@pytest.mark.parametrize("size", [1, 23])
@pytest.mark.parametrize("version", [3, 4, 5])
def test_client_identifiers_of_letters_and_digits_are_served(one, version, size):
    alphabet = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
    for start in range(0, len(alphabet), size):
        with client(one, (alphabet[start:] + alphabet)[:size], version=version) as raw:
            raw.expect_ping()


@pytest.mark.parametrize("qos", [1, 2])
def test_dup_of_a_publisher_is_not_handed_on(one, qos):
    topic = unique("dup")
    with subscribed(one, topic, options=qos) as raw, subscribed(one, topic) as at_most_once, client(one) as sender:
        sender.send(publish(topic, b"x", qos=qos, dup=True))
        assert message(raw)[0] == qos << 1
        assert message(at_most_once)[0] == 0


def test_a_qos_1_identifier_is_free_after_puback(one):
    topic = unique("free")
    with subscribed(one, topic) as raw, client(one) as sender:
        for payload in (b"1", b"2", b"3"):
            sender.send(publish(topic, payload, qos=1, identifier=7, dup=True))
            assert sender.packet() == (PUBACK, u16(7))
        assert [message(raw)[4] for _ in range(3)] == [b"1", b"2", b"3"]


def test_an_identifier_is_free_after_a_refusal(one):
    topic = unique("refused")
    with subscribed(one, topic, options=2) as raw, client(one) as sender:
        # Nobody may publish there.
        sender.send(publish("$SYS/own", b"x", qos=2, identifier=9))
        first, body = sender.packet()
        assert (first, body[:2]) == (PUBREC, u16(9)) and body[2] >= 0x80
        sender.send(publish(topic, b"new", qos=2, identifier=9))
        assert sender.packet() == (PUBREC, u16(9))
        assert message(raw)[4] == b"new"


def test_a_message_that_was_sent_does_not_expire(one):
    topic, name = unique("begun"), unique("slow")
    with client(one) as sender:
        with client(one, name, flags=0, props=SESSION_EXPIRY) as raw:
            raw.send(subscribe(topic, options=2))
            assert raw.packet()[0] == SUBACK
            sender.send(publish(topic, b"x", qos=2, props=b"\x02" + u32(1)))
            flags, _, identifier, _, _ = message(raw)
            assert flags == 2 << 1
        end = time.monotonic() + 1.5
        until(lambda: time.monotonic() > end, "the message's expiry")
        with client(one, name, flags=0, props=SESSION_EXPIRY) as raw:
            assert raw.session_present
            flags, _, again, _, payload = message(raw)
            assert (flags, again, payload) == (2 << 1 | 8, identifier, b"x")


def test_acknowledgements_go_on_for_an_expired_message(one):
    topic = unique("expired")
    with client(one) as sender:
        sender.send(publish(topic, b"x", qos=2, identifier=4, props=b"\x02" + u32(0)))
        first, body = sender.packet()
        assert (first, body[:2]) == (PUBREC, u16(4)) and (len(body) == 2 or body[2] < 0x80)
        sender.send(packet(PUBREL, u16(4)))
        assert sender.packet() == (PUBCOMP, u16(4))


@pytest.mark.parametrize("qos, refusal", [(1, PUBACK), (2, PUBREC)])
def test_what_a_client_refuses_is_not_sent_again(one, qos, refusal):
    topic, name = unique("refused"), unique("refuser")
    with client(one, name, flags=0, props=SESSION_EXPIRY) as raw, client(one) as sender:
        raw.send(subscribe(topic, options=qos))
        assert raw.packet()[0] == SUBACK
        sender.send(publish(topic, b"x", qos=qos))
        raw.send(packet(refusal, u16(message(raw)[2]) + b"\x83"))
        raw.expect_ping()
    with client(one, name, flags=0, props=SESSION_EXPIRY) as raw:
        assert raw.session_present
        raw.expect_ping()


def test_a_delivery_that_has_begun_is_completed_after_unsubscribe(one):
    topic = unique("begun")
    with subscribed(one, topic, options=2) as raw, client(one) as sender:
        sender.send(publish(topic, b"x", qos=2))
        identifier = u16(message(raw)[2])
        raw.send(unsubscribe(topic))
        assert raw.packet() == (UNSUBACK, u16(1) + b"\x00\x00")
        raw.send(packet(PUBREC, identifier))
        assert raw.packet() == (PUBREL, identifier)
        raw.send(packet(PUBCOMP, identifier))
        raw.expect_ping()


def test_an_exhausted_receive_maximum_holds_up_nothing_else(one):
    topic = unique("window")
    with subscribed(one, topic, options=1, connect_props=b"\x21" + u16(1)) as raw:
        raw.send(publish(topic, b"1", qos=1, identifier=1) + publish(topic, b"2", qos=1, identifier=2))
        kinds = sorted(raw.packet()[0] for _ in range(3))
        assert kinds == [PUBLISH | 2, PUBACK, PUBACK]
        # The second message waits; QoS 0 and all other packets do not.
        raw.send(packet(PINGREQ) + subscribe(topic + "/other", identifier=5) + unsubscribe("none", identifier=6))
        assert sorted(raw.packet()[0] for _ in range(3)) == [SUBACK, UNSUBACK, PINGRESP]
        raw.send(publish(topic + "/other", b"at most once"))
        assert message(raw)[4] == b"at most once"
        raw.send(publish(topic, b"x", qos=2, identifier=9) + packet(PUBREL, u16(9)))
        assert [raw.packet()[0] for _ in range(2)] == [PUBREC, PUBCOMP]


def test_reasons_have_the_order_of_the_filters(one):
    stem = unique("order")
    deep = "/".join("a" * 200)
    with client(one) as raw:
        filters = [(f"{stem}/2", 2), (deep, 0), (f"{stem}/1", 1), (f"{stem}/0", 0), (deep, 1)]
        raw.send(packet(0x82, u16(3) + b"\x00" + b"".join(text(name) + bytes([qos]) for name, qos in filters)))
        assert raw.packet() == (SUBACK, u16(3) + b"\x00" + bytes([2, FILTER_INVALID, 1, 0, FILTER_INVALID]))
        raw.send(unsubscribe(f"{stem}/0", f"{stem}/x", f"{stem}/2", f"{stem}/2", identifier=4))
        expected = bytes([0, NO_SUBSCRIPTION_EXISTED, 0, NO_SUBSCRIPTION_EXISTED])
        assert raw.packet() == (UNSUBACK, u16(4) + b"\x00" + expected)


def test_unsubscribe_compares_filters_character_by_character(one):
    stem = unique("exact")
    with subscribed(one, f"{stem}/+") as raw:
        others = [f"{stem}/a", f"{stem}/#", f"{stem}/+/", f"{stem.upper()}/+", "+/+", "#"]
        raw.send(unsubscribe(*others))
        assert raw.packet() == (UNSUBACK, u16(1) + b"\x00" + bytes([NO_SUBSCRIPTION_EXISTED] * len(others)))
        raw.send(publish(f"{stem}/a", b"still"))
        assert message(raw)[4] == b"still"


def test_a_message_without_retain_leaves_the_retained_one(one):
    topic = unique("kept")
    with client(one) as sender:
        sender.send(publish(topic, b"retained", qos=1, retain=True))
        sender.send(publish(topic, b"passing", qos=1, identifier=2) + publish(topic, b"", qos=1, identifier=3))
        assert [sender.packet()[0] for _ in range(3)] == [PUBACK] * 3
    with subscribed(one, topic) as raw:
        assert message(raw) == (1, topic, 0, b"", b"retained")


@pytest.mark.parametrize("is_retained", [False, True])
@pytest.mark.parametrize("version", [3, 4, 5])
def test_a_will_is_retained_only_if_it_says_so(one, version, is_retained):
    topic = unique("will")
    rest = (properties() if version == 5 else b"") + text(topic) + binary(b"gone")
    with subscribed(one, topic, options=8) as watcher:
        with client(one, version=version, flags=0x26 if is_retained else 0x06, rest=rest) as raw:
            raw.reset()
        # As published: the will's own flag.
        assert message(watcher) == (1 if is_retained else 0, topic, 0, b"", b"gone")
    with subscribed(one, topic) as late:
        if is_retained:
            assert message(late) == (1, topic, 0, b"", b"gone")
        late.expect_ping()


MESSAGE_PROPERTIES = (
    b"\x01\x01"
    + (b"\x03" + text("text/plain; charset=utf-8"))
    + (b"\x08" + text("answers/to/me"))
    + (b"\x09" + binary(b"\x00\xff\x80"))
    + (b"\x26" + text("b") + text("1"))
    + (b"\x26" + text("a") + text(""))
    + (b"\x26" + text("b") + text("\ufeff\u00e9"))
)


def test_properties_of_a_message_go_on_unaltered(one):
    topic = unique("properties")
    with subscribed(one, topic) as raw, client(one) as sender:
        sender.send(publish(topic, b"x", props=MESSAGE_PROPERTIES))
        assert message(raw)[3] == MESSAGE_PROPERTIES
        # Also when the message is kept, and for a session that is away.
        sender.send(publish(topic, b"x", qos=1, retain=True, props=MESSAGE_PROPERTIES))
        assert sender.packet()[0] == PUBACK
        assert message(raw)[3] == MESSAGE_PROPERTIES
    with subscribed(one, topic) as raw:
        assert message(raw)[3] == MESSAGE_PROPERTIES


def test_a_will_keeps_its_properties(one):
    topic = unique("will")
    with subscribed(one, topic) as watcher:
        rest = properties(MESSAGE_PROPERTIES) + text(topic) + binary(b"gone")
        with client(one, flags=0x06, rest=rest) as raw:
            raw.reset()
        flags, _, _, content, payload = message(watcher)
        assert payload == b"gone"
        pairs = [MESSAGE_PROPERTIES[MESSAGE_PROPERTIES.index(b"\x26") :]]
        assert all(pair in content for pair in pairs) and len(content) == len(MESSAGE_PROPERTIES)
