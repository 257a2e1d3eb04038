"""Queues that are longer than what waits in memory."""

from durable import Flow
from wire import PUBCOMP, PUBLISH, PUBREC, PUBREL, packet, publish, resident_bytes


class Consumer:
    """A kept session that receives at QoS 2 and remembers what it has, as a client that stores its state does."""

    def __init__(self, node):
        self._unreleased = set()
        self.received = []
        self._flow = Flow(node, "c")
        self._flow.subscribe("q", 2)

    def take_until(self, node, payload):
        """Connects, and stays connected behind the message."""
        self._flow = flow = Flow(node, "c")
        assert flow.session_present
        while True:
            kind, body = flow.packet()
            if kind == PUBREL:
                self._unreleased.discard(int.from_bytes(body[:2], "big"))
                flow.send(packet(PUBCOMP, body[:2]))
                continue
            message = flow.message(kind, body)
            if message.qos == 1 or message.identifier not in self._unreleased:
                self.received.append(message.payload)
            if message.qos == 2:
                self._unreleased.add(message.identifier)
            flow.acknowledge(message)
            if message.payload == payload:
                return

    def leave(self):
        self._flow.__exit__()


def publish_all(node, payloads):
    """Publishes at QoS 1 and 2 in turn, and waits until all are taken."""
    with Flow(node, "publisher") as flow:
        sent, taken = 0, 0
        while taken < len(payloads):
            while sent < len(payloads) and sent - taken < 100:
                flow.send(publish("q", payloads[sent], 1 + sent % 2, 1 + sent % 1000, version=4))
                sent += 1
            kind, body = flow.packet()
            assert kind & 0xF0 != PUBLISH
            if kind == PUBREC:
                flow.send(packet(PUBREL, body[:2]))
            else:
                taken += 1


def test_a_long_queue_waits_on_the_disk_and_comes_in_order_after_kills(cluster, tmp_path):
    # More than the memory that the node may take for it.
    payloads = [f"{number:06}".ljust(2000, "x").encode() for number in range(20_000)]
    most = 20 << 20
    node = cluster.node("n", flags=["--data", str(tmp_path / "data"), "--shards", "2"])
    consumer = Consumer(node)
    consumer.leave()
    before = resident_bytes(node)
    publish_all(node, payloads)
    assert resident_bytes(node) < before + most
    node.kill()
    node.start()
    assert resident_bytes(node) < before + most
    consumer.take_until(node, payloads[5000])
    node.kill()
    node.start()
    consumer.take_until(node, payloads[-1])
    assert resident_bytes(node) < before + most
    # QoS 1 may bring a message again, and those behind it.
    assert list(dict.fromkeys(consumer.received)) == payloads
    at_qos2 = [payload for payload in consumer.received if int(payload[:6]) % 2 == 1]
    assert len(at_qos2) == len(set(at_qos2)), "doubled"
