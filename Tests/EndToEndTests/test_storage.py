"""What a node with a data directory has after it was killed, and when it does not start."""

import random
import socket
import subprocess

import pytest

from dunlin import BINARY, ENVIRONMENT, PATIENCE, Client, until
from wire import PUBACK, connect, publish, u16


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
