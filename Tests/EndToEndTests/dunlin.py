"""Real processes for the tests: brokers, MQTT clients, the load generator.

Nothing here sleeps for a fixed time: everything waits for a condition with a deadline.
"""

import itertools
import json
import os
import pathlib
import queue
import re
import signal
import socket
import subprocess
import threading
import time

import paho.mqtt.client as paho
import pytest
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from network import within_namespace

ROOT = pathlib.Path(__file__).resolve().parents[2]
BINARY = os.environ.get("DUNLIN_NODE", str(ROOT / ".build/release/node"))
IN_CI = bool(os.environ.get("CI"))

# What nodes are started with: to them DUNLIN_ variables are settings, and those that are there are the tests' own.
ENVIRONMENT = {name: value for name, value in os.environ.items() if not name.startswith("DUNLIN_")}

# How long a condition may take. Generous: the machine may have two busy cores.
PATIENCE = 10.0

_numbers = itertools.count(1)


def unique(stem):
    """A name that no other test uses: tests share nodes, never topics or client ids."""
    return f"{stem}-{os.getpid()}-{next(_numbers)}"


def until(condition, what, seconds=PATIENCE):
    """Polls until the condition gives something true, and returns that."""
    deadline = time.monotonic() + seconds
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {seconds:g} s: {what}")
        time.sleep(0.01)


def require(available, reason):
    """Skips the test where the machine lacks something, except in CI, which must not skip in silence."""
    if not available:
        (pytest.fail if IN_CI else pytest.skip)(reason)


class Node:
    """One broker process. The first start takes free ports; later ones take the same again."""

    def __init__(
        self, directory, name, address="127.0.0.1", join=(), flags=(), ports=None, environment=None, prefix=()
    ):
        self.name = name
        self.address = address
        self.join = list(join)
        self.flags = list(flags)
        self.environment = environment or {}
        # What runs the broker, in the same process: `ip netns exec` for one on a host of a `Network`.
        self.prefix = list(prefix)
        self.ports = {"mqtt": 0, "ws": 0, "gossip": 0, "link": 0} | (ports or {})
        self.ready = {}
        self.log_path = directory / f"{name}.log"
        # Beside those of the same test only: commands find no others there.
        self.control = directory / "control"
        self.process = None

    @property
    def mqtt(self):
        return (self.address, self.ports["mqtt"])

    @property
    def host(self):
        return f"{self.address}:{self.ports['mqtt']}"

    def connection(self):
        """A TCP connection to it for MQTT, from its own host."""
        with within_namespace(self.prefix):
            return socket.create_connection(self.mqtt, timeout=PATIENCE)

    @property
    def gossip(self):
        return f"{self.address}:{self.ports['gossip']}"

    def command(self):
        arguments = [*self.prefix, BINARY, "--name", self.name, "--bind", self.address]
        for listener, port in self.ports.items():
            arguments += [f"--{listener}-port", str(port)]
        for seed in self.join:
            arguments += ["--join", seed.gossip if isinstance(seed, Node) else seed]
        return arguments + self.flags

    def start(self):
        assert self.process is None or self.process.poll() is not None, f"{self.name} runs already"
        lines = queue.Queue()
        with open(self.log_path, "ab") as log:
            self.process = subprocess.Popen(
                self.command(),
                stdout=subprocess.PIPE,
                stderr=log,
                stdin=subprocess.DEVNULL,
                text=True,
                env=ENVIRONMENT | {"DUNLIN_CONTROL_SOCKET": f"{self.control}/"} | self.environment,
            )
        threading.Thread(target=_collect, args=(self.process.stdout, lines), daemon=True).start()
        try:
            line = lines.get(timeout=PATIENCE)
        except queue.Empty:
            self.kill()
            raise AssertionError(f"{self.name} printed nothing; its log:\n{self.log()}") from None
        assert line is not None and line.startswith("ready "), f"{self.name} said {line!r}; its log:\n{self.log()}"
        self.ready = dict(field.split("=", 1) for field in line.split()[1:])
        for listener, port in self.ports.items():
            if port != "off":
                self.ports[listener] = int(self.ready[listener].rsplit(":", 1)[1])
        return self

    def start_anywhere(self):
        """Starts on other ports: those of before may be another process's by now."""
        self.ports = {listener: 0 if port != "off" else port for listener, port in self.ports.items()}
        return self.start()

    def kill(self):
        """kill -9: no farewell to anyone."""
        self.process.kill()
        self.process.wait()

    def terminate(self, seconds=PATIENCE):
        """SIGTERM; returns the exit status."""
        self.process.send_signal(signal.SIGTERM)
        try:
            return self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            self.kill()
            raise AssertionError(f"{self.name} ignored SIGTERM; its log:\n{self.log()}") from None

    def stop(self):
        if self.process and self.process.poll() is None:
            self.kill()

    def log(self, start=0):
        return self.log_path.read_bytes()[start:].decode(errors="replace")

    def log_length(self):
        return self.log_path.stat().st_size

    def wait_for_log(self, pattern, start=0, seconds=PATIENCE):
        return until(
            lambda: re.search(pattern, self.log(start), re.IGNORECASE),
            f"/{pattern}/ in the log of {self.name}:\n{self.log(start)}",
            seconds,
        )


def _collect(stream, lines):
    for line in stream:
        lines.put(line.rstrip("\n"))
    lines.put(None)


class Client:
    """One MQTT connection. It never reconnects by itself, so that a test sees each connection's end."""

    def __init__(self, node, client_id=None, version=5, clean=True, expiry=None, will=None, manual_ack=False):
        self.client_id = client_id or unique("client")
        self.version = version
        self.messages = queue.Queue()
        self.connack = None
        self.ended = threading.Event()
        self._acknowledged = {}
        self._client = paho.Client(
            paho.CallbackAPIVersion.VERSION2,
            client_id=self.client_id,
            protocol={3: paho.MQTTv31, 4: paho.MQTTv311, 5: paho.MQTTv5}[version],
            manual_ack=manual_ack,
            reconnect_on_failure=False,
            **({} if version == 5 else {"clean_session": clean}),
        )
        connected = threading.Event()

        def on_connect(_client, _userdata, flags, reason, _properties):
            self.connack = (reason.value, flags.session_present)
            connected.set()

        def on_acknowledge(_client, _userdata, identifier, reasons, _properties):
            self._acknowledged[identifier] = [reason.value for reason in reasons]

        self._client.on_connect = on_connect
        self._client.on_disconnect = lambda *_arguments: self.ended.set()
        self._client.on_subscribe = on_acknowledge
        self._client.on_unsubscribe = on_acknowledge
        self._client.on_message = lambda _client, _userdata, message: self.messages.put(message)
        if will:
            self._client.will_set(**will)
        extra = {}
        if version == 5:
            extra["clean_start"] = clean
            if expiry is not None:
                extra["properties"] = Properties(PacketTypes.CONNECT)
                extra["properties"].SessionExpiryInterval = expiry
        self._client.connect(*node.mqtt, keepalive=30, **extra)
        self._client.loop_start()
        if not connected.wait(PATIENCE):
            self.close()
            raise AssertionError(f"no CONNACK from {node.name}")

    def __enter__(self):
        return self

    def __exit__(self, *_exception):
        self.close()

    @property
    def session_present(self):
        return self.connack[1]

    def subscribe(self, topic_filter, qos=0):
        result, identifier = self._client.subscribe(topic_filter, qos)
        assert result == paho.MQTT_ERR_SUCCESS
        return until(lambda: self._acknowledged.pop(identifier, None), f"SUBACK for {topic_filter}")

    def unsubscribe(self, topic_filter):
        result, identifier = self._client.unsubscribe(topic_filter)
        assert result == paho.MQTT_ERR_SUCCESS
        until(lambda: identifier in self._acknowledged, f"UNSUBACK for {topic_filter}")

    def publish(self, topic, payload="", qos=0, retain=False):
        """Returns when the broker has acknowledged it (QoS 0: when it is written)."""
        self._client.publish(topic, payload, qos, retain).wait_for_publish(PATIENCE)

    def acknowledge(self, message):
        self._client.ack(message.mid, message.qos)

    def receive(self, seconds=PATIENCE):
        try:
            return self.messages.get(timeout=seconds)
        except queue.Empty:
            raise AssertionError(f"{self.client_id} received nothing within {seconds:g} s") from None

    def payloads(self, count):
        return [self.receive().payload.decode() for _ in range(count)]

    def drop(self):
        """Ends the connection as a lost network would seem to the broker: no DISCONNECT."""
        connection = self._client.socket()
        if connection:
            connection.shutdown(socket.SHUT_RDWR)
        until(self.ended.is_set, f"the end of {self.client_id}'s connection")
        self._client.loop_stop()

    def close(self):
        self._client.disconnect()
        self._client.loop_stop()


CONNECT, CONNACK, PUBLISH, PUBREC, PUBREL, PUBCOMP = 0x10, 0x20, 0x30, 0x50, 0x62, 0x70
SUBSCRIBE, SUBACK, DISCONNECT = 0x82, 0x90, 0xE0
DUP = 0x08


class RawSession:
    """A persistent session packet by packet, for what client libraries do by themselves or hide."""

    def __init__(self, node, client_id, version=4):
        self._socket = socket.create_connection(node.mqtt, timeout=PATIENCE)
        keep_alive, session_expiry = b"\x00\x3c", b"\x05\x11\x00\x00\x01\x2c" if version == 5 else b""
        self.send(CONNECT, _text("MQTT") + bytes([version, 0]) + keep_alive + session_expiry + _text(client_id))
        kind, body = self.packet()
        assert (kind, body[1]) == (CONNACK, 0)
        self.session_present = body[0] == 1
        self.connack_properties = body[3:]

    def __enter__(self):
        return self

    def __exit__(self, *_exception):
        self._socket.close()

    def send(self, kind, body):
        assert len(body) < 128
        self._socket.sendall(bytes([kind, len(body)]) + body)

    def packet(self):
        """The next packet's first byte and its body."""
        kind, length = self._read(2)
        assert length < 128
        return kind, self._read(length)

    def subscribe(self, topic_filter, qos):
        """In MQTT 3.1.1 only."""
        self.send(SUBSCRIBE, b"\x00\x01" + _text(topic_filter) + bytes([qos]))
        assert self.packet() == (SUBACK, bytes([0, 1, qos]))

    def at_end(self):
        """Whether the broker closes the connection without another word."""
        return self._socket.recv(1) == b""

    def _read(self, count):
        data = b""
        while len(data) < count:
            part = self._socket.recv(count - len(data))
            assert part, "the broker closed the connection"
            data += part
        return data


def _text(string):
    return len(string).to_bytes(2, "big") + string.encode()


class Tool:
    """A program that runs until it is left, and what it prints, line by line."""

    def __init__(self, command, **options):
        self._process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stdin=subprocess.DEVNULL, text=True, **options
        )
        self._lines = queue.Queue()
        threading.Thread(target=_collect, args=(self._process.stdout, self._lines), daemon=True).start()

    def __enter__(self):
        return self

    def __exit__(self, *_exception):
        self._process.kill()
        self._process.wait()

    def line(self, seconds=PATIENCE):
        try:
            line = self._lines.get(timeout=seconds)
        except queue.Empty:
            raise AssertionError(f"{self._process.args} said nothing within {seconds:g} s") from None
        assert line is not None, f"{self._process.args} ended"
        return line

    def lines(self, count):
        return [self.line() for _ in range(count)]

    def has_line(self):
        return not self._lines.empty()

    def finish(self, seconds=PATIENCE):
        """Its output up to its end, which is a good one."""
        assert self._process.wait(seconds) == 0
        lines = []
        while (line := self._lines.get(timeout=seconds)) is not None:
            lines.append(line)
        return lines


class Subscriber(Tool):
    """A running mosquitto_sub. Each line it prints is one message: topic|qos|retained|payload."""

    def __init__(self, node, topic_filter, qos=0, version="311"):
        address, port = node.mqtt
        command = ["mosquitto_sub", "-h", address, "-p", str(port), "-t", topic_filter, "-q", str(qos)]
        super().__init__([*command, "-V", f"mqttv{version}", "-F", "%t|%q|%r|%p"])


def mosquitto_pub(node, topic, payload, qos=0, version="311", retain=False):
    address, port = node.mqtt
    command = ["mosquitto_pub", "-h", address, "-p", str(port), "-t", topic, "-m", payload]
    command += ["-q", str(qos), "-V", f"mqttv{version}"] + (["-r"] if retain else [])
    subprocess.run(command, check=True, timeout=PATIENCE)


def wait_for_route(node, topic, has_received, take):
    """Publishes at `node` until the subscriber gets it, and leaves none of the probes behind.

    `has_received` says whether something waits there; `take` takes one payload. A node learns of a new
    subscription at another node a moment after its SUBACK; who needs to know waits for it here.
    """
    last = unique("last probe")
    with Client(node) as prober:

        def probe():
            prober.publish(topic, "probe")
            return has_received()

        until(probe, f"a publish at {node.name} to {topic} arrives")
        # One publisher, one topic, one QoS: after this one there is no probe any more.
        prober.publish(topic, last)
        until(lambda: take() == last, "the last probe")


def settle(client, topic, nodes):
    """Waits until publishes to `topic` at each of the nodes reach the client."""
    for node in nodes:
        wait_for_route(node, topic, lambda: not client.messages.empty(), lambda: client.payloads(1)[0])


def settle_subscriber(subscriber, topic, nodes):
    for node in nodes:
        wait_for_route(node, topic, subscriber.has_line, lambda: subscriber.line().rsplit("|", 1)[1])


class Load:
    """A run of mqload: its exit status says whether every message was accounted for."""

    def __init__(self, executable, *arguments):
        self.command = [str(executable), *map(str, arguments), "--json"]
        self._process = subprocess.Popen(self.command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    def running(self):
        return self._process.poll() is None

    def finish(self, seconds=60):
        """Returns mqload's figures; fails the test on a loss, duplicate or reordering, also at QoS 0."""
        try:
            output, errors = self._process.communicate(timeout=seconds)
        except subprocess.TimeoutExpired:
            self._process.kill()
            raise AssertionError(f"{' '.join(self.command)} did not end within {seconds} s") from None
        assert self._process.returncode == 0, f"{' '.join(self.command)}\n{errors}"
        figures = json.loads(output)
        for broken in ("lost", "duplicates", "out_of_order", "closed"):
            assert figures.get(broken, 0) == 0, f"{broken}: {' '.join(self.command)}\n{errors}"
        return figures

    def cancel(self):
        if self.running():
            self._process.kill()
            self._process.communicate()


def resets_possible():
    """Whether this user and this kernel can reset the TCP connection of another process (INET_DIAG_DESTROY)."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        with socket.create_connection(("127.0.0.1", port)), server.accept()[0] as accepted:
            reset_connections(f"dst 127.0.0.1 dport = :{port}")
            accepted.settimeout(0.5)
            try:
                accepted.recv(1)
            except ConnectionResetError:
                return True
            except TimeoutError:
                return False
    return False


def reset_connections(expression):
    """Resets established TCP connections, mid-stream, both ends at once. Returns how many."""
    privilege = [] if os.geteuid() == 0 else ["sudo", "-n"]
    command = [*privilege, "ss", "-HKtn", "state", "established", *expression.split()]
    done = subprocess.run(command, capture_output=True, text=True)
    return len(done.stdout.splitlines())


def established(expression):
    """The established TCP connections that match, as a set of (local, peer)."""
    command = ["ss", "-Htn", "state", "established", *expression.split()]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return {tuple(line.split()[2:4]) for line in done.stdout.splitlines()}
