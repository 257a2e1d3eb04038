#!/usr/bin/env python3
"""Measures what a node with a data directory takes for clients that are away, and prints Markdown tables.

Only the Python standard library and a release build of node are needed.

    Benchmarks/queues.py state                          100,000 sessions, 10 messages for each, 100,000 retained ones
    Benchmarks/queues.py state --queues 100             the same number of messages for 100 of the sessions
    Benchmarks/queues.py amplification                  bytes that are written for a byte of payload
"""

import argparse
import contextlib
import pathlib
import shutil
import socket
import struct
import subprocess
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parents[1]
PAYLOAD = b"x" * 100


class Node:
    def __init__(self, binary, directory, sync):
        self._command = [
            binary, "--bind", "127.0.0.1", "--mqtt-port", "0", "--ws-port", "off", "--gossip-port", "off", "--shards", "1",
            "--data", directory, "--sync", sync,
        ]
        self.start()

    def start(self):
        """Starts the node; returns the seconds until it answered a CONNECT."""
        began = time.monotonic()
        self._process = subprocess.Popen(self._command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        ready = self._process.stdout.readline()
        port = next(word for word in ready.split() if word.startswith("mqtt=")).rsplit(":", 1)[1]
        self.address = ("127.0.0.1", int(port))
        Client(self, "first").close()
        return time.monotonic() - began

    def kill(self):
        self._process.kill()
        self._process.wait()

    def _proc(self, file, field):
        text = pathlib.Path(f"/proc/{self._process.pid}/{file}").read_text()
        return next(int(line.split()[1]) for line in text.splitlines() if line.startswith(field))

    def resident_mebibytes(self):
        return self._proc("status", "VmRSS:") / 1024

    def written_bytes(self):
        return self._proc("io", "write_bytes:")


def text(string):
    return struct.pack("!H", len(string)) + string.encode()


def packet(first, body):
    length, size = len(body), b""
    while True:
        size += bytes([length % 128 | (128 if length > 127 else 0)])
        length //= 128
        if not length:
            return bytes([first]) + size + body


class Client:
    """A client of MQTT 3.1.1 with a kept session."""

    def __init__(self, node, name):
        self._socket = socket.create_connection(node.address)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._socket.sendall(packet(0x10, text("MQTT") + b"\x04\x00\x00\x00" + text(name)))
        assert self._take(4)[3] == 0

    def _take(self, count):
        data = b""
        while len(data) < count:
            part = self._socket.recv(count - len(data))
            assert part, "the node closed the connection"
            data += part
        return data

    def begin_subscribe(self, topic):
        self._socket.sendall(packet(0x82, b"\x00\x01" + text(topic) + b"\x01"))

    def end_subscribe(self):
        assert self._take(5)[4] == 1

    def publish(self, topics, window, retain=False):
        """Publishes to the topics at QoS 1, so many at a time, and waits until all are acknowledged."""
        missing, free, part, identifier = 0, window, b"", 0
        for topic in topics:
            identifier = identifier % 65_535 + 1
            part += packet(0x32 | retain, text(topic) + struct.pack("!H", identifier) + PAYLOAD)
            missing += 1
            free -= 1
            if free == 0:
                self._socket.sendall(part)
                part = b""
                count = max(1, min(missing, window // 2))
                self._take(4 * count)
                missing -= count
                free = count
        self._socket.sendall(part)
        self._take(4 * missing)

    def close(self):
        self._socket.sendall(b"\xe0\x00")
        self._socket.close()


def make_sessions(node, count):
    for first in range(0, count, 500):
        clients = [Client(node, f"c{index}") for index in range(first, min(count, first + 500))]
        for offset, client in enumerate(clients):
            client.begin_subscribe(f"q/{first + offset}")
        for client in clients:
            client.end_subscribe()
            client.close()


@contextlib.contextmanager
def running(options, sync):
    directory = tempfile.mkdtemp(dir=options.directory)
    try:
        node = Node(options.node, directory, sync)
        try:
            yield node
        finally:
            node.kill()
    finally:
        shutil.rmtree(directory)


def measure_state(options):
    with running(options, "os") as node:
        make_sessions(node, options.sessions)
        queues = options.queues or options.sessions
        publisher = Client(node, "publisher")
        publisher.publish((f"r/{index}" for index in range(options.retained)), 1000, retain=True)
        node.kill()
        print("| sessions | retained | messages | ready after, s | resident, MiB |\n|---|---|---|---|---|")
        line = f"| {options.sessions:,} | {options.retained:,} |"
        print(line, f"0 | {node.start():.1f} | {node.resident_mebibytes():.0f} |")
        publisher = Client(node, "publisher")
        publisher.publish((f"q/{index % queues}" for index in range(options.messages)), 1000)
        before = node.resident_mebibytes()
        node.kill()
        print(line, f"{options.messages:,} for {queues:,} | {node.start():.1f} | {node.resident_mebibytes():.0f} |")
        print(f"\nBefore it was killed the node had {before:.0f} MiB.")


def measure_amplification(options):
    print("| `--sync` | on their way | bytes written for a byte of payload |\n|---|---|---|")
    for sync in ("always", "os"):
        for window in (1, 64):
            with running(options, sync) as node:
                make_sessions(node, 100)
                publisher = Client(node, "publisher")
                count = 5_000 if window == 1 else 100_000
                before = node.written_bytes()
                publisher.publish((f"q/{index % 100}" for index in range(count)), window)
                written = node.written_bytes() - before
                print(f"| {sync} | {window} | {written / (count * len(PAYLOAD)):.1f} |", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["state", "amplification"])
    parser.add_argument("--node", default=str(ROOT / ".build/release/node"), help="the binary")
    parser.add_argument("--directory", default="/var/tmp", help="where the data directory is made")
    parser.add_argument("--sessions", type=int, default=100_000)
    parser.add_argument("--retained", type=int, default=100_000)
    parser.add_argument("--messages", type=int, default=1_000_000)
    parser.add_argument("--queues", type=int, help="sessions that get messages (all)")
    options = parser.parse_args()
    measure_state(options) if options.what == "state" else measure_amplification(options)


if __name__ == "__main__":
    main()
