#!/usr/bin/env python3
"""Measures what 100,000 topic filters of one node cost it and its peer, and how soon a peer has them.

Prints a Markdown table. Only the Python standard library and a release build of node are needed.

    Benchmarks/tables.py
"""

import argparse
import contextlib
import json
import pathlib
import socket
import statistics
import struct
import subprocess
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parents[1]
CLIENTS = 10
FILTERS_PER_PACKET = 500
KINDS = {"literal": "site/{:04d}/line/07/sensor/{:06d}/state", "wildcard": "site/{:04d}/+/07/sensor/{:06d}/#"}


class Node:
    def __init__(self, binary, folder, name, address, join=None, gossip=True):
        self._binary, self._control = binary, f"{folder}/{name}.sock"
        command = [
            binary, "--bind", address, "--name", name, "--mqtt-port", "0", "--ws-port", "off", "--shards", "1",
            "--control-socket", self._control, "--sys-interval", "0",
        ]
        command += ["--gossip-port", "0", "--link-port", "0"] if gossip else ["--gossip-port", "off", "--link-port", "off"]
        command += ["--join", join] if join else []
        began = time.monotonic()
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        words = dict(word.split("=", 1) for word in self._process.stdout.readline().split()[1:])
        self.seconds_to_ready = time.monotonic() - began
        self.mqtt = (address, int(words["mqtt"].rsplit(":", 1)[1]))
        self.gossip = words["gossip"]

    def stop(self):
        self._process.terminate()
        self._process.wait()

    def resident(self):
        """The resident set in bytes, when it no longer changes."""
        before, now = -1, self._resident()
        while now != before:
            time.sleep(0.5)
            before, now = now, self._resident()
        return now

    def _resident(self):
        status = pathlib.Path(f"/proc/{self._process.pid}/status").read_text()
        return next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmRSS:")) * 1024

    def entries(self):
        """How many filters it has of its peers."""
        done = subprocess.run(
            [self._binary, "status", "--json", "--node", self._control], capture_output=True, text=True, check=True
        )
        return sum(peer["table"]["entries"] for peer in json.loads(done.stdout)["links"]["peers"])


def text(string):
    return struct.pack("!H", len(string)) + string.encode()


def packet(first, body):
    length, size = len(body), b""
    while True:
        size += bytes([length % 128 | (128 if length > 127 else 0)])
        length //= 128
        if not length:
            return bytes([first]) + size + body


def subscribe(node, filters):
    """Some clients that subscribe to all filters; returns when each has its SUBACK."""
    sockets = []
    share = len(filters) // CLIENTS
    for number in range(CLIENTS):
        client = socket.create_connection(node.mqtt)
        client.sendall(packet(0x10, text("MQTT") + b"\x04\x02\x00\x00" + text(f"c{number}")))
        assert take(client, 4)[3] == 0
        sockets.append(client)
        own = filters[number * share : (number + 1) * share]
        for first in range(0, share, FILTERS_PER_PACKET):
            body = b"".join(text(topic) + b"\x01" for topic in own[first : first + FILTERS_PER_PACKET])
            client.sendall(packet(0x82, b"\x00\x01" + body))
            # Type, two bytes of length, identifier.
            assert set(take(client, 5 + FILTERS_PER_PACKET)[5:]) == {1}
    return sockets


def take(client, count):
    data = b""
    while len(data) < count:
        part = client.recv(count - len(data))
        assert part, "the node closed the connection"
        data += part
    return data


def measure(binary, count, kind):
    filters = [KINDS[kind].format(number % 1000, number) for number in range(count)]
    row = {"kind": kind, "bytes": statistics.mean(len(topic) for topic in filters)}
    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as stack:

        def node(*arguments, **options):
            made = Node(binary, folder, *arguments, **options)
            stack.callback(made.stop)
            return made

        alone = node("alone", "127.0.0.1", gossip=False)
        before = alone.resident()
        began = time.monotonic()
        stack.callback(list, map(socket.socket.close, subscribe(alone, filters)))
        row["subscribe_alone"] = time.monotonic() - began
        row["alone"] = (alone.resident() - before) / count
        alone.stop()

        # Another node than the one to be measured: what comes and goes there leaves its memory larger.
        bare = node("bare", "127.0.0.1")
        empty = []
        for number in range(5):
            peer = node(f"empty{number}", f"127.0.0.{number + 2}", join=bare.gossip)
            empty.append(peer.seconds_to_ready)
            row["joined"] = -peer.resident() / count
            peer.stop()
        bare.stop()

        owner = node("owner", "127.0.0.1")
        holder = node("holder", "127.0.0.10", join=owner.gossip)
        resident = {peer: peer.resident() for peer in (owner, holder)}
        began = time.monotonic()
        clients = subscribe(owner, filters)
        row["subscribe"] = time.monotonic() - began
        while holder.entries() < count:
            pass
        row["owner"] = (owner.resident() - resident[owner]) / count
        row["holder"] = (holder.resident() - resident[holder]) / count
        full = []
        for number in range(5):
            peer = node(f"full{number}", f"127.0.0.{number + 20}", join=owner.gossip)
            # `ready` is printed when it is in step.
            full.append(peer.seconds_to_ready)
            assert peer.entries() == count, "the peer was ready before it had the table"
            last = peer.resident()
            peer.stop()
        row["joined"] += last / count
        row["join_empty"], row["join"] = statistics.median(empty), statistics.median(full)
        row["join_max"] = max(full)
        for client in clients:
            client.close()
    return row


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--node", default=str(ROOT / ".build/release/node"), help="the node to measure")
    parser.add_argument("--filters", type=int, default=100_000)
    options = parser.parse_args()
    print("| filters | bytes each | alone, B | owner, B | holder, B | joined, B | SUBACK alone, s | in a cluster, s "
          "| join without, s | join with, s | longest, s |")
    print("|---|---|---|---|---|---|---|---|---|---|---|")
    for kind in KINDS:
        row = measure(options.node, options.filters, kind)
        print(f"| {kind} | {row['bytes']:.0f} | {row['alone']:.0f} | {row['owner']:.0f} | {row['holder']:.0f} | {row['joined']:.0f} "
              f"| {row['subscribe_alone']:.2f} | {row['subscribe']:.2f} | {row['join_empty']:.3f} | {row['join']:.3f} "
              f"| {row['join_max']:.3f} |", flush=True)


if __name__ == "__main__":
    main()
