"""Listeners as they are set up: TLS, WebSocket, PROXY protocol, who is let in, and files that are read again."""

import shutil
import signal
import socket
import ssl
import subprocess
import threading

import paho.mqtt.client as paho
import pytest

from dunlin import BINARY, ENVIRONMENT, PATIENCE, unique, until

NOT_AUTHORIZED, BAD_CREDENTIALS = 0x87, 0x86


def make_certificate(directory, name):
    """A certificate that signs itself, for 127.0.0.0/8's first addresses."""
    certificate, key = directory / f"{name}.pem", directory / f"{name}.key"
    names = ",".join(f"IP:127.0.0.{number}" for number in range(1, 20))
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", f"/CN={name}"]
    command += ["-addext", f"subjectAltName={names}", "-keyout", str(key), "-out", str(certificate)]
    subprocess.run(command, check=True, capture_output=True, timeout=60)
    return certificate, key


@pytest.fixture(scope="module")
def certificate(tmp_path_factory):
    return make_certificate(tmp_path_factory.mktemp("tls"), "server")


@pytest.fixture(scope="module")
def every(shared_cluster, certificate):
    """A node with all four listeners."""
    flags = ["--tls-cert", str(certificate[0]), "--tls-key", str(certificate[1])]
    return shared_cluster.node(flags=flags, ports={"mqtts": 0, "wss": 0})


class Visitor:
    """A client of any listener; it says what CONNACK said."""

    def __init__(self, node, listener="mqtt", authority=None, user=None, password=None):
        transport = "websockets" if listener.startswith("ws") else "tcp"
        self.reason = None
        self.messages = []
        self._granted = threading.Event()
        answered = threading.Event()
        self._client = paho.Client(
            paho.CallbackAPIVersion.VERSION2,
            client_id=unique("visitor"),
            protocol=paho.MQTTv5,
            transport=transport,
            reconnect_on_failure=False,
        )
        if authority:
            self._client.tls_set(ca_certs=str(authority))
        if user:
            self._client.username_pw_set(user, password)

        def on_connect(_client, _userdata, _flags, reason, _properties):
            self.reason = reason.value
            answered.set()

        self._client.on_connect = on_connect
        self._client.on_subscribe = lambda *_: self._granted.set()
        self._client.on_message = lambda _client, _userdata, message: self.messages.append(message.payload.decode())
        self._client.connect(node.address, node.ports[listener])
        self._client.loop_start()
        assert answered.wait(PATIENCE), f"no CONNACK on {listener}"

    def __enter__(self):
        return self

    def __exit__(self, *_exception):
        self._client.disconnect()
        self._client.loop_stop()

    def subscribe(self, topic):
        self._client.subscribe(topic, 1)
        assert self._granted.wait(PATIENCE)

    def publish(self, topic, payload):
        self._client.publish(topic, payload, 1).wait_for_publish(PATIENCE)

    def is_connected(self):
        return self._client.is_connected()


@pytest.mark.parametrize("listener", ["mqtt", "mqtts", "ws", "wss"])
def test_each_listener_serves_clients_who_then_reach_each_other(every, certificate, listener):
    authority = certificate[0] if listener.endswith("s") and listener != "ws" else None
    topic = unique(listener)
    with Visitor(every, listener, authority) as one, Visitor(every) as other:
        one.subscribe(topic)
        other.publish(topic, "there")
        until(lambda: one.messages == ["there"], "a message over the listener")
        other.subscribe(f"{topic}/back")
        one.publish(f"{topic}/back", "and back")
        until(lambda: other.messages == ["and back"], "a message from the listener")


def fingerprint(node):
    pem = ssl.get_server_certificate((node.address, node.ports["mqtts"]), timeout=PATIENCE)
    return ssl.PEM_cert_to_DER_cert(pem)


def test_a_new_certificate_is_used_after_sighup_and_a_wrong_one_is_not(cluster, tmp_path):
    paths = make_certificate(tmp_path, "first")
    flags = ["--tls-cert", str(paths[0]), "--tls-key", str(paths[1])]
    node = cluster.node(flags=flags, ports={"mqtts": 0, "wss": "off"})
    before = fingerprint(node)
    with Visitor(node, "mqtts", shutil.copy(paths[0], tmp_path / "trusted.pem")) as visitor:
        for new, old in zip(make_certificate(tmp_path, "second"), paths):
            new.replace(old)
        node.process.send_signal(signal.SIGHUP)
        until(lambda: fingerprint(node) != before, "another certificate")
        after = fingerprint(node)
        paths[0].write_text("nonsense")
        seen = node.log_length()
        node.process.send_signal(signal.SIGHUP)
        node.wait_for_log("stays in force", start=seen)
        assert fingerprint(node) == after
        assert visitor.is_connected()


def test_a_certificate_that_cannot_be_used_keeps_a_node_from_starting(tmp_path):
    certificate, key = tmp_path / "no.pem", tmp_path / "no.key"
    certificate.write_text("nonsense")
    key.write_text("nonsense")
    ports = [word for name in ("mqtt", "ws", "gossip", "link") for word in (f"--{name}-port", "off")]
    flags = ["--bind", "127.0.0.1", "--mqtts-port", "0", "--tls-cert", str(certificate), "--tls-key", str(key)]
    done = subprocess.run(
        [BINARY, *ports, *flags], capture_output=True, text=True, timeout=PATIENCE, env=ENVIRONMENT
    )
    assert done.returncode not in (0, 64)
    assert str(certificate) in done.stderr


def start_and_check(*flags):
    """How a start that cannot succeed ends, and what a check of the same settings says of it."""
    ports = [word for name in ("mqtt", "ws", "gossip", "link") for word in (f"--{name}-port", "off")]
    ends = [
        subprocess.run(
            [BINARY, *command, "--bind", "127.0.0.1", *ports, *map(str, flags)],
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            env=ENVIRONMENT,
        )
        for command in ([], ["config", "--check"])
    ]
    return [(end.returncode, end.stderr) for end in ends]


def test_a_check_ends_as_the_start_would_for_each_kind_of_file(tmp_path, certificate):
    def file(name, text):
        (tmp_path / name).write_text(text)
        return tmp_path / name

    absent = tmp_path / "absent"
    (other, _), (_, key) = make_certificate(tmp_path, "other"), certificate
    for flags, culprit in (
        (["--password-file", absent], absent),
        (["--password-file", file("passwords", "anna:plain\n")], "line 1"),
        (["--acl-file", file("rules", "topic read a\nnonsense\n")], "line 2"),
        (["--jwt-key-file", file("keys", "{}")], "keys"),
        (["--jwt-secret-file", file("secret", "short")], "32 bytes"),
        (["--mqtts-port", "0", "--tls-cert", other, "--tls-key", key], "does not belong"),
    ):
        started, checked = start_and_check(*flags)
        assert started == checked
        assert started[0] == 1
        assert str(culprit) in started[1]
        assert started[1].count(str(tmp_path / "absent")) <= 1


def test_a_check_takes_a_secret_of_any_bytes(tmp_path):
    secret = tmp_path / "secret"
    secret.write_bytes(bytes([0xFF, 0xFE]) * 30)
    command = [BINARY, "config", "--check", "--jwt-secret-file", str(secret)]
    assert subprocess.run(command, capture_output=True, timeout=PATIENCE, env=ENVIRONMENT).returncode == 0
    without_check = [BINARY, "config", "--password-file", str(tmp_path / "absent")]
    assert subprocess.run(without_check, capture_output=True, timeout=PATIENCE, env=ENVIRONMENT).returncode == 0


def set_password(file, user, password):
    command = [BINARY, "passwd", str(file), user]
    subprocess.run(command, input=password, text=True, check=True, timeout=PATIENCE, env=ENVIRONMENT)


def test_passwords_are_asked_for_and_a_changed_file_holds_after_sighup(cluster, tmp_path):
    file = tmp_path / "passwords"
    set_password(file, "anna", "open sesame")
    node = cluster.node(flags=["--password-file", str(file)])
    with Visitor(node, user="anna", password="open sesame") as anna:
        assert anna.reason == 0
    with Visitor(node, user="anna", password="open simsim") as stranger:
        assert stranger.reason == BAD_CREDENTIALS
    with Visitor(node) as nobody:
        assert nobody.reason in (BAD_CREDENTIALS, NOT_AUTHORIZED)
    set_password(file, "bert", "also")
    node.process.send_signal(signal.SIGHUP)

    def is_let_in():
        with Visitor(node, user="bert", password="also") as bert:
            return bert.reason == 0

    until(is_let_in, "the new user is let in")


def test_one_listener_may_be_open_while_others_ask_for_passwords(cluster, tmp_path):
    file = tmp_path / "passwords"
    set_password(file, "anna", "open sesame")
    node = cluster.node(flags=["--password-file", str(file), "--ws-anonymous", "private"])
    with Visitor(node, "ws") as guest, Visitor(node, "mqtt") as stranger:
        assert guest.reason == 0
        assert stranger.reason != 0


def test_a_proxy_names_the_client_whose_address_then_counts(cluster):
    node = cluster.node(flags=["--mqtt-proxy-protocol"])
    connect = b"\x10\x0d\x00\x04MQTT\x04\x02\x00\x3c\x00\x01x"

    def answer(header):
        with socket.create_connection(node.mqtt, timeout=PATIENCE) as connection:
            connection.sendall(header + connect)
            try:
                return connection.recv(4)
            except ConnectionResetError:
                return b""

    assert answer(b"PROXY TCP4 10.0.0.7 10.0.0.1 5000 1883\r\n") == b"\x20\x02\x00\x00"
    # TEST-NET-3 (RFC 5737) is public: not authorized.
    assert answer(b"PROXY TCP4 203.0.113.7 10.0.0.1 5000 1883\r\n") == b"\x20\x02\x00\x05"
    assert answer(b"") == b""
