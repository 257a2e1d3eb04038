"""MQTT packets as bytes, and a socket to send them over: for tests that do what no client library would."""

import contextlib
import socket
import struct
import time

from dunlin import PATIENCE, until

CONNECT, CONNACK, PUBLISH, PUBACK, PUBREC, PUBREL, PUBCOMP = 0x10, 0x20, 0x30, 0x40, 0x50, 0x62, 0x70
SUBSCRIBE, SUBACK, UNSUBSCRIBE, UNSUBACK = 0x82, 0x90, 0xA2, 0xB0
PINGREQ, PINGRESP, DISCONNECT, AUTH = 0xC0, 0xD0, 0xE0, 0xF0


def varint(value):
    out = b""
    while True:
        value, low = divmod(value, 128)
        out += bytes([low | (0x80 if value else 0)])
        if not value:
            return out


def packet(first, body=b""):
    return bytes([first]) + varint(len(body)) + body


def binary(data):
    return struct.pack(">H", len(data)) + data


def text(string):
    return binary(string if isinstance(string, bytes) else string.encode())


def u16(value):
    return struct.pack(">H", value)


def u32(value):
    return struct.pack(">I", value)


def properties(content=b""):
    """The content with its length before it."""
    return varint(len(content)) + content


def connect(client_id="", version=5, flags=0x02, keep_alive=0, props=b"", rest=b"", name=None, level=None):
    """A CONNECT; `rest` is what follows the client identifier."""
    name = name if name is not None else ("MQIsdp" if version == 3 else "MQTT")
    head = text(name) + bytes([version if level is None else level, flags]) + u16(keep_alive)
    return packet(CONNECT, head + (properties(props) if version == 5 else b"") + text(client_id) + rest)


def publish(topic, payload=b"", qos=0, identifier=1, props=b"", retain=False, dup=False, version=5):
    first = PUBLISH | (8 if dup else 0) | qos << 1 | retain
    body = text(topic) + (u16(identifier) if qos else b"") + (properties(props) if version == 5 else b"")
    return packet(first, body + payload)


def subscribe(*filters, options=0, identifier=1, props=b"", version=5):
    body = u16(identifier) + (properties(props) if version == 5 else b"")
    return packet(SUBSCRIBE, body + b"".join(text(name) + bytes([options]) for name in filters))


def unsubscribe(*filters, identifier=1, props=b"", version=5):
    body = u16(identifier) + (properties(props) if version == 5 else b"")
    return packet(UNSUBSCRIBE, body + b"".join(text(name) for name in filters))


def expect_reason_string(content):
    """These are the properties of a packet: none, or a reason string."""
    if content not in (b"", b"\x00"):
        size = len(content) - 4
        assert content[:4] == bytes([size + 3, 0x1F]) + u16(size), content.hex()
        assert content[4:].decode().isprintable()


class Raw:
    """A connection that sends any bytes and reads whole packets."""

    def __init__(self, address, wrap=None):
        self.socket = socket.create_connection(address, timeout=PATIENCE)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if wrap:
            self.socket = wrap(self.socket)

    def __enter__(self):
        return self

    def __exit__(self, *_exception):
        self.socket.close()

    def send(self, data):
        self.socket.sendall(data)

    def try_send(self, data):
        """For what the broker may not wait for: it closes as soon as it has seen enough."""
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            self.socket.sendall(data)

    def connect(self, client_id, **options):
        """Connects; returns Session Present and the CONNACK's properties with their length."""
        self.send(connect(client_id, **options))
        first, body = self.packet()
        assert (first, body[1]) == (CONNACK, 0), f"CONNACK {first:#x} {body.hex()}"
        return body[0], body[2:]

    def packet(self, seconds=PATIENCE):
        """The next packet's first byte and its body; (None, b"") at the end of the connection."""
        self.socket.settimeout(seconds)
        first = self._read(1)
        if not first:
            return None, b""
        length = shift = 0
        while True:
            byte = self._read(1)[0]
            length |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                return first[0], self._read(length)

    def expect_disconnect(self, code):
        """DISCONNECT with this reason code, with or without a reason string, and then the end."""
        first, body = self.packet()
        assert (first, body[:1]) == (DISCONNECT, bytes([code])), f"{first} {body.hex()}"
        expect_reason_string(body[1:])
        self.expect_end()

    def expect_end(self, seconds=PATIENCE):
        """The broker closes, and says nothing before it does."""
        first, body = self.packet(seconds)
        assert first is None, f"expected the end, got {first:#x} {body.hex()}"

    def expect_ping(self):
        """The connection is alive and nothing else was to come."""
        self.send(packet(PINGREQ))
        assert self.packet() == (PINGRESP, b"")

    def reset(self):
        """Ends the connection with a TCP reset."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.socket.close()

    def _read(self, count):
        data = b""
        while len(data) < count:
            part = self.socket.recv(count - len(data))
            if not part:
                assert not data, f"the connection ended within a packet, after {data.hex()}"
                return data
            data += part
        return data


class Witness:
    """A well-behaved client that shares the broker with the others and must not notice."""

    def __init__(self, node, topic):
        self.topic = topic
        self._raw = Raw(node.mqtt)
        self._raw.connect(topic)
        self._raw.send(subscribe(topic, options=1))
        assert self._raw.packet() == (SUBACK, u16(1) + b"\x00\x01")
        self._count = 0

    def check(self, seconds=2.0):
        """A QoS 1 message goes round, within so long, and nothing else arrives."""
        self._count += 1
        payload = str(self._count).encode()
        began = time.monotonic()
        self._raw.send(publish(self.topic, payload, qos=1, identifier=self._count % 65_535 + 1))
        is_acknowledged = is_received = False
        while not (is_acknowledged and is_received):
            first, body = self._raw.packet(seconds)
            if first & 0xF0 == PUBACK:
                assert body[:2] == u16(self._count % 65_535 + 1)
                is_acknowledged = True
            else:
                topic_end = 2 + len(self.topic)
                assert first == PUBLISH | 2 and body[2:topic_end] == self.topic.encode()
                assert body.endswith(payload)
                self._raw.send(packet(PUBACK, body[topic_end : topic_end + 2]))
                is_received = True
        assert time.monotonic() - began < seconds

    def close(self):
        self._raw.socket.close()


def resident_bytes(node):
    """The resident memory of a node's process."""
    with open(f"/proc/{node.process.pid}/status") as status:
        return next(int(line.split()[1]) * 1024 for line in status if line.startswith("VmRSS:"))


@contextlib.contextmanager
def is_steady(node, tolerance_mebibytes):
    """What happens within leaves the node's resident memory where it was, or comes back to it in a few seconds."""
    bound = resident_bytes(node) + tolerance_mebibytes * 1024 * 1024
    yield
    until(lambda: resident_bytes(node) <= bound, f"resident memory of {node.name} at most {bound >> 20} MiB again")
