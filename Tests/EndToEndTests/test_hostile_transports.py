"""Abuse of what carries MQTT: WebSocket requests and frames that are wrong, garbage where TLS is spoken."""

import random
import socket
import ssl
import time
from dataclasses import dataclass

import pytest

from certificates import make_authority
from dunlin import unique, until
from hostile_packets import MISTAKES
from webframes import BINARY, CLOSE, CONTINUATION, PING, PONG, TEXT, WebRaw, frame, request, response_head
from wire import CONNACK, PINGREQ, PINGRESP, PUBACK, PUBLISH, SUBACK, Raw, Witness, connect, is_steady, packet
from wire import publish, subscribe, u16

CONNECT_TIMEOUT = 10
ADDRESS = "127.0.0.1"


@pytest.fixture(scope="module")
def authority(tmp_path_factory):
    return make_authority(tmp_path_factory.mktemp("authority"), [ADDRESS])


@pytest.fixture(scope="module")
def node(shared_cluster, authority):
    ports = {"mqtt": 0, "mqtts": 0, "ws": 0, "wss": 0}
    return shared_cluster.node(flags=authority.flags, address=ADDRESS, ports=ports)


@pytest.fixture(scope="module")
def witness(node):
    witness = Witness(node, unique("witness"))
    yield witness
    witness.close()


@pytest.fixture(autouse=True)
def others_are_served(witness):
    yield
    witness.check()


@pytest.fixture(scope="module", autouse=True)
def memory(node, witness):
    with is_steady(node, 16):
        yield


@pytest.fixture(scope="module", autouse=True)
def silent(node):
    """Connections that never get as far as MQTT; opened first, looked at last."""
    beginnings = [
        ("ws", b""),
        ("ws", b"GET /mqtt HTTP/1.1\r\nHost: x\r\n"),
        ("ws", request()),
        ("ws", request() + frame(BINARY, connect("x")[:5])),
        ("ws", request() + frame(PING, b"x") * 3),
        ("mqtts", b""),
        ("mqtts", b"\x16\x03\x01\x40\x00"),
        ("mqtts", b"\x16\x03\x01\x00\x80\x01\x00\x00\x7c\x03\x03"),
        ("wss", b""),
        ("wss", b"\x16\x03\x01\x02\x00\x01"),
    ]
    connections = [Raw(address(node, listener)) for listener, _ in beginnings]
    opened = time.monotonic()
    for connection, (_, beginning) in zip(connections, beginnings):
        connection.send(beginning)
    yield opened, connections
    for connection in connections:
        connection.socket.close()


def address(node, listener):
    return (node.address, node.ports[listener])


def secured(authority, **options):
    """Wraps a socket in TLS as a client does."""
    context = ssl.create_default_context(cafile=authority.certificate)
    for name, value in options.items():
        setattr(context, name, value)
    return lambda plain: context.wrap_socket(plain, server_hostname=ADDRESS)


# MARK: The opening request


@dataclass(frozen=True)
class Opening:
    name: str
    data: bytes
    status: int


OPENINGS = [
    Opening("another path", request("/"), 404),
    Opening("a path below", request("/mqtt/x"), 404),
    Opening("a path like it", request("/MQTT"), 404),
    Opening("POST", request(method="POST"), 405),
    Opening("HTTP/1.0", request(version="HTTP/1.0"), 400),
    Opening("HTTP/2", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 400),
    Opening("no Host", request(Host=None), 400),
    Opening("no upgrade", request(Upgrade=None, Connection=None), 426),
    Opening("an upgrade to something else", request(Upgrade="h2c"), 426),
    Opening("an upgrade that Connection does not name", request(Connection="keep-alive"), 426),
    Opening("no key", request(Sec_WebSocket_Key=None), 400),
    Opening("a short key", request(Sec_WebSocket_Key="AAAA"), 400),
    Opening("a key that is not base64", request(Sec_WebSocket_Key="!" * 24), 400),
    Opening("version 8", request(Sec_WebSocket_Version="8"), 426),
    Opening("no version", request(Sec_WebSocket_Version=None), 426),
    # [MQTT-6.0.0-3]
    Opening("no subprotocol", request(Sec_WebSocket_Protocol=None), 400),
    Opening("another subprotocol", request(Sec_WebSocket_Protocol="wamp, soap"), 400),
    Opening("a body", request(Content_Length="5") + b"hello", 400),
    Opening("a chunked body", request(Transfer_Encoding="chunked"), 400),
    Opening("a line without a colon", request().replace(b"Upgrade: websocket", b"Upgrade websocket"), 400),
    Opening("a folded line", request().replace(b"Upgrade: websocket", b"Upgrade:\r\n websocket"), 400),
    Opening("a bare line feed", request().replace(b"\r\n", b"\n"), 400),
    Opening("a request of three words too many", b"GET /mqtt and more HTTP/1.1\r\nHost: x\r\n\r\n", 400),
    Opening("a NUL", b"GET /mqtt\0 HTTP/1.1\r\n\r\n", 400),
    Opening("MQTT", connect("x") * 100, 400),
    Opening("TLS", bytes.fromhex("16030100c8010000c40303") + bytes(194), 400),
    Opening("a field of 16 KiB", request(Cookie="c" * 16_384), 431),
    Opening("a thousand fields", request(**{f"X{number}": "v" * 20 for number in range(1000)}), 431),
    Opening("a path of 16 KiB", request("/" + "m" * 16_384), 431),
]


@pytest.mark.parametrize("case", OPENINGS, ids=lambda case: case.name)
def test_a_wrong_request_is_refused(node, case):
    with Raw(address(node, "ws")) as raw:
        raw.try_send(case.data)
        head = response_head(raw)
        assert head.startswith(f"HTTP/1.1 {case.status} ".encode()), head
        # A few words in clear, and the end.
        while part := raw.socket.recv(4096):
            assert part.decode().strip()


@pytest.mark.parametrize("protocol", ["mqtt", "mqttv3.1", "soap, mqtt", "mqtt, mqttv3.1"])
def test_the_subprotocol_is_answered(node, protocol):
    with WebRaw(address(node, "ws"), protocol=protocol) as raw:
        assert raw.protocol == protocol.removeprefix("soap, ").split(",")[0]
        raw.connect(unique("web"))
        raw.expect_ping()


# MARK: Frames


@dataclass(frozen=True)
class Frames:
    name: str
    data: bytes
    code: int


FRAMES = [
    # [MQTT-6.0.0-1]
    Frames("a text frame", frame(TEXT, packet(PINGREQ)), 1003),
    Frames("an empty text frame", frame(TEXT), 1003),
    Frames("a frame that is not masked", frame(BINARY, packet(PINGREQ), masked=False), 1002),
    Frames("a ping that is not masked", frame(PING, b"x", masked=False), 1002),
    *(Frames(f"reserved bits {bits:03b}", frame(BINARY, b"", reserved=bits), 1002) for bits in (1, 2, 4, 7)),
    *(Frames(f"opcode {code:#x}", frame(code), 1002) for code in (0x3, 0x7, 0xB, 0xF)),
    Frames("a fragmented ping", frame(PING, b"x", final=False), 1002),
    Frames("a fragmented close", frame(CLOSE, b"", final=False), 1002),
    Frames("a ping of 126 bytes", frame(PING, bytes(126)), 1002),
    Frames("a close of 200 bytes", frame(CLOSE, b"\x03\xe8" + b"a" * 198), 1002),
    Frames("a continuation of nothing", frame(CONTINUATION, packet(PINGREQ)), 1002),
    Frames("a message within a message", frame(BINARY, b"\xc0", final=False) + frame(BINARY, b"\x00"), 1002),
    Frames("a text within a message", frame(BINARY, b"\xc0", final=False) + frame(TEXT, b"\x00"), 1002),
    Frames("a continuation after the end", frame(BINARY, packet(PINGREQ)) + frame(CONTINUATION, b""), 1002),
    Frames("a close of one byte", frame(CLOSE, b"\x03"), 1002),
    *(
        Frames(f"close code {code}", frame(CLOSE, u16(code)), 1002)
        for code in (0, 999, 1004, 1005, 1006, 1015, 2999, 5000)
    ),
    Frames("a close reason that is not UTF-8", frame(CLOSE, b"\x03\xe8\xff\xfe"), 1007),
    Frames("a length that could be shorter", b"\x82\xfe\x00\x05" + bytes(4), 1002),
    Frames("a long length that could be shorter", b"\x82\xff" + (65_535).to_bytes(8, "big") + bytes(4), 1002),
    Frames("a length beyond all", b"\x82\xff" + b"\xff" * 8, 1002),
    Frames("a frame of 4 EiB", frame(BINARY, b"", length=1 << 62), 1009),
    Frames("a frame of 1 GiB", frame(BINARY, b"", length=1 << 30), 1009),
]


@pytest.mark.parametrize("case", FRAMES, ids=lambda case: case.name)
def test_a_wrong_frame_closes_with_its_code(node, witness, case):
    with WebRaw(address(node, "ws")) as raw:
        raw.connect(unique("web"))
        raw.expect_ping()
        raw.send_raw(case.data + frame(BINARY, publish(witness.topic, b"behind a wrong frame")))
        opcode, payload = raw.frame()
        while opcode == BINARY:
            # The answer to what came before it, or MQTT's own goodbye, may come first.
            opcode, payload = raw.frame()
        assert (opcode, payload[:2]) == (CLOSE, u16(case.code)), f"{opcode} {payload.hex()}"
        assert raw.socket.recv(1) == b""


def test_a_close_is_answered_with_its_code(node):
    for payload in (b"", u16(1000), u16(1001) + b"leaving", u16(4000) + "ü".encode()):
        with WebRaw(address(node, "ws")) as raw:
            raw.connect(unique("web"))
            raw.send_raw(frame(CLOSE, payload))
            opcode, answer = raw.frame()
            assert (opcode, answer) == (CLOSE, payload[:2])
            assert raw.socket.recv(1) == b""


def test_a_ping_is_answered_with_its_data_also_within_a_message(node):
    with WebRaw(address(node, "ws")) as raw:
        raw.connect(unique("web"))
        message = packet(PINGREQ)
        raw.send_raw(frame(BINARY, message[:1], final=False) + frame(PING, b"now?") + frame(PONG, b"unasked"))
        assert raw.frame() == (PONG, b"now?")
        raw.send_raw(frame(CONTINUATION, b"", final=False) + frame(CONTINUATION, message[1:]))
        assert raw.packet() == (PINGRESP, b"")
        raw.send_raw(frame(PING, bytes(125)) * 100)
        assert [raw.frame() for _ in range(100)] == [(PONG, bytes(125))] * 100


# [MQTT-6.0.0-2]
def test_packets_and_frames_need_not_align(node):
    topic = unique("web")
    stream = connect(unique("web")) + subscribe(topic) + publish(topic, b"x" * 200, qos=1) + packet(PINGREQ)
    cuts = {
        "a byte a frame": [1] * len(stream),
        "all in one frame": [len(stream)],
        "empty frames between": [0, 3, 0, 0, 50, 0, len(stream)],
    }
    for sizes in cuts.values():
        with WebRaw(address(node, "ws")) as raw:
            at = 0
            for size in sizes:
                raw.send_raw(frame(BINARY, stream[at : at + size]))
                at += size
            kinds = [raw.packet()[0] & 0xF0 for _ in range(5)]
            assert sorted(kinds) == [CONNACK, PUBLISH, PUBACK, SUBACK, PINGRESP]
    # The request and all frames in one write, cut anywhere.
    everything = request() + b"".join(frame(BINARY, stream[at : at + 7]) for at in range(0, len(stream), 7))
    for cut in range(1, len(everything), 41):
        with Raw(address(node, "ws")) as raw:
            raw.send(everything[:cut])
            raw.send(everything[cut:])
            assert response_head(raw).startswith(b"HTTP/1.1 101")
            assert raw.socket.recv(1) == bytes([0x82])


@pytest.mark.parametrize("listener", ["ws", "wss", "mqtts"])
@pytest.mark.parametrize("case", MISTAKES[::6], ids=lambda case: case.name)
def test_a_mistake_ends_the_connection_whatever_carries_it(node, authority, listener, case):
    wrap = None if listener == "ws" else secured(authority)
    kind = Raw if listener == "mqtts" else WebRaw
    version = 5 if case.new is not None else 4
    with kind(address(node, listener), wrap) as raw:
        raw.connect(unique("hostile"), version=version)
        raw.try_send(case.new if version == 5 else case.old)
        if version == 5:
            raw.expect_disconnect(case.code)
        else:
            raw.expect_end()


# MARK: TLS


def is_alert_or_nothing(raw):
    """Whether the server ends the connection, with no word but a TLS alert."""
    raw.socket.settimeout(5)
    data = b""
    try:
        while part := raw.socket.recv(4096):
            data += part
    except ConnectionResetError:
        pass
    return data == b"" or data[0] == 0x15


GARBAGE = {
    "MQTT": connect("x"),
    "HTTP": b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
    "zeros": bytes(100),
    "ones": b"\xff" * 100,
    "an SSL 2 hello": bytes.fromhex("802e0100020015000000100100800200800300800400800500800600400700c0") + bytes(16),
    "a record that is not a hello": b"\x17\x03\x03\x00\x10" + bytes(16),
    "a hello of nothing": b"\x16\x03\x01\x00\x04\x01\x00\x00\x00",
    "an alert": b"\x15\x03\x03\x00\x02\x02\x28",
    "a record that is too long": b"\x16\x03\x01\xff\xff" + bytes(200),
} | {f"noise {seed}": b"\x16\x03\x01\x00\x80" + random.Random(seed).randbytes(128) for seed in range(10)}


@pytest.mark.parametrize("listener", ["mqtts", "wss"])
@pytest.mark.parametrize("name", GARBAGE)
def test_garbage_where_tls_is_spoken_ends_the_connection(node, listener, name):
    with Raw(address(node, listener)) as raw:
        raw.try_send(GARBAGE[name])
        assert is_alert_or_nothing(raw)


@pytest.mark.parametrize("listener", ["mqtts", "wss"])
def test_old_versions_of_tls_are_refused(node, authority, listener):
    context = ssl.create_default_context(cafile=authority.certificate)
    context.set_ciphers("DEFAULT:@SECLEVEL=0")
    context.minimum_version = ssl.TLSVersion.TLSv1
    context.maximum_version = ssl.TLSVersion.TLSv1_1
    with socket.create_connection(address(node, listener), timeout=5) as plain:
        with pytest.raises((ssl.SSLError, ConnectionResetError)):
            context.wrap_socket(plain, server_hostname=ADDRESS)


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_both_good_versions_of_tls_are_served(node, authority, version):
    with Raw(address(node, "mqtts"), secured(authority, minimum_version=version, maximum_version=version)) as raw:
        raw.connect(unique("tls"))
        raw.expect_ping()


def test_a_tls_connection_cut_in_the_middle_leaves_nothing(node, authority):
    def attack():
        for number in range(50):
            raw = Raw(address(node, "mqtts"), secured(authority))
            if number % 2:
                raw.connect(unique("cut"))
                raw.send(b"\x30\xff\xff\x03")
            raw.reset()

    attack()
    with is_steady(node, 16):
        attack()


# MARK: Those who never begin


def test_connections_that_never_reach_mqtt_are_closed_in_time(node, silent):
    opened, connections = silent

    def is_closed(raw):
        raw.socket.setblocking(False)
        try:
            while part := raw.socket.recv(4096):
                assert part
            return True
        except BlockingIOError:
            return False
        except ConnectionResetError:
            return True

    until(lambda: all(is_closed(raw) for raw in connections), "the end of them all", CONNECT_TIMEOUT + 6)
    assert time.monotonic() - opened > CONNECT_TIMEOUT / 2
