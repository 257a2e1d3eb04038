"""What a node that comes back with its data directory is for the other nodes."""

import subprocess

from dunlin import BINARY, ENVIRONMENT, Client, until


def test_wills_of_a_killed_node_reach_its_peers_when_it_starts_again(cluster, tmp_path):
    other = cluster.node()
    node = cluster.node(join=[other], flags=["--data", str(tmp_path / "data")])
    with Client(other) as subscriber:
        subscriber.subscribe("gone/#", 1)
        client = Client(node, will={"topic": "gone/client", "payload": "w", "qos": 1})
        # The will is stored before anything is that comes behind it.
        client.publish("kept", "x", 1, retain=True)
        node.kill()
        node.start()
        message = subscriber.receive()
        assert (message.topic, message.payload) == ("gone/client", b"w")


def name_of(tmp_path, *flags):
    """The name that a node with a data directory says it has."""
    arguments = [BINARY, "--data", str(tmp_path / "data"), "--control-socket", "off", *flags]
    for listener in ["mqtt", "ws", "gossip", "link"]:
        arguments += [f"--{listener}-port", "off" if listener == "link" else "0"]
    with subprocess.Popen(
        arguments, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, env=ENVIRONMENT
    ) as process:
        line = until(process.stdout.readline, "a node is ready")
        process.terminate()
    return dict(field.split("=", 1) for field in line.split()[1:])["name"]


def test_a_node_keeps_its_name_with_its_data(tmp_path):
    by_host = name_of(tmp_path, "--bind", "127.0.0.1")
    assert by_host.endswith("-127.0.0.1")
    assert name_of(tmp_path, "--bind", "127.0.0.2") == by_host
    assert name_of(tmp_path, "--bind", "127.0.0.1", "--name", "given") == "given"
    assert name_of(tmp_path, "--bind", "127.0.0.2") == "given"
