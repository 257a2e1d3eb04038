"""What a node with a data directory has after it was killed, and when it does not start."""

import os
import random
import socket
import subprocess
import threading

import pytest

from dunlin import BINARY, ENVIRONMENT, PATIENCE, Client, until
from wire import CONNACK, PUBACK, PUBCOMP, PUBLISH, PUBREC, PUBREL, SUBACK
from wire import connect, packet, publish, resident_bytes, subscribe, u16

# How often the crash test kills its node: a hundred and more by hand.
CRASHES = int(os.environ.get("DUNLIN_CRASHES", "10"))


def refused(*flags):
    """What a node that does not start says."""
    done = subprocess.run(
        [BINARY, "--bind", "127.0.0.1", "--mqtt-port", "0", "--ws-port", "off", "--gossip-port", "off", *flags],
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        env=ENVIRONMENT,
    )
    assert done.returncode == 1, done.stderr
    assert done.stdout == ""
    return done.stderr


def retained(node, topic_filter, count):
    """What a new subscriber gets, by topic."""
    with Client(node) as client:
        client.subscribe(topic_filter, 1)
        messages = [client.receive() for _ in range(count)]
        # Nothing more is retained when what is published now comes next.
        client.publish(topic_filter.replace("#", "end"), "end")
        assert client.receive().payload == b"end"
    return {message.topic: message.payload.decode() for message in messages}


def test_retained_messages_outlive_a_kill_and_a_stop(cluster, tmp_path):
    node = cluster.node("n", flags=["--data", str(tmp_path / "data")])
    with Client(node) as client:
        client.publish("a/kept", "old", 1, retain=True)
        client.publish("a/kept", "new", 2, retain=True)
        client.publish("a/cleared", "x", 1, retain=True)
        client.publish("a/cleared", "", 1, retain=True)
    node.kill()
    node.start()
    assert retained(node, "a/#", 1) == {"a/kept": "new"}
    with Client(node) as client:
        client.publish("a/unsure", "x", 0, retain=True)
        until(lambda: len(retained(node, "a/unsure", 1)) == 1, "the QoS 0 message is taken in")
    assert node.terminate() == 0
    node.start()
    assert retained(node, "a/#", 2) == {"a/kept": "new", "a/unsure": "x"}
    assert node.terminate() == 0


class Publisher(threading.Thread):
    """Publishes rising numbers to topics at random, as fast as they are acknowledged, until the connection is lost."""

    WINDOW = 50

    def __init__(self, node, prefix, first, topics=40):
        super().__init__(daemon=True)
        self.topics = [f"{prefix}/{index}" for index in range(topics)]
        self.next = first
        # By topic, of each message by number: an empty payload clears the topic.
        self.sent = {topic: {} for topic in self.topics}
        self.acknowledged = dict.fromkeys(self.topics, 0)
        self.count = 0
        self._waiting = {}
        self._socket = socket.create_connection(node.mqtt, timeout=PATIENCE)
        self._socket.sendall(connect(f"publisher-{first}", version=4))
        assert self._socket.recv(4)[3] == 0

    def run(self):
        identifier, data = 0, b""
        try:
            while True:
                while len(self._waiting) < self.WINDOW:
                    identifier = identifier % 65_535 + 1
                    topic, number = random.choice(self.topics), self.next
                    payload = b"" if random.random() < 0.1 else str(number).encode()
                    self.next += 1
                    self.sent[topic][number] = payload
                    self._waiting[identifier] = (topic, number)
                    self._socket.sendall(publish(topic, payload, 1, identifier, retain=True, version=4))
                part = self._socket.recv(65_536)
                if not part:
                    return
                data += part
                while len(data) >= 4:
                    assert data[0] == PUBACK
                    topic, number = self._waiting.pop(int.from_bytes(data[2:4], "big"))
                    self.acknowledged[topic] = number
                    self.count += 1
                    data = data[4:]
        except OSError:
            return


def test_no_acknowledged_retained_message_is_lost_by_kills_at_random_moments(cluster, tmp_path):
    seed = random.randrange(1 << 32)
    print(f"seed {seed}")
    generator = random.Random(seed)
    node = cluster.node("n", flags=["--data", str(tmp_path / "data")])
    number, values, total = 1, {}, 0
    for crash in range(CRASHES):
        publisher = Publisher(node, "t", number)
        publisher.start()
        most = generator.randrange(1, 400)
        until(lambda: publisher.count >= most, f"{most} acknowledgements")
        node.kill()
        publisher.join(PATIENCE)
        assert not publisher.is_alive()
        node.start()
        number, total = publisher.next, total + publisher.count
        with Client(node) as client:
            client.subscribe("t/#", 1)
            client.publish("t/end", "end")
            found = {}
            while (message := client.receive()).topic != "t/end":
                assert message.topic not in found
                found[message.topic] = message.payload
        for topic in publisher.topics:
            # The last acknowledged one, or a later one that was not acknowledged in time; nothing sent: as before.
            allowed = [
                payload
                for sent, payload in publisher.sent[topic].items()
                if sent >= publisher.acknowledged[topic]
            ]
            if not publisher.acknowledged[topic]:
                allowed.append(values.get(topic, b""))
            assert found.get(topic, b"") in allowed, f"crash {crash}: {topic}"
            values[topic] = found.get(topic, b"")
    assert total > CRASHES


def test_a_data_directory_in_use_is_refused(cluster, tmp_path):
    data = str(tmp_path / "data")
    cluster.node("n", flags=["--data", data])
    assert f"another process uses the data directory {data}" in refused("--data", data)


def test_what_cannot_be_a_data_directory_is_refused(tmp_path):
    assert "does not exist" in refused("--data", str(tmp_path / "no" / "data"))
    (tmp_path / "file").write_text("x")
    assert "no directory" in refused("--data", str(tmp_path / "file"))


def test_a_damaged_database_is_set_aside_and_the_node_starts(cluster, tmp_path):
    data = tmp_path / "data"
    node = cluster.node("n", flags=["--data", str(data)])
    with Client(node) as client:
        for index in range(500):
            client.publish(f"d/{index}", "x" * 200, 1 if index == 499 else 0, retain=True)
    assert node.terminate() == 0
    database = data / "dunlin.db"
    content = bytearray(database.read_bytes())
    middle = len(content) // 2 // 4096 * 4096
    content[middle : middle + 4096] = random.Random(1).randbytes(4096)
    database.write_bytes(content)
    node.start()
    node.wait_for_log("damaged and has been set aside")
    assert [path.name for path in data.glob("dunlin.db.damaged-*")]
    with Client(node) as client:
        client.publish("new", "x", 1, retain=True)
    assert node.terminate() == 0


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 8 MiB."""
    path = tmp_path / "disk"
    path.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", str(path)]
    done = subprocess.run(mount, capture_output=True, text=True)
    if done.returncode != 0:
        pytest.skip(f"a file system cannot be mounted: {done.stderr}")
    yield path
    subprocess.run(["umount", "-l", str(path)], check=True)


def test_a_full_disk_is_told_to_clients_and_recovered_from(cluster, small_disk):
    node = cluster.node("n", flags=["--data", str(small_disk / "data")])
    filler = small_disk / "filler"
    with open(filler, "wb", buffering=0) as file:
        with pytest.raises(OSError):
            while True:
                file.write(bytes(4096))
    with socket.create_connection(node.mqtt, timeout=PATIENCE) as raw:
        raw.sendall(connect("c"))
        assert raw.recv(1024)[3] == 0

        def answer(identifier, retain):
            raw.sendall(publish("t", b"x" * 100_000, 1, identifier, retain=retain))
            reply = raw.recv(1024)
            assert (reply[0], reply[2:4]) == (PUBACK, u16(identifier))
            return reply[4] if len(reply) > 4 else 0

        assert answer(1, True) == 0x97
        node.wait_for_log("nothing can be stored.*full")
        assert answer(2, False) in (0, 0x10)
        filler.unlink()
        node.wait_for_log("storing works again")
        assert answer(3, True) in (0, 0x10)
    node.kill()
    node.start()
    assert retained(node, "t", 1) == {"t": "x" * 100_000}


class Flow:
    """One connection of a kept session, packet by packet: publishes at QoS 1 and 2, subscribes, and notes what was answered."""

    def __init__(self, node, client_id):
        self._socket = socket.create_connection(node.mqtt, timeout=PATIENCE)
        self._data = b""
        self._socket.sendall(connect(client_id, version=4, flags=0))
        kind, body = self.packet()
        assert kind == CONNACK and body[1] == 0
        self.session_present = body[0] == 1

    def send(self, data):
        self._socket.sendall(data)

    def packet(self):
        """The next packet's first byte and its body; None at the end of the connection."""
        while True:
            if len(self._data) >= 2:
                length, size = self._data[1] & 0x7F, 2
                if self._data[1] & 0x80:
                    length, size = length | (self._data[2] << 7), 3
                if len(self._data) >= size + length:
                    found = self._data[0], self._data[size : size + length]
                    self._data = self._data[size + length :]
                    return found
            part = self._socket.recv(65_536)
            if not part:
                return None
            self._data += part

    def close(self):
        self._socket.close()


class Producer:
    """Publishes rising numbers at QoS 1 and 2 in turn, goes on after a crash where it was, as the protocol asks."""

    WINDOW = 20

    def __init__(self, name):
        self.name = name
        self.next = 1
        # By packet identifier: number, QoS, whether PUBREC has come.
        self.waiting = {}
        self.acknowledged = set()

    def run_until_lost(self, node):
        try:
            flow = Flow(node, self.name)
            for identifier, (number, qos, received) in list(self.waiting.items()):
                if received:
                    flow.send(packet(PUBREL, u16(identifier)))
                else:
                    flow.send(self._message(identifier, number, qos, dup=True))
            while True:
                while len(self.waiting) < self.WINDOW:
                    identifier = next(i for i in range(1, 65_536) if i not in self.waiting)
                    number, qos = self.next, 1 + self.next % 2
                    self.next += 1
                    self.waiting[identifier] = (number, qos, False)
                    flow.send(self._message(identifier, number, qos))
                if (found := flow.packet()) is None:
                    return
                kind, body = found
                identifier = int.from_bytes(body[:2], "big")
                number, qos, _ = self.waiting.get(identifier, (None, None, None))
                if kind == PUBREC:
                    self.acknowledged.add(number)
                    self.waiting[identifier] = (number, qos, True)
                    flow.send(packet(PUBREL, u16(identifier)))
                else:
                    assert kind == (PUBACK if qos == 1 else PUBCOMP)
                    self.acknowledged.add(number)
                    del self.waiting[identifier]
        except OSError:
            return

    def _message(self, identifier, number, qos, dup=False):
        topic = f"q/{self.name}/{qos}"
        return publish(topic, str(number).encode(), qos, identifier, dup=dup, version=4)


class Consumer:
    """A kept session that receives at QoS 2 and remembers what it has, as a client that stores its state does."""

    def __init__(self, name):
        self.name = name
        self.unreleased = {}
        self.received = []
        self.flow = None

    def run_until_lost(self, node, until_payload=None):
        try:
            self.flow = flow = Flow(node, self.name)
            assert flow.session_present
            while (found := flow.packet()) is not None:
                kind, body = found
                if kind == PUBREL:
                    self.unreleased.pop(int.from_bytes(body[:2], "big"), None)
                    flow.send(packet(PUBCOMP, body[:2]))
                    continue
                assert kind & 0xF0 == PUBLISH
                length = int.from_bytes(body[:2], "big")
                topic, rest, qos = body[2 : 2 + length].decode(), body[2 + length :], kind >> 1 & 3
                identifier, payload = int.from_bytes(rest[:2], "big"), rest[2:].decode()
                if qos == 1:
                    self.received.append((topic, payload))
                    flow.send(packet(PUBACK, rest[:2]))
                else:
                    if identifier not in self.unreleased:
                        self.received.append((topic, payload))
                        self.unreleased[identifier] = payload
                    flow.send(packet(PUBREC, rest[:2]))
                if payload == until_payload:
                    return
        except OSError:
            return


def without_repeats(numbers):
    """QoS 1 may bring a message again, and those behind it; then they are the same again."""
    seen, out = set(), []
    for number in numbers:
        if number not in seen:
            seen.add(number)
            out.append(number)
    return out


def test_kills_at_random_moments_lose_nothing_acknowledged_and_double_nothing_at_qos2(cluster, tmp_path):
    seed = random.randrange(1 << 32)
    print(f"seed {seed}")
    generator = random.Random(seed)
    node = cluster.node("n", flags=["--data", str(tmp_path / "data"), "--shards", "2"])
    producers = [Producer(f"p{index}") for index in range(3)]
    # One receives all the time, one only at the end.
    consumers = [Consumer("c0"), Consumer("c1")]
    for consumer in consumers:
        flow = Flow(node, consumer.name)
        flow.send(subscribe("q/#", options=2, version=4))
        assert flow.packet() == (SUBACK, b"\x00\x01\x02")
        flow.close()
    for crash in range(CRASHES):
        threads = [threading.Thread(target=p.run_until_lost, args=(node,), daemon=True) for p in producers]
        threads.append(threading.Thread(target=consumers[0].run_until_lost, args=(node,), daemon=True))
        before = sum(len(p.acknowledged) for p in producers)
        for thread in threads:
            thread.start()
        most = before + generator.randrange(1, 300)
        until(lambda: sum(len(p.acknowledged) for p in producers) >= most, f"{most} acknowledgements")
        node.kill()
        for thread in threads:
            thread.join(PATIENCE)
            assert not thread.is_alive()
        node.start()
    with Client(node) as client:
        client.publish("q/end", "end", 2)
    for consumer in consumers:
        consumer.run_until_lost(node, "end")
        assert consumer.received[-1] == ("q/end", "end"), consumer.name
        for producer in producers:
            for qos in (1, 2):
                topic = f"q/{producer.name}/{qos}"
                numbers = [int(payload) for found, payload in consumer.received if found == topic]
                if qos == 2:
                    assert len(numbers) == len(set(numbers)), f"{consumer.name}, {topic}: doubled"
                once = without_repeats(numbers)
                assert once == sorted(once), f"{consumer.name}, {topic}: out of order"
                expected = {number for number in producer.acknowledged if 1 + number % 2 == qos}
                assert expected <= set(once), f"{consumer.name}, {topic}: lost {sorted(expected - set(once))[:5]}"


def publish_all(node, payloads):
    """Publishes at QoS 1 and 2 in turn, and waits until all are taken."""
    flow = Flow(node, "publisher")
    sent, taken = 0, 0
    while taken < len(payloads):
        while sent < len(payloads) and sent - taken < 100:
            flow.send(publish("q", payloads[sent], 1 + sent % 2, 1 + sent % 1000, version=4))
            sent += 1
        kind, body = flow.packet()
        if kind == PUBREC:
            flow.send(packet(PUBREL, body[:2]))
        else:
            taken += 1
    flow.close()


def test_a_long_queue_waits_on_the_disk_and_comes_in_order_after_kills(cluster, tmp_path):
    # More than the memory that the node may take for it.
    payloads = [f"{number:06}".ljust(2000, "x") for number in range(20_000)]
    most = 20 << 20
    node = cluster.node("n", flags=["--data", str(tmp_path / "data"), "--shards", "2"])
    consumer = Consumer("c")
    flow = Flow(node, consumer.name)
    flow.send(subscribe("q", options=2, version=4))
    assert flow.packet() == (SUBACK, b"\x00\x01\x02")
    flow.close()
    before = resident_bytes(node)
    publish_all(node, [payload.encode() for payload in payloads])
    assert resident_bytes(node) < before + most
    node.kill()
    node.start()
    assert resident_bytes(node) < before + most
    consumer.run_until_lost(node, payloads[5000])
    node.kill()
    node.start()
    consumer.run_until_lost(node, payloads[-1])
    assert resident_bytes(node) < before + most
    received = [payload for _, payload in consumer.received]
    assert without_repeats(received) == payloads
    at_qos2 = [payload for payload in received if int(payload[:6]) % 2 == 1]
    assert len(at_qos2) == len(set(at_qos2)), "doubled"
