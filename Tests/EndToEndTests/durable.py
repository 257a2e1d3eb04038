"""Clients that remember what a broker has promised them, through its crashes, and see whether it was kept."""

import random
from dataclasses import dataclass

from dunlin import PATIENCE
from wire import (
    CONNACK, PUBACK, PUBCOMP, PUBLISH, PUBREC, PUBREL, SUBACK, connect, packet, publish, subscribe, u16, u32,
)


@dataclass(frozen=True)
class Message:
    topic: str
    payload: bytes
    qos: int
    identifier: int


class Refused(AssertionError):
    """A CONNACK with another code than 0."""

    def __init__(self, client_id, code):
        super().__init__(f"{client_id}: CONNACK {code:#x}")
        self.code = code


class Flow:
    """One connection, packet by packet. Whatever its end is, `packet` raises an OSError."""

    def __init__(self, node, client_id, version=4, clean=False, receive_maximum=None):
        self.version = version
        self._data = b""
        self._socket = node.connection()
        props = b"\x11" + u32(3600) if version == 5 else b""
        if receive_maximum:
            props += b"\x21" + u16(receive_maximum)
        self.send(connect(client_id, version=version, flags=2 if clean else 0, props=props))
        kind, body = self.packet()
        assert kind == CONNACK, f"{client_id}: {kind:#x} {body.hex()}"
        if body[1]:
            self.close()
            raise Refused(client_id, body[1])
        self.session_present = body[0] == 1

    def __enter__(self):
        return self

    def __exit__(self, *_exception):
        self.close()

    def close(self):
        self._socket.close()

    def send(self, data):
        self._socket.sendall(data)

    def packet_within(self, seconds):
        """The next packet; (None, b"") if none comes so soon."""
        self._socket.settimeout(seconds)
        try:
            return self.packet()
        except TimeoutError:
            return None, b""
        finally:
            self._socket.settimeout(PATIENCE)

    def packet(self):
        """The next packet's first byte and its body."""
        while True:
            if len(self._data) >= 2:
                length, size, shift = self._data[1] & 0x7F, 2, 7
                while self._data[size - 1] & 0x80 and len(self._data) > size:
                    length |= (self._data[size] & 0x7F) << shift
                    size, shift = size + 1, shift + 7
                if not self._data[size - 1] & 0x80 and len(self._data) >= size + length:
                    found = self._data[0], self._data[size : size + length]
                    self._data = self._data[size + length :]
                    return found
            part = self._socket.recv(65_536)
            if not part:
                raise ConnectionError("the connection ended")
            self._data += part

    def message(self, kind, body):
        """A PUBLISH."""
        assert kind & 0xF0 == PUBLISH, f"{kind:#x} {body.hex()}"
        end = 2 + int.from_bytes(body[:2], "big")
        topic, rest, qos, identifier = body[2:end].decode(), body[end:], kind >> 1 & 3, 0
        if qos:
            identifier, rest = int.from_bytes(rest[:2], "big"), rest[2:]
        if self.version == 5:
            assert rest[0] < 128
            rest = rest[1 + rest[0] :]
        return Message(topic, rest, qos, identifier)

    def acknowledge(self, message):
        if message.qos:
            self.send(packet(PUBACK if message.qos == 1 else PUBREC, u16(message.identifier)))

    def answer(self, *wanted, on_message=lambda message: None):
        """The next packet of one of these kinds, and its body; messages before it are acknowledged."""
        while True:
            kind, body = self.packet()
            if kind in wanted:
                return kind, body
            if kind == PUBREL:
                self.send(packet(PUBCOMP, body[:2]))
            else:
                message = self.message(kind, body)
                self.acknowledge(message)
                on_message(message)

    def subscribe(self, topic_filter, qos, on_message=lambda message: None):
        self.send(subscribe(topic_filter, options=qos, version=self.version))
        _, body = self.answer(SUBACK, on_message=on_message)
        assert body[-1] == qos

    def publish(self, topic, payload, qos=1, retain=False):
        """Returns when it is acknowledged."""
        self.send(publish(topic, payload, qos, retain=retain, version=self.version))
        self.answer(PUBACK if qos == 1 else PUBREC)
        if qos == 2:
            self.send(packet(PUBREL, u16(1)))
            self.answer(PUBCOMP)

    def messages_until(self, end):
        """Those that come before one to this topic."""
        messages = []
        while True:
            kind, body = self.packet()
            if kind == PUBREL:
                self.send(packet(PUBCOMP, body[:2]))
                continue
            message = self.message(kind, body)
            self.acknowledge(message)
            if message.topic == end:
                return messages
            messages.append(message)

    def is_at_end(self):
        """Waits for the broker to close."""
        try:
            while True:
                self.packet()
        except ConnectionError:
            return True


def shown(value):
    """Payloads are padded."""
    return value.strip() if isinstance(value, bytes) else value


class Register:
    """What a value may be after a crash: the last that was acknowledged, or one that was asked for since."""

    def __init__(self, value):
        self._values = [(0, value)]

    @property
    def possible(self):
        return [value for _, value in self._values]

    def ask(self, number, value):
        self._values.append((number, value))

    def on_acknowledged(self, number):
        self._values = [pair for pair in self._values if pair[0] >= number]

    def on_found(self, value, what):
        assert value in self.possible, f"{what} is {shown(value)} and may only be {[*map(shown, self.possible)]}"
        self._values = [(0, value)]


class Actor:
    """Does something with a node until that dies, again and again, and keeps in mind what was acknowledged."""

    def __init__(self, name, seed):
        self.name = name
        self.random = random.Random(f"{seed} {name}")
        self.count = 0
        self.failure = None

    def run(self, node):
        try:
            self.live(node)
        except TimeoutError:
            self.failure = AssertionError(f"{self.name} got no answer for {PATIENCE:g} s")
        except OSError:
            return
        except Exception as error:
            # In the thread of the test it is raised again.
            self.failure = error


class Producer(Actor):
    """Publishes rising numbers at QoS 1 and 2 to topics of its own, and goes on after a crash where it was, as the protocol
    asks."""

    WINDOW = 20

    def __init__(self, name, seed, size):
        super().__init__(name, seed)
        self._size = size
        self._next = 1
        # By packet identifier: number, QoS, whether PUBREC has come.
        self._waiting = {}
        self.acknowledged = {}
        # QoS 1: sent more than once, because the first PUBACK did not come.
        self.repeated = set()

    @staticmethod
    def qos(number):
        return 1 + number % 2

    def topic(self, number):
        return f"q/{self.name}/{self.qos(number)}/{number // 2 % 2}"

    def live(self, node):
        with Flow(node, self.name) as flow:
            assert flow.session_present or not self.acknowledged, f"the session of {self.name} is lost"
            for identifier, (number, qos, is_received) in list(self._waiting.items()):
                if qos == 1:
                    self.repeated.add((self.topic(number), number))
                flow.send(packet(PUBREL, u16(identifier)) if is_received else self._packet(identifier, number, True))
            while True:
                while len(self._waiting) < self.WINDOW:
                    identifier = next(i for i in range(1, 65_536) if i not in self._waiting)
                    self._waiting[identifier] = (self._next, self.qos(self._next), False)
                    self._next += 1
                    flow.send(self._packet(identifier, self._next - 1, False))
                kind, body = flow.packet()
                identifier = int.from_bytes(body[:2], "big")
                number, qos, _ = self._waiting[identifier]
                if kind in (PUBACK, PUBREC):
                    assert kind == (PUBACK if qos == 1 else PUBREC)
                    self.acknowledged.setdefault(self.topic(number), set()).add(number)
                    self.count += 1
                if kind == PUBREC:
                    self._waiting[identifier] = (number, qos, True)
                    flow.send(packet(PUBREL, u16(identifier)))
                else:
                    assert kind in (PUBACK, PUBCOMP)
                    del self._waiting[identifier]

    def _packet(self, identifier, number, dup):
        payload = str(number).encode().ljust(self._size)
        return publish(self.topic(number), payload, self.qos(number), identifier, dup=dup, version=4)


class Consumer(Actor):
    """A kept session that receives at QoS 2 and remembers what it has, as a client that stores its state does. It stays, or
    it comes and goes, or it is away until it is to take all."""

    def __init__(self, name, seed, producers, stays, version):
        super().__init__(name, seed)
        self._producers = producers
        self._stays = stays
        self._version = version
        self._unreleased = set()
        self._highest = {}
        self.seen = {}
        # QoS 1: acknowledged before the broker acknowledged something else to this client.
        self._settled = set()

    def subscribe(self, node):
        with Flow(node, self.name, self._version) as flow:
            flow.subscribe("q/#", 2)

    def live(self, node):
        while self._stays is not None:
            self._visit(node, self._stays or self.random.randrange(40), None)

    def take_all(self, node, end):
        """Receives until this payload."""
        self._visit(node, True, end)

    def _visit(self, node, most, end):
        """One connection, for so many messages, or for all that come."""
        with Flow(node, self.name, self._version) as flow:
            assert flow.session_present, f"the session of {self.name} is lost"
            acknowledged, asked, taken = [], [], 0
            while most is True or taken < most:
                kind, body = flow.packet()
                if kind == PUBREL:
                    self._unreleased.discard(int.from_bytes(body[:2], "big"))
                    flow.send(packet(PUBCOMP, body[:2]))
                    continue
                if kind == SUBACK:
                    self._settled.update(asked)
                    asked = []
                    continue
                message = flow.message(kind, body)
                taken += 1
                if most is not True and taken == most and self.random.random() < 0.5:
                    # It is gone before it has this one.
                    return
                self._take(message)
                flow.acknowledge(message)
                if message.payload == end:
                    return
                if message.qos == 1 and message.topic != "q/end":
                    acknowledged.append((message.topic, int(message.payload)))
                if len(acknowledged) >= 10 and not asked:
                    asked, acknowledged = acknowledged, []
                    flow.send(subscribe(f"fence/{self.name}", options=1, version=self._version))

    def _take(self, message):
        if message.qos == 2:
            if message.identifier in self._unreleased:
                return
            self._unreleased.add(message.identifier)
        if message.topic == "q/end":
            return
        number, seen = int(message.payload), self.seen.setdefault(message.topic, set())
        what = f"{self.name} received {number} of {message.topic}"
        if number in seen:
            assert message.qos == 1, f"{what} twice"
            is_repeated = any((message.topic, number) in producer.repeated for producer in self._producers)
            assert is_repeated or (message.topic, number) not in self._settled, f"{what} again after its PUBACK"
            return
        highest = self._highest.get(message.topic, 0)
        assert number > highest, f"{what} behind {highest}"
        seen.add(number)
        self._highest[message.topic] = number
        self.count += 1

    def check(self):
        for producer in self._producers:
            for topic, acknowledged in producer.acknowledged.items():
                missing = sorted(acknowledged - self.seen.get(topic, set()))
                assert not missing, f"{self.name} never received {len(missing)} of {topic}: {missing[:5]}…"
