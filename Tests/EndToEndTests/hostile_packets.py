"""What a connected client can send that it must not, and the reason code an MQTT 5 client is told before the close."""

from dataclasses import dataclass

from hostile_connect import BAD_STRINGS, MALFORMED, PROTOCOL_ERROR, TOPIC_NAME_INVALID
from wire import AUTH, CONNACK, DISCONNECT, PINGREQ, PINGRESP, PUBACK, PUBCOMP, PUBLISH, PUBREC, PUBREL, SUBACK
from wire import SUBSCRIBE, UNSUBACK, UNSUBSCRIBE, binary, packet, properties, publish, subscribe, text, u16, u32
from wire import unsubscribe

FILTER_INVALID, ALIAS_INVALID, TOO_LARGE = 0x8F, 0x94, 0x95


@dataclass(frozen=True)
class Mistake:
    """Bytes for the versions that have the mistake: at least one of `new` (MQTT 5) and `old` (3.1.1)."""

    name: str
    code: int
    new: bytes | None = None
    old: bytes | None = None


def both(name, code, data):
    return Mistake(name, code, data, data)


def versions(name, code, build):
    """A packet that is built for each version."""
    return Mistake(name, code, build(5), build(4))


# MQTT 5, section 2.1.2: who may send what.
KINDS = [
    both("packet type 0", MALFORMED, b"\x00\x00"),
    both("packet type 0 with flags", MALFORMED, b"\x0f\x00"),
    Mistake("CONNACK", PROTOCOL_ERROR, packet(CONNACK, b"\x00\x00\x00"), packet(CONNACK, b"\x00\x00")),
    Mistake("SUBACK", PROTOCOL_ERROR, packet(SUBACK, b"\x00\x01\x00\x00"), packet(SUBACK, b"\x00\x01\x00")),
    Mistake("UNSUBACK", PROTOCOL_ERROR, packet(UNSUBACK, b"\x00\x01\x00\x00"), packet(UNSUBACK, b"\x00\x01")),
    both("PINGRESP", PROTOCOL_ERROR, packet(PINGRESP)),
    # [MQTT-4.12.0-7]; before MQTT 5 there is no packet type 15.
    both("AUTH where none was agreed on", PROTOCOL_ERROR, packet(AUTH, b"\x19" + properties(b"\x15" + text("a")))),
    Mistake("AUTH of nothing", PROTOCOL_ERROR, packet(AUTH)),
    Mistake("a DISCONNECT that only servers send", PROTOCOL_ERROR, packet(DISCONNECT, b"\x8b")),
]

# [MQTT-2.1.3-1], [MQTT-3.6.1-1], [MQTT-3.8.1-1], [MQTT-3.10.1-1], [MQTT-3.14.1-1].
FLAGS = [
    both(f"{name} with flags {first & 0x0F:#x}", MALFORMED, packet(first, body))
    for name, first, body in [
        ("PUBACK", PUBACK | 1, u16(1)),
        ("PUBACK", PUBACK | 8, u16(1)),
        ("PUBREC", PUBREC | 2, u16(1)),
        ("PUBREL", PUBREL & 0xF0, u16(1)),
        ("PUBREL", PUBREL | 1, u16(1)),
        ("PUBCOMP", PUBCOMP | 4, u16(1)),
        ("SUBSCRIBE", SUBSCRIBE & 0xF0, u16(1) + text("a") + b"\x00"),
        ("SUBSCRIBE", SUBSCRIBE | 8, u16(1) + text("a") + b"\x00"),
        ("UNSUBSCRIBE", UNSUBSCRIBE & 0xF0, u16(1) + text("a")),
        ("PINGREQ", PINGREQ | 1, b""),
        ("DISCONNECT", DISCONNECT | 2, b""),
    ]
]

_TOPICS = {
    "a multi-level wildcard": "#",
    "a single-level wildcard": "a/+/b",
    "a wildcard inside a level": "ab#c",
    "a wildcard in a $ topic": "$a/+",
}
PUBLISHES = (
    [
        versions(f"topic with {what}", TOPIC_NAME_INVALID, lambda v, t=t: publish(t, version=v))
        for what, t in _TOPICS.items()
    ]
    + [
        versions(f"topic with {what}", MALFORMED, lambda v, t=t: publish(t, version=v))
        for what, t in BAD_STRINGS.items()
    ]
    + [
        both("QoS 3", MALFORMED, packet(PUBLISH | 6, text("a") + u16(1) + b"\x00")),
        versions("DUP at QoS 0", MALFORMED, lambda v: publish("a", dup=True, version=v)),
        versions("QoS 1 with identifier 0", PROTOCOL_ERROR, lambda v: publish("a", qos=1, identifier=0, version=v)),
        versions("QoS 2 with identifier 0", PROTOCOL_ERROR, lambda v: publish("a", qos=2, identifier=0, version=v)),
        Mistake("no topic and no alias", PROTOCOL_ERROR, publish("")),
        Mistake("no topic", TOPIC_NAME_INVALID, old=publish("", version=4)),
        both("PUBLISH of nothing", MALFORMED, packet(PUBLISH)),
        both("PUBLISH with half a topic length", MALFORMED, packet(PUBLISH, b"\x00")),
        both("topic beyond the end", MALFORMED, packet(PUBLISH, b"\xff\xff" + b"a" * 20)),
        both("topic one byte beyond the end", MALFORMED, packet(PUBLISH, b"\x00\x05aaaa")),
        both("QoS 1 without an identifier", MALFORMED, packet(PUBLISH | 2, text("a"))),
        both("QoS 2 with half an identifier", MALFORMED, packet(PUBLISH | 4, text("a") + b"\x00")),
        Mistake("PUBLISH without a property length", MALFORMED, packet(PUBLISH, text("a"))),
        Mistake("properties beyond the end", MALFORMED, packet(PUBLISH, text("a") + b"\x7f\x01\x01")),
        Mistake("property length of five bytes", MALFORMED, packet(PUBLISH, text("a") + b"\xff\xff\xff\xff\x01")),
        Mistake("property length with a superfluous byte", MALFORMED, packet(PUBLISH, text("a") + b"\x80\x00")),
    ]
)


def _with(name, code, content):
    return Mistake(f"PUBLISH with {name}", code, publish("a", props=content))


PUBLISH_PROPERTIES = [
    _with("topic alias 0", ALIAS_INVALID, b"\x23" + u16(0)),
    _with("the largest topic alias", ALIAS_INVALID, b"\x23" + u16(65_535)),
    _with("two topic aliases", PROTOCOL_ERROR, (b"\x23" + u16(1)) * 2),
    _with("half a topic alias", MALFORMED, b"\x23\x00"),
    # [MQTT-3.3.4-6]
    _with("a subscription identifier", PROTOCOL_ERROR, b"\x0b\x01"),
    _with("subscription identifier 0", PROTOCOL_ERROR, b"\x0b\x00"),
    _with("payload format 2", PROTOCOL_ERROR, b"\x01\x02"),
    _with("two payload formats", PROTOCOL_ERROR, b"\x01\x01" * 2),
    _with("two message expiry intervals", PROTOCOL_ERROR, (b"\x02" + u32(9)) * 2),
    _with("two content types", PROTOCOL_ERROR, (b"\x03" + text("t")) * 2),
    _with("two response topics", PROTOCOL_ERROR, (b"\x08" + text("t")) * 2),
    _with("two correlation data", PROTOCOL_ERROR, (b"\x09" + binary(b"t")) * 2),
    _with("a content type that is not UTF-8", MALFORMED, b"\x03" + text(b"\xff")),
    _with("a response topic that is not UTF-8", MALFORMED, b"\x08" + text(b"\xed\xa0\x80")),
    # [MQTT-3.3.2-14]
    _with("a response topic with a wildcard", TOPIC_NAME_INVALID, b"\x08" + text("a/#")),
    _with("a user property that is not UTF-8", MALFORMED, b"\x26" + text(b"\xc0\x80") + text("v")),
    _with("a user property cut in its value", MALFORMED, b"\x26" + text("k") + b"\x00\x09v"),
    _with("correlation data beyond its end", MALFORMED, b"\x09\xff\xff\x00"),
    _with("a property of other packets", MALFORMED, b"\x11" + u32(1)),
    _with("an unknown property", MALFORMED, b"\x04\x00"),
    _with("an unknown property of two bytes", MALFORMED, b"\xa6\x01\x00\x00\x00\x00"),
]


def _cut(data, count=1):
    """A packet without its last bytes, its length true."""
    return packet(data[0], data[2:-count])


_FILTERS = ["", "a#", "#a", "a/#/b", "##", "#/", "a+", "+a", "a/b+/c", "++", "+#", "$share/g/a#", "$share/g/+b"]
_GROUPS = ["$share/", "$share//a", "$share/g", "$share/g/", "$share/+/a", "$share/g#/a"]
SUBSCRIPTIONS = (
    [versions(f"SUBSCRIBE to {f!r}", FILTER_INVALID, lambda v, f=f: subscribe(f, version=v)) for f in _FILTERS]
    # [MQTT-4.8.2-1], [MQTT-4.8.2-2]
    + [Mistake(f"SUBSCRIBE to {group!r}", FILTER_INVALID, subscribe(group)) for group in _GROUPS]
    + [
        versions(f"SUBSCRIBE to a filter with {what}", MALFORMED, lambda v, f=f: subscribe(f, version=v))
        for what, f in list(BAD_STRINGS.items())[:5]
    ]
    + [
        # [MQTT-3.8.3-2], [MQTT-3.8.3-5], [MQTT3-3.8.3-4], [MQTT-3.8.3-4]
        versions("SUBSCRIBE to nothing", PROTOCOL_ERROR, lambda v: subscribe(version=v)),
        versions("SUBSCRIBE with identifier 0", PROTOCOL_ERROR, lambda v: subscribe("a", identifier=0, version=v)),
        versions("SUBSCRIBE for QoS 3", PROTOCOL_ERROR, lambda v: subscribe("a", options=3, version=v)),
        Mistake("SUBSCRIBE with reserved bit 6", MALFORMED, subscribe("a", options=0x40)),
        Mistake("SUBSCRIBE with reserved bit 7", MALFORMED, subscribe("a", options=0x80)),
        Mistake("SUBSCRIBE 3.1.1 with options of MQTT 5", MALFORMED, old=subscribe("a", options=0x04, version=4)),
        Mistake("SUBSCRIBE with retain handling 3", PROTOCOL_ERROR, subscribe("a", options=0x30)),
        Mistake("no local on a shared subscription", PROTOCOL_ERROR, subscribe("$share/g/a", options=0x04)),
        Mistake("subscription identifier of 0", PROTOCOL_ERROR, subscribe("a", props=b"\x0b\x00")),
        Mistake("two subscription identifiers", PROTOCOL_ERROR, subscribe("a", props=b"\x0b\x01\x0b\x02")),
        Mistake("subscription identifier of five bytes", MALFORMED, subscribe("a", props=b"\x0b\xff\xff\xff\xff\x01")),
        Mistake("SUBSCRIBE with a property of PUBLISH", MALFORMED, subscribe("a", props=b"\x01\x00")),
        both("SUBSCRIBE of nothing", MALFORMED, packet(SUBSCRIBE)),
        both("SUBSCRIBE with half an identifier", MALFORMED, packet(SUBSCRIBE, b"\x00")),
        versions("SUBSCRIBE without options", MALFORMED, lambda v: _cut(subscribe("a", version=v))),
        versions("SUBSCRIBE with half a second filter", MALFORMED, lambda v: _cut(subscribe("a", "bcd", version=v), 3)),
        versions("UNSUBSCRIBE from nothing", PROTOCOL_ERROR, lambda v: unsubscribe(version=v)),
        versions("UNSUBSCRIBE with identifier 0", PROTOCOL_ERROR, lambda v: unsubscribe("a", identifier=0, version=v)),
        versions("UNSUBSCRIBE from ''", FILTER_INVALID, lambda v: unsubscribe("", version=v)),
        versions("UNSUBSCRIBE from 'a#'", FILTER_INVALID, lambda v: unsubscribe("a#", version=v)),
        versions("UNSUBSCRIBE from what is not UTF-8", MALFORMED, lambda v: unsubscribe(b"\xff", version=v)),
        versions("UNSUBSCRIBE with half a filter", MALFORMED, lambda v: _cut(unsubscribe("abc", version=v))),
        Mistake("UNSUBSCRIBE with a subscription identifier", MALFORMED, unsubscribe("a", props=b"\x0b\x01")),
    ]
)


ACKNOWLEDGEMENTS = [
    mistake
    for name, first in {"PUBACK": PUBACK, "PUBREC": PUBREC, "PUBREL": PUBREL, "PUBCOMP": PUBCOMP}.items()
    for mistake in [
        both(f"{name} with identifier 0", PROTOCOL_ERROR, packet(first, u16(0))),
        both(f"{name} of nothing", MALFORMED, packet(first)),
        both(f"{name} with half an identifier", MALFORMED, packet(first, b"\x01")),
        Mistake(f"{name} with a reason in 3.1.1", MALFORMED, old=packet(first, u16(1) + b"\x00")),
        Mistake(f"{name} with an impossible reason", PROTOCOL_ERROR, packet(first, u16(1) + b"\x01")),
        Mistake(f"{name} with a property of PUBLISH", MALFORMED, packet(first, u16(1) + b"\x00\x02\x01\x00")),
        Mistake(
            f"{name} with two reason strings",
            PROTOCOL_ERROR,
            packet(first, u16(1) + b"\x00" + properties((b"\x1f" + text("a")) * 2)),
        ),
        Mistake(f"{name} with bytes behind its end", MALFORMED, packet(first, u16(1) + b"\x00\x00\x00")),
    ]
]

ENDINGS = [
    both("PINGREQ with a body", MALFORMED, packet(PINGREQ, b"\x00")),
    Mistake("DISCONNECT 3.1.1 with a body", MALFORMED, old=packet(DISCONNECT, b"\x00")),
    Mistake("DISCONNECT with an impossible reason", PROTOCOL_ERROR, packet(DISCONNECT, b"\x02")),
    Mistake(
        "DISCONNECT with a server reference",
        PROTOCOL_ERROR,
        packet(DISCONNECT, b"\x00" + properties(b"\x1c" + text("a"))),
    ),
    Mistake(
        "DISCONNECT that prolongs a session that ends",
        PROTOCOL_ERROR,
        packet(DISCONNECT, b"\x00" + properties(b"\x11" + u32(1))),
    ),
    Mistake(
        "DISCONNECT with two session expiry intervals",
        PROTOCOL_ERROR,
        packet(DISCONNECT, b"\x00" + properties((b"\x11" + u32(0)) * 2)),
    ),
    Mistake("DISCONNECT with bytes behind its end", MALFORMED, packet(DISCONNECT, b"\x00\x00\x00")),
]

# Refused by the header, before anything is awaited or allocated.
LENGTHS = [
    both("a PUBLISH of 256 MiB", TOO_LARGE, b"\x30\xff\xff\xff\x7f"),
    both("a PUBLISH one byte beyond the limit", TOO_LARGE, b"\x30\xfd\xff\x3f"),
    both("a SUBSCRIBE of 200 MB", TOO_LARGE, b"\x82\x80\x84\xaf\x5f"),
    both("a length of five bytes", MALFORMED, b"\x30\xff\xff\xff\xff\x01"),
    both("a length of five bytes that are mostly zero", MALFORMED, b"\xc0\x80\x80\x80\x80\x00"),
    Mistake("PINGREQ with a superfluous byte in its length", MALFORMED, b"\xc0\x80\x00"),
    Mistake("PUBLISH with a superfluous byte in its length", MALFORMED, b"\x30\x84\x00\x00\x01a\x00"),
]

MISTAKES = KINDS + FLAGS + PUBLISHES + PUBLISH_PROPERTIES + SUBSCRIPTIONS + ACKNOWLEDGEMENTS + ENDINGS + LENGTHS
