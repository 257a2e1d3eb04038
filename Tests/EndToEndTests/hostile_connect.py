"""What a client can do wrong before it is connected, and what the broker must do about it."""

from dataclasses import dataclass

from wire import AUTH, CONNACK, DISCONNECT, PINGREQ, PINGRESP, PUBACK, PUBCOMP, PUBREC, PUBREL, SUBACK, UNSUBACK
from wire import binary, connect, packet, properties, publish, subscribe, text, u16, u32, unsubscribe

# Reason codes of MQTT 5, and return codes of MQTT 3.1.1.
MALFORMED, PROTOCOL_ERROR, TOPIC_NAME_INVALID, BAD_METHOD = 0x81, 0x82, 0x90, 0x8C
OLD_UNACCEPTABLE_VERSION, OLD_IDENTIFIER_REJECTED = 0x01, 0x02


@dataclass(frozen=True)
class Opening:
    """The first bytes of a connection. The broker closes it; before that it sends a CONNACK with `code` (in the form of
    `version`), or nothing where there is none."""

    name: str
    data: bytes
    code: int | None = None
    version: int = 5

    @property
    def connack(self):
        return b"\x00" + bytes([self.code]) + (b"\x00" if self.version == 5 else b"")


# [MQTT-3.1.0-1]: the first packet must be CONNECT.
FIRST_PACKETS = [
    Opening(f"{name} before CONNECT", data)
    for name, data in {
        "PUBLISH": publish("a", b"x"),
        "PUBLISH at QoS 2": publish("a", b"x", qos=2),
        "PUBACK": packet(PUBACK, u16(1)),
        "PUBREC": packet(PUBREC, u16(1)),
        "PUBREL": packet(PUBREL, u16(1)),
        "PUBCOMP": packet(PUBCOMP, u16(1)),
        "SUBSCRIBE": subscribe("a"),
        "UNSUBSCRIBE": unsubscribe("a"),
        "PINGREQ": packet(PINGREQ),
        "DISCONNECT": packet(DISCONNECT),
        "AUTH": packet(AUTH, b"\x18\x04" + b"\x15" + text("a")),
        "CONNACK": packet(CONNACK, b"\x00\x00\x00"),
        "SUBACK": packet(SUBACK, b"\x00\x01\x00\x00"),
        "UNSUBACK": packet(UNSUBACK, b"\x00\x01\x00\x00"),
        "PINGRESP": packet(PINGRESP),
        "packet type 0": b"\x00\x00",
        "an HTTP request": b"GET / HTTP/1.1\r\nHost: broker.example\r\nUser-Agent: somebody/1.0\r\nAccept: */*\r\n\r\n",
        "a TLS ClientHello": bytes.fromhex("16030100c8010000c40303") + b"\x5a" * 194,
        "zeros": b"\x00" * 64,
        "ones": b"\xff" * 64,
    }.items()
]

# [MQTT-3.1.2-1], [MQTT-3.1.2-2], [MQTT3-3.1.2-2]. Every client understands MQTT 3.1.1's refusal.
VERSIONS = [
    Opening(f"CONNECT of {name!r} level {level:#x}", connect("c", version, name=name, level=level), 0x01, 4)
    for version, name, level in [
        (4, "MQTT", 0),
        (4, "MQTT", 3),
        (4, "MQTT", 6),
        (4, "MQTT", 0x84),
        (4, "MQTT", 0xFF),
        (4, "MQIsdp", 4),
        (4, "MQIsdp", 5),
        (4, "MQTX", 4),
        (4, "mqtt", 4),
        (4, "", 4),
        (4, "MQTTMQTTMQTT", 4),
        (5, "MQTX", 5),
        (5, "MQIsdp", 5),
    ]
] + [
    Opening("CONNECT with a protocol name that is not UTF-8", connect("c", 4, name=b"\xff\xfe")),
    Opening("CONNECT with a protocol name beyond its end", packet(0x10, b"\xff\xffMQTT\x04\x02\x00\x00\x00\x00")),
    Opening("CONNECT with nothing in it", packet(0x10)),
    Opening("CONNECT with half a length", packet(0x10, b"\x00")),
    Opening("CONNECT with a name and no level", packet(0x10, text("MQTT"))),
]

_WILL = properties() + text("w") + binary(b"bye")

# [MQTT-3.1.2-3] and the rules of the other flags.
FLAGS = [
    Opening("CONNECT 5 with the reserved flag", connect("c", flags=0x03), MALFORMED),
    Opening("CONNECT 5 with a will of QoS 3", connect("c", flags=0x1E, rest=_WILL), MALFORMED),
    Opening("CONNECT 5 with will QoS and no will", connect("c", flags=0x0A), MALFORMED),
    Opening("CONNECT 5 with will retain and no will", connect("c", flags=0x22), MALFORMED),
    Opening("CONNECT 5 with reserved flags in the first byte", b"\x11" + connect("c")[1:], MALFORMED),
    Opening("CONNECT 5 with a will flag and no will", connect("c", flags=0x06), MALFORMED),
    Opening("CONNECT 5 with half a will", connect("c", flags=0x06, rest=properties() + text("w")), MALFORMED),
    Opening("CONNECT 5 with a user name flag and no user name", connect("c", flags=0x82), MALFORMED),
    Opening("CONNECT 5 with a password flag and no password", connect("c", flags=0xC2, rest=text("u")), MALFORMED),
    Opening("CONNECT 5 with a user name and no flag", connect("c", rest=text("u")), MALFORMED),
    Opening("CONNECT 3.1.1 with the reserved flag", connect("c", 4, flags=0x03)),
    Opening("CONNECT 3.1.1 with a will of QoS 3", connect("c", 4, flags=0x1E, rest=text("w") + text("m"))),
    Opening("CONNECT 3.1.1 with will QoS and no will", connect("c", 4, flags=0x12)),
    Opening("CONNECT 3.1.1 with will retain and no will", connect("c", 4, flags=0x22)),
    Opening("CONNECT 3.1.1 with a password and no user name", connect("c", 4, flags=0x42, rest=binary(b"p"))),
    Opening("CONNECT 3.1.1 with a will flag and no will", connect("c", 4, flags=0x06)),
    Opening("CONNECT 3.1.1 with a user name flag and no user name", connect("c", 4, flags=0x82)),
    Opening("CONNECT 3.1.1 with bytes behind its end", connect("c", 4, rest=b"\x00")),
]

# [MQTT-3.1.3-4] and its siblings: every string is UTF-8 without U+0000 [MQTT-1.5.4-1], [MQTT-1.5.4-2].
BAD_STRINGS = {
    "U+0000": b"a\x00b",
    "a lone continuation": b"a\x80",
    "a cut sequence": b"a\xc3",
    "an overlong slash": b"\xc0\xaf",
    "an overlong U+0000": b"\xc0\x80",
    "an overlong of three bytes": b"\xe0\x80\xaf",
    "a surrogate": b"\xed\xa0\x80",
    "a surrogate pair": b"\xed\xa0\xbd\xed\xb8\x80",
    "beyond U+10FFFF": b"\xf4\x90\x80\x80",
    "a byte that never occurs": b"\xfe",
}
STRINGS = (
    [Opening(f"client id with {what}", connect(bad), MALFORMED) for what, bad in BAD_STRINGS.items()]
    + [Opening(f"client id 3.1.1 with {what}", connect(bad, 4)) for what, bad in list(BAD_STRINGS.items())[:4]]
    + [
        Opening(
            f"will topic with {what}",
            connect("c", flags=0x06, rest=properties() + text(bad) + binary(b"")),
            MALFORMED,
        )
        for what, bad in list(BAD_STRINGS.items())[:3]
    ]
    + [
        Opening("user name that is not UTF-8", connect("c", flags=0x82, rest=text(b"\xc3\x28")), MALFORMED),
        Opening(
            "will topic with a wildcard",
            connect("c", flags=0x06, rest=properties() + text("a/#") + binary(b"")),
            TOPIC_NAME_INVALID,
        ),
        Opening(
            "will topic of no characters",
            connect("c", flags=0x06, rest=properties() + text("") + binary(b"")),
            TOPIC_NAME_INVALID,
        ),
        # [MQTT3-3.1.3-8]; MQTT 3.1 allows 1 to 23 characters.
        Opening("3.1.1 without client id, session kept", connect("", 4, flags=0), OLD_IDENTIFIER_REJECTED, 4),
        Opening("3.1 without client id", connect("", 3), OLD_IDENTIFIER_REJECTED, 3),
        Opening("3.1 with a client id of 24 characters", connect("c" * 24, 3), OLD_IDENTIFIER_REJECTED, 3),
    ]
)


def _with(name, content, code=PROTOCOL_ERROR):
    return Opening(f"CONNECT with {name}", connect("c", props=content), code)


def _will_with(name, content, code=PROTOCOL_ERROR):
    rest = properties(content) + text("w") + binary(b"")
    return Opening(f"will with {name}", connect("c", flags=0x06, rest=rest), code)


# MQTT 5, sections 2.2.2.2, 3.1.2.11 and 3.1.3.2.
PROPERTIES = [
    _with("two session expiry intervals", (b"\x11" + u32(1)) * 2),
    _with("two receive maximums", (b"\x21" + u16(1)) * 2),
    _with("two maximum packet sizes", (b"\x27" + u32(100)) * 2),
    _with("two topic alias maximums", (b"\x22" + u16(1)) * 2),
    _with("two request response informations", b"\x19\x01" * 2),
    _with("two request problem informations", b"\x17\x01" * 2),
    _with("two authentication methods", (b"\x15" + text("a")) * 2),
    _with("authentication data without a method", b"\x16" + binary(b"x")),
    _with("receive maximum 0", b"\x21" + u16(0)),
    _with("maximum packet size 0", b"\x27" + u32(0)),
    _with("request problem information 2", b"\x17\x02"),
    _with("request response information 255", b"\x19\xff"),
    _with("an unknown property", b"\x7f\x00", MALFORMED),
    _with("a property of two bytes", b"\x80\x01\x00", MALFORMED),
    _with("a payload format indicator", b"\x01\x01", MALFORMED),
    _with("a topic alias", b"\x23" + u16(1), MALFORMED),
    _with("a subscription identifier", b"\x0b\x01", MALFORMED),
    _with("a maximum QoS", b"\x24\x01", MALFORMED),
    _with("half a session expiry interval", b"\x11\x00\x00", MALFORMED),
    _with("a user property without its value", b"\x26" + text("k"), MALFORMED),
    _with("a user property that is not UTF-8", b"\x26" + text("k") + text(b"\xff"), MALFORMED),
    _with("an unknown authentication method", b"\x15" + text("no such method"), BAD_METHOD),
    _will_with("two delays", (b"\x18" + u32(1)) * 2),
    _will_with("two content types", (b"\x03" + text("a")) * 2),
    _will_with("payload format 2", b"\x01\x02"),
    _will_with("a topic alias", b"\x23" + u16(1), MALFORMED),
    _will_with("a subscription identifier", b"\x0b\x01", MALFORMED),
    _will_with("an unknown property", b"\x00", MALFORMED),
    _will_with("a response topic with a wildcard", b"\x08" + text("a/+"), TOPIC_NAME_INVALID),
    Opening(
        "properties beyond the end of CONNECT", packet(0x10, text("MQTT") + b"\x05\x02\x00\x00\x7f\x00\x00"), MALFORMED
    ),
    Opening(
        "a property length of five bytes",
        packet(0x10, text("MQTT") + b"\x05\x02\x00\x00\xff\xff\xff\xff\x01\x00\x00"),
        MALFORMED,
    ),
    Opening(
        "a property length with a superfluous byte",
        packet(0x10, text("MQTT") + b"\x05\x02\x00\x00\x80\x00\x00\x00"),
        MALFORMED,
    ),
]

# A CONNECT with everything in it, and each field of it cut where it is (the packet's length is true).
FULL = connect(
    "client",
    flags=0xEE,
    keep_alive=60,
    props=b"\x11" + u32(10) + b"\x21" + u16(10) + b"\x26" + text("k") + text("v"),
    rest=properties(b"\x18" + u32(1) + b"\x03" + text("t"))
    + text("will/topic")
    + binary(b"bye")
    + text("u")
    + binary(b"p"),
)
# The name and level take seven bytes of the body; before them the version is not known, so nothing can be said.
TRUNCATIONS = [
    Opening(
        f"CONNECT of {size} of {len(FULL) - 2} bytes", packet(0x10, FULL[2 : 2 + size]), MALFORMED if size > 6 else None
    )
    for size in range(1, len(FULL) - 2, 3)
]

# Lengths that lie: each is refused by its header alone, nothing is allocated or awaited.
LENGTHS = [
    Opening("CONNECT of 256 MiB", b"\x10\xff\xff\xff\x7f"),
    Opening("CONNECT of more than the limit", b"\x10" + b"\x81\x80\x40"),
    Opening("CONNECT with a length of five bytes", b"\x10\xff\xff\xff\xff\x01"),
    Opening(
        "CONNECT 5 with a superfluous byte in its length",
        connect("c")[:1] + bytes([connect("c")[1] | 0x80, 0]) + connect("c")[2:],
        MALFORMED,
    ),
]

OPENINGS = FIRST_PACKETS + VERSIONS + FLAGS + STRINGS + PROPERTIES + TRUNCATIONS + LENGTHS
