"""Links that keys or certificates protect, between real nodes."""

import os
import signal
import socket
import subprocess
import threading

import pytest

from certificates import make_authority
from dunlin import Client, established, require, reset_connections, resets_possible, settle, unique, until
from test_gossip_keys import Keys, new_key
from test_key_commands import change, lists
from test_links import link_of
from test_node_status import status


@pytest.fixture
def keys(tmp_path):
    keys = Keys(tmp_path / "cluster.keys")
    keys.write(new_key())
    return keys


def joined(cluster, *flags):
    """Two nodes in one ring, each with flags of its own."""
    first = cluster.node(flags=flags[0])
    second = cluster.node(join=[first], flags=flags[1])
    for node, other in [(first, second), (second, first)]:
        node.wait_for_log(rf"name={other.name}\b.*member joined")
    return first, second


def linked(first, second, protection):
    for node, other in [(first, second), (second, first)]:
        node.wait_for_log(rf"peer={other.name}\b.*protection={protection}.*link up")


class Capture:
    """All that goes over the loopback interface."""

    def __init__(self):
        self._socket = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.ntohs(3))
        self._socket.bind(("lo", 0))
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 32 << 20)
        self._packets = []
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self):
        while True:
            try:
                packet = self._socket.recv(1 << 16)
            except OSError:
                return
            if packet == b"":
                return
            self._packets.append(packet)

    def between_nodes(self, nodes):
        """The packets to or from a port for links or gossip of one of the nodes."""
        ports = {node.ports[kind].to_bytes(2, "big") for node in nodes for kind in ("link", "gossip")}
        # Behind Ethernet's 14 bytes and IPv4's 20.
        return [packet for packet in list(self._packets) if {packet[34:36], packet[36:38]} & ports]

    def close(self):
        self._socket.close()


@pytest.mark.parametrize("has_key", [False, True])
def test_what_crosses_a_link_cannot_be_read_on_the_way_with_a_key(cluster, keys, has_key):
    require(os.geteuid() == 0, "a capture of the loopback interface needs root")
    flags = ["--link-compression", "off", *(keys.flags if has_key else [])]
    capture = Capture()
    try:
        first, second = joined(cluster, flags, flags)
        linked(first, second, "key [0-9a-f]{8}" if has_key else "none")
        topic, payload = unique("plant/secret"), unique("recipe")
        for publisher, subscriber in [(first, second), (second, first)]:
            with Client(publisher) as sender, Client(subscriber) as receiver:
                receiver.subscribe(topic, 1)
                settle(receiver, topic, [publisher])
                sender.publish(topic, payload, 1)
                assert receiver.receive().payload.decode() == payload
        # What was received has been captured before.
        packets = until(lambda: capture.between_nodes([first, second]), "packets between the nodes")
    finally:
        capture.close()
    for text in (topic, payload, "DNLK"):
        assert any(text.encode() in packet for packet in packets) == (not has_key), text


def test_keys_change_while_links_are_reset_and_nothing_is_lost(cluster, keys):
    require(resets_possible(), "resetting connections needs root (or sudo) and a kernel with INET_DIAG_DESTROY")
    other = Keys(keys.path.with_name("other.keys"))
    other.path.write_text(keys.path.read_text())
    first, second = joined(cluster, keys.flags, other.flags)
    linked(first, second, "key")
    topic = unique("rotation")
    with Client(first) as publisher, Client(second) as subscriber:
        subscriber.subscribe(topic, 1)
        settle(subscriber, topic, [first])
        stopped, sent = threading.Event(), []

        def publish():
            while not stopped.is_set():
                publisher.publish(topic, str(len(sent)), 1)
                sent.append(str(len(sent)))

        thread = threading.Thread(target=publish)
        thread.start()
        try:
            old, key = keys.path.read_text().strip(), new_key()
            for action, subject in [("add", key), ("use", key), ("remove", old)]:
                fingerprint = change(first, action, subject)
                seen = first.log_length()
                before = established(link_of(second))
                assert reset_connections(link_of(second)) > 0
                until(lambda: established(link_of(second)) - before, "the link is opened again")
                first.wait_for_log(rf"peer={second.name}\b.*link up", start=seen)
                count = len(sent)
                until(lambda: len(sent) > count + 5, "messages go on")
                if action != "remove":
                    protection = fingerprint if action == "use" else "[0-9a-f]{8}"
                    first.wait_for_log(rf"protection=key {protection}\b.*link up", start=seen)
        finally:
            stopped.set()
            thread.join()
        assert subscriber.payloads(len(sent)) == sent
    assert {len(listed) for listed in lists(first).values()} == {1}
    for node in (first, second):
        assert "member failed" not in node.log()
        for secret in (old, key):
            assert secret not in node.log()


@pytest.fixture
def authority(tmp_path):
    authority = make_authority(tmp_path, ["127.0.0.1"])
    for name in ("n1", "n2"):
        authority.sign(name, ["127.0.0.1"])
    return authority


def certificate_flags(authority, name):
    paths = {"cert": f"{name}.pem", "key": f"{name}.key", "ca": "ca.pem"}
    return [word for kind, path in paths.items() for word in (f"--link-tls-{kind}", str(authority.directory / path))]


def test_links_with_certificates_carry_messages_and_new_ones_are_read(cluster, keys, authority):
    flags = [keys.flags + certificate_flags(authority, name) for name in ("n1", "n2")]
    first, second = joined(cluster, *flags)
    linked(first, second, "certificate")
    topic = unique("certificates")
    with Client(first) as publisher, Client(second) as subscriber:
        subscriber.subscribe(topic, 1)
        settle(subscriber, topic, [first])
        publisher.publish(topic, "hello", 1)
        assert subscriber.payloads(1) == ["hello"]
    seen = first.log_length()
    authority.sign("n1", ["127.0.0.1"])
    first.process.send_signal(signal.SIGHUP)
    first.wait_for_log("read again: certificate of links", start=seen)
    seen = first.log_length()
    (authority.directory / "n1.key").write_text("no key")
    first.process.send_signal(signal.SIGHUP)
    first.wait_for_log("certificate of links.*n1.key holds no PEM private key", start=seen)


def test_nodes_that_protect_links_differently_get_no_link_and_both_logs_say_why(cluster, keys, authority, tmp_path):
    strange = tmp_path / "strange"
    strange.mkdir()
    other = make_authority(strange, ["127.0.0.1"])
    first, second = joined(
        cluster, keys.flags + certificate_flags(authority, "n1"), keys.flags + certificate_flags(other, "server")
    )
    third = cluster.node(join=[first], flags=keys.flags)
    for node in (first, second):
        node.wait_for_log("is of no authority in --link-tls-ca")
        node.wait_for_log("does not take this node's certificate|is of no authority")
        node.wait_for_log("does not use certificates for links; has it a cluster key only")
        assert "link up" not in node.log()
    third.wait_for_log("does not use a cluster key for links; has it certificates")
    assert "link up" not in third.log()
    for node in (first, second, third):
        failures = status(node)["links"]["failures"]
        assert failures["handshake"] > 0
        assert {name for name, count in failures.items() if count} <= {"handshake", "unreachable"}, failures


@pytest.mark.parametrize("network", [2], indirect=True)
@pytest.mark.parametrize("has_key", [False, True])
def test_nodes_at_public_addresses_need_a_key(cluster, network, keys, has_key):
    flags = keys.flags if has_key else []
    nodes = []
    for host in network.hosts:
        host.ip("addr", "flush", "dev", "eth0")
        host.ip("addr", "add", f"203.0.113.{host.number}/24", "dev", "eth0")
        join = [f"203.0.113.1:{nodes[0].ports['gossip']}"] if nodes else []
        nodes.append(cluster.node(address=f"203.0.113.{host.number}", prefix=host.prefix, join=join, flags=flags))
    first, second = nodes
    if has_key:
        linked(first, second, "key")
    else:
        second.wait_for_log("cannot join through seed")
        # Who opens a link all the same is refused, too.
        dial = f"import socket; s = socket.create_connection(('203.0.113.1', {first.ports['link']})); print(s.recv(1))"
        done = subprocess.run([*network.hosts[1].prefix, "python3", "-c", dial], capture_output=True, text=True)
        assert done.stdout.strip() == "b''" or "ConnectionResetError" in done.stderr
        first.wait_for_log("links from public addresses need a key or certificates: set --cluster-key-file")
        assert "link up" not in first.log() + second.log()
