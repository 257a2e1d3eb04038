"""Subscribers that stop reading cost themselves: memory stays bounded and others are served as before.

A few in CI; DUNLIN_SLOW_CONSUMERS=1000 is the full storm.
"""

import contextlib
import os
import socket
import struct
import threading
import time

import pytest

from dunlin import PATIENCE, Client, unique, until

CONSUMERS = int(os.environ.get("DUNLIN_SLOW_CONSUMERS", "150"))
SECONDS = float(os.environ.get("DUNLIN_SLOW_SECONDS", "6" if CONSUMERS < 1000 else "30"))
MEBIBYTE = 1024 * 1024
# Messages of 1 KiB in a second: 50 MiB for all consumers, far below what the broker can do while they still read.
RATE = 50_000 / CONSUMERS
# What may wait for one client times their number is far above this mark.
MARK = (128 if CONSUMERS < 1000 else 512) * MEBIBYTE
# The latency may be three times the undisturbed one. In CI, where others use the machine, a few milliseconds are the
# machine's, whatever the broker does: a thread waits for as long as one turn of the scheduler takes.
NOISE = 3 if CONSUMERS < 1000 else 0


def text(string):
    return struct.pack(">H", len(string)) + string.encode()


def packet(kind, body):
    length, rest = b"", len(body)
    while True:
        length += bytes([rest & 0x7F | (0x80 if rest > 0x7F else 0)])
        rest >>= 7
        if not rest:
            return bytes([kind]) + length + body


def connect(node, client_id, receive_buffer=None):
    """A client by hand, connected with a session that ends with it."""
    connection = socket.socket()
    if receive_buffer:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
    connection.settimeout(PATIENCE)
    connection.connect(node.mqtt)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    connection.sendall(packet(0x10, text("MQTT") + b"\x04\x02\x00\x00" + text(client_id)))
    assert connection.recv(4, socket.MSG_WAITALL) == b"\x20\x02\x00\x00"
    return connection


def subscribe(connection, topic, qos):
    connection.sendall(packet(0x82, b"\x00\x01" + text(topic) + bytes([qos])))
    assert connection.recv(5, socket.MSG_WAITALL) == bytes([0x90, 3, 0, 1, qos])


class Stuck:
    """Subscribers that read nothing after their SUBACK."""

    def __init__(self, node, topic, qos):
        self.connections = []
        for _ in range(CONSUMERS):
            connection = connect(node, unique("stuck"), receive_buffer=4096)
            subscribe(connection, topic, qos)
            self.connections.append(connection)

    def close(self):
        for connection in self.connections:
            connection.close()


class Publisher(threading.Thread):
    """A publisher that goes on at a steady pace, as far as it is read from, and ignores acknowledgements."""

    def __init__(self, node, topic, qos):
        super().__init__(daemon=True)
        head = text(topic) + (b"\x00\x01" if qos else b"")
        self._packet = packet(0x30 | qos << 1, head + b"x" * 1024) 
        self._connection = connect(node, unique("flood"))
        self._connection.setblocking(False)
        self.sent = 0
        self._ends = False
        self.start()

    def run(self):
        due = time.monotonic()
        while not self._ends:
            rest = memoryview(self._packet)
            while rest and not self._ends:
                try:
                    count = self._connection.send(rest)
                except BlockingIOError:
                    time.sleep(0.002)
                    continue
                self.sent += count
                rest = rest[count:]
            with contextlib.suppress(BlockingIOError):
                self._connection.recv(65536)
            due = max(due + 1 / RATE, time.monotonic() - 1)
            time.sleep(max(0, due - time.monotonic()))

    def close(self):
        self._ends = True
        self.join(PATIENCE)
        self._connection.close()


def p99(mqload, node, seconds):
    """The p99 latency of a paced pair of clients, in milliseconds; each message must arrive."""
    figures = mqload("pair", "-p", 1, "-r", 250, "-q", 0, "-d", seconds, "--warmup", 25, "-H", node.host).finish()
    return figures["lat_us_p99"] / 1000


class Memory(threading.Thread):
    """The most resident memory that a node had, in bytes."""

    def __init__(self, node):
        super().__init__(daemon=True)
        self._path = f"/proc/{node.process.pid}/statm"
        self.peak = 0
        self._ends = threading.Event()
        self.start()

    def now(self):
        with open(self._path) as file:
            return int(file.read().split()[1]) * os.sysconf("SC_PAGESIZE")

    def run(self):
        while not self._ends.wait(0.02):
            try:
                self.peak = max(self.peak, self.now())
            except FileNotFoundError:
                # The node has ended: the test has failed already, and says why.
                return

    def close(self):
        self._ends.set()
        self.join(PATIENCE)


@pytest.mark.parametrize("qos", [0, 1])
def test_a_storm_of_slow_consumers_harms_nobody_else(cluster, mqload, qos):
    node = cluster.node(flags=["--memory-mark", str(MARK), "--shards", "1"])
    topic = unique("storm")
    # Undisturbed by the consumers, that is: the publisher goes on in both measurements, as it takes its share of the machine
    # whether anybody listens or not.
    quiet = Publisher(node, unique("nobody"), qos)
    undisturbed = p99(mqload, node, SECONDS)
    quiet.close()
    stuck = Stuck(node, topic, qos)
    memory = Memory(node)
    flood = Publisher(node, topic, qos)
    disturbed = p99(mqload, node, SECONDS)
    before = flood.sent
    until(lambda: flood.sent > before, "the publisher goes on")
    print(
        f"QoS {qos}, {CONSUMERS} consumers: p99 {undisturbed:.2f} ms undisturbed, {disturbed:.2f} ms in the storm; "
        f"memory {memory.peak / MEBIBYTE:.0f} MiB at most, mark {MARK / MEBIBYTE:.0f} MiB; "
        f"{flood.sent / MEBIBYTE:.0f} MiB published"
    )
    flood.close()
    assert memory.peak <= MARK
    assert disturbed <= max(3 * undisturbed, NOISE)
    stuck.close()
    until(lambda: memory.now() < MARK / 2, "memory is given back", 30)
    memory.close()
    until(lambda: is_served(node), "clients are served again")


def is_served(node):
    with Client(node) as client:
        return client.connack[0] == 0
