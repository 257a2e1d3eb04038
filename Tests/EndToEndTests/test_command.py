"""The command line: what it prints, what it refuses, how it ends."""

import pathlib
import re
import signal
import socket
import subprocess
import threading

import pytest

from dunlin import BINARY, DISCONNECT, ENVIRONMENT, PATIENCE, ROOT, Client, RawSession, unique, until

USE_ANOTHER_SERVER = 0x9C


def run(*arguments, environment=None):
    return subprocess.run(
        [BINARY, *arguments],
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        stdin=subprocess.DEVNULL,
        env=ENVIRONMENT | (environment or {}),
    )


def settings(done):
    """What `node config` printed: value and source of each setting."""
    assert done.returncode == 0, done.stderr
    rows = [re.split(r" {2,}", line) for line in done.stdout.splitlines()[1:]]
    return {key: (value, source) for key, value, source in rows}


def flags_of(*command):
    return set(re.findall(r"--[a-z][a-z0-9-]+", run(*command, "--help").stdout))


def test_the_ready_line_names_the_node_and_its_addresses(cluster):
    node = cluster.node("kiln")
    assert node.ready["name"] == "kiln"
    for listener in ("mqtt", "ws", "gossip", "link"):
        assert node.ready[listener] == f"127.0.0.1:{node.ports[listener]}"
        assert node.ports[listener] > 0
    assert node.ready["mqtts"] == node.ready["wss"] == "off"


def test_version_and_help_go_to_standard_output():
    assert re.search(r"\d+\.\d+", run("--version").stdout)
    assert "--join" in run("--help").stdout


def commands(*outer):
    return re.findall(r"^  ([a-z]+) {2,}", run(*outer, "--help").stdout.partition("SUBCOMMANDS:")[2], re.MULTILINE)


def all_flags():
    """Those of commands within commands, too."""
    every = [[], *([command] for command in commands())]
    every += [[command, inner] for command in commands() for inner in commands(command)]
    return set().union(*(flags_of(*command) for command in every))


def test_every_flag_is_documented_and_every_documented_flag_exists():
    flags = all_flags()
    documentation = (ROOT / "docs/configuration.md").read_text()
    documented = set(re.findall(r"^\| `(--[a-z][a-z0-9-]+)", documentation, re.MULTILINE))
    # What takes back a yes is described once for all.
    assert flags - {f"--no-{flag[2:]}" for flag in documented} == documented


def test_every_command_is_documented():
    documentation = (ROOT / "docs/configuration.md").read_text()
    documented = set(re.findall(r"^\| `node ([a-z]+)", documentation, re.MULTILINE))
    assert set(commands()) == documented - {"help"}
    assert set(commands("key")) == set(re.findall(r"^\| `node key ([a-z]+)", documentation, re.MULTILINE))


def test_every_setting_has_its_flag_and_its_place_in_the_sample_file():
    keys = set(settings(run("config")))
    assert {f"--{key}" for key in keys} == {
        flag for flag in flags_of() if not flag.startswith("--no-")
    } - {"--help", "--version"}
    sample = (ROOT / "deploy/dunlin.yaml").read_text()
    assert set(re.findall(r"^#?([a-z][a-z0-9-]+):", sample, re.MULTILINE)) == keys - {"config"}


def test_the_sample_file_is_right_as_it_is():
    done = run("config", "--check", "--config", str(ROOT / "deploy/dunlin.yaml"))
    sources = {key: source for key, (_, source) in settings(done).items()}
    assert sources.pop("config") == "command line"
    assert set(sources.values()) == {"default"}


@pytest.mark.parametrize("file, pattern", [("dunlin.service", "^Environment="), ("Dockerfile", "^ENV ")])
def test_unit_and_image_keep_what_they_are_given(file, pattern):
    variables = re.findall(pattern + r"(DUNLIN_[A-Z_]+)=(\S+)$", (ROOT / "deploy" / file).read_text(), re.MULTILINE)
    shown = settings(run("config", environment=dict(variables)))
    assert shown["data"] == ("/var/lib/dunlin", "DUNLIN_DATA")


def test_the_sample_file_shows_the_defaults(tmp_path):
    sample = (ROOT / "deploy/dunlin.yaml").read_text()
    path = tmp_path / "all.yaml"
    path.write_text(re.sub(r"^#([a-z][a-z0-9-]+:)", r"\1", sample, flags=re.MULTILINE))
    shown = settings(run("config", "--config", str(path)))
    defaults = settings(run("config"))
    for key, (default, _) in defaults.items():
        if default != "-" and key not in EXAMPLES:
            assert shown[key][0] == default, key
            assert shown[key][1].startswith(f"{path} line "), key


# Settings for which the sample file shows something else than the default.
EXAMPLES = {"config", "mqtts-port", "wss-port", "tls-client-certificates"}


def test_the_file_the_environment_and_the_command_line_are_layers(cluster, tmp_path):
    path = tmp_path / "node.yaml"
    path.write_text("max:\n  packet-size: 4K\nreceive-maximum: 5\nlog-level: debug\n")
    shown = settings(
        run("config", "--receive-maximum", "7", environment={"DUNLIN_CONFIG": str(path), "DUNLIN_LOG_LEVEL": "info"})
    )
    assert shown["max-packet-size"] == ("4096", f"{path} line 2")
    assert shown["receive-maximum"] == ("7", "command line")
    assert shown["log-level"] == ("info", "DUNLIN_LOG_LEVEL")
    node = cluster.node(environment={"DUNLIN_CONFIG": str(path), "DUNLIN_NAME": "unused"})
    with RawSession(node, unique("raw"), version=5) as session:
        receive_maximum, maximum_packet_size = b"\x21\x00\x05", b"\x27\x00\x00\x10\x00"
        assert receive_maximum in session.connack_properties
        assert maximum_packet_size in session.connack_properties


def test_wrong_settings_keep_a_node_from_starting_and_are_all_told(tmp_path):
    path = tmp_path / "wrong.yaml"
    path.write_text("mqtt-port: many\ngossip: {prot: 1}\n")
    for command in ([], ["config"]):
        done = run(*command, "--config", str(path), environment={"DUNLIN_SHARDS": "0"})
        assert done.returncode == 64
        for culprit in (f"{path} line 1: mqtt-port: 'many'", f"{path} line 2", "gossip-port?", "DUNLIN_SHARDS: '0'"):
            assert culprit in done.stderr
        assert done.stderr.count("it takes a number from") == 2
        assert "ready" not in done.stdout


def test_sighup_reads_files_again_and_ends_nothing(cluster):
    node = cluster.node()
    with Client(node) as client:
        client.subscribe("still here")
        node.process.send_signal(signal.SIGHUP)
        node.wait_for_log("SIGHUP")
        client.publish("still here", "yes")
        assert client.payloads(1) == ["yes"]
    assert node.terminate() == 0


def test_sighup_at_any_moment_of_the_start_ends_nothing():
    command = [BINARY, "--bind", "127.0.0.1", *NO_PORTS]
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, env=ENVIRONMENT
    )
    try:
        # The first moment at which the program itself decides what a signal does.
        until(lambda: handles(process.pid, signal.SIGHUP) or process.poll() is not None, "SIGHUP is ignored or caught")
        ready = threading.Event()
        threading.Thread(target=lambda: process.stdout.readline() and ready.set(), daemon=True).start()
        while not ready.is_set() and process.poll() is None:
            process.send_signal(signal.SIGHUP)
        assert process.poll() is None
    finally:
        process.kill()
        process.wait()


def handles(pid, number):
    """Whether a process ignores or catches a signal."""
    try:
        status = (pathlib.Path("/proc") / str(pid) / "status").read_text()
    except OSError:
        return False
    masks = [int(mask, 16) for mask in re.findall(r"^Sig(?:Ign|Cgt):\s*(\w+)", status, re.MULTILINE)]
    return any(mask & 1 << (number - 1) for mask in masks)


NO_PORTS = ["--mqtt-port", "0", "--ws-port", "0", "--gossip-port", "0", "--link-port", "0"]


def test_flags_in_the_documentation_are_real():
    flags = all_flags()
    pages = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
    for page in pages:
        for line in re.findall(r"^.*(?:\bnode|scripts/run) +(--.*)$", page.read_text(), re.MULTILINE):
            for flag in re.findall(r"--[a-z][a-z0-9-]+", line):
                assert flag in flags, f"{page.name}: {flag}"


@pytest.mark.parametrize(
    "arguments, culprit",
    [
        (["--no-such-flag"], "--no-such-flag"),
        (["--mqtt-port", "70000"], "70000"),
        (["--mqtt-port", "many"], "many"),
        (["--advertise", "127.0.0.1:port"], "127.0.0.1:port"),
        (["--join", "127.0.0.1:99999"], "127.0.0.1:99999"),
        (["--log-level", "chatty"], "--log-level: 'chatty' is not valid; it takes trace, debug"),
        (["--mqtt-bind", "127.0.0.1:1883"], "an address of this host without a port"),
        (["--join", "n1,n2"], "for several repeat the flag"),
        (["config", "--client-byte-rate", "fast"], "as in 64K"),
        (["--max-queued-bytes", "9223372036854775807"], "from 1024 to 1099511627776"),
        (["--tls-client-certificates", "required"], "set tls-cert and tls-key"),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else "",
)
def test_a_bad_flag_is_named_and_refused(arguments, culprit):
    done = run(*arguments)
    assert done.returncode == 64
    assert culprit in done.stderr
    assert done.stdout == ""


def test_each_setting_that_does_not_take_every_text_says_what_it_takes():
    # These take what they are given, and of these others every text but none is a path.
    texts = {"jwt-user-claim", "jwt-audience", "jwt-issuer", "response-information", "ws-origin", "gossip-label"}
    paths = {"config", "data", "cluster-key-file", "password-file", "acl-file", "jwt-secret-file", "jwt-key-file"}
    paths |= {"tls-cert", "tls-key", "tls-ca", "link-tls-cert", "link-tls-key", "link-tls-ca"}
    for key, (value, _source) in settings(run("config")).items():
        if key not in texts:
            wrong = "" if key in paths else ", ?"
            if value in ("true", "false"):
                done = run(environment={f"DUNLIN_{key.replace('-', '_').upper()}": ", ?"})
            else:
                done = run(f"--{key}={wrong}")
                assert done.stderr.startswith(f"Error: --{key}: '{wrong}' is not valid; it takes "), done.stderr
            assert done.returncode == 64
            assert "is not valid; it takes " in done.stderr


def test_an_address_that_is_not_this_machines_is_named():
    # TEST-NET-1 (RFC 5737): nobody has it.
    done = run("--bind", "192.0.2.1", *NO_PORTS)
    assert done.returncode not in (0, 64)
    assert "192.0.2.1" in done.stderr


def test_a_host_that_does_not_exist_is_told_in_plain_words():
    done = run("--mqtt-bind", "no-such-host.invalid", "--bind", "127.0.0.1", *NO_PORTS)
    assert done.returncode == 1
    assert "there is no host named no-such-host.invalid" in done.stderr


@pytest.mark.parametrize("listener", ["mqtt", "ws", "gossip", "link"])
def test_a_port_in_use_is_named(listener):
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        ports = {"mqtt": 0, "ws": 0, "gossip": 0, "link": 0, listener: port}
        flags = [word for name, number in ports.items() for word in (f"--{name}-port", str(number))]
        done = run("--bind", "127.0.0.1", *flags)
    assert done.returncode not in (0, 64)
    assert f"127.0.0.1:{port}" in done.stderr
    assert "in use" in done.stderr
    assert not done.stdout.startswith("ready")


def test_an_unreachable_seed_is_logged_and_retried(cluster):
    with socket.create_server(("127.0.0.1", 0)) as reserved:
        port = reserved.getsockname()[1]
    seed = f"127.0.0.1:{port}"
    node = cluster.node(join=[seed])
    node.wait_for_log(re.escape(seed))
    assert "Connection refused" in node.log()
    assert "errno" not in node.log()
    # It serves meanwhile.
    with Client(node) as client:
        client.subscribe("here")
        client.publish("here", "yes")
        assert client.payloads(1) == ["yes"]
    # And it joins when the seed appears.
    late = cluster.node("late", address="127.0.0.1", ports={"gossip": port})
    node.wait_for_log(late.name, seconds=20)


def test_a_seed_that_does_not_resolve_is_logged(cluster):
    node = cluster.node(join=["no-such-host.invalid"])
    node.wait_for_log(r"no-such-host\.invalid")


def test_sigterm_ends_a_node_that_still_waits_for_others(tmp_path):
    log = tmp_path / "log"
    with socket.create_server(("127.0.0.1", 0)) as reserved:
        seed = f"127.0.0.1:{reserved.getsockname()[1]}"
    with open(log, "w") as output:
        process = subprocess.Popen(
            [BINARY, "--bind", "127.0.0.1", *NO_PORTS, "--join", seed, "--log-level", "debug"],
            stdout=subprocess.PIPE,
            stderr=output,
            text=True,
            env=ENVIRONMENT,
        )
        until(lambda: seed in log.read_text() and handles(process.pid, signal.SIGTERM), "the seed is asked")
        process.send_signal(signal.SIGTERM)
        assert process.wait(PATIENCE) == 0
    assert process.stdout.read() == ""
    assert "serving clients" not in log.read_text()


def test_a_node_whose_name_is_taken_ends_without_serving_anybody(cluster):
    holder = cluster.node()
    done = run("--bind", "127.0.0.1", *NO_PORTS, "--name", holder.name, "--join", holder.gossip)
    assert (done.returncode, done.stdout) == (1, "")
    assert f"a live node named {holder.name}" in done.stderr and "--name" in done.stderr
    assert "serving clients" not in done.stderr


def test_a_start_logs_its_version_and_where_clients_are_served(cluster):
    node = cluster.node()
    node.wait_for_log(rf"info.* Dunlin \d+\.\d+\.\d+.*{node.name}.*mqtt={re.escape(node.host)}")


def test_sigterm_says_goodbye_and_exits_zero(cluster):
    first, second = cluster.grow(2)
    seen = second.log_length()
    with RawSession(first, unique("modern"), version=5) as modern, RawSession(first, unique("old")) as old:
        assert first.terminate() == 0
        kind, body = modern.packet()
        assert (kind, body[0]) == (DISCONNECT, USE_ANOTHER_SERVER)
        assert modern.at_end()
        assert old.at_end()
    second.wait_for_log(rf"{first.name}.*left|left.*{first.name}", start=seen)


def test_a_listener_can_be_turned_off(cluster):
    node = cluster.node(ports={"ws": "off", "gossip": "off", "link": "off"})
    assert node.ready["ws"] == "off"
    assert node.ready.get("gossip", "off") == "off"
    assert node.ready.get("link", "off") == "off"
    with Client(node) as client:
        client.subscribe("alone")
        client.publish("alone", "yes")
        assert client.payloads(1) == ["yes"]


def test_nodes_on_one_machine_get_different_names_by_default():
    names = set()
    for address in ("127.0.0.1", "127.0.0.2"):
        process = subprocess.Popen(
            [BINARY, "--bind", address, *NO_PORTS],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            env=ENVIRONMENT,
        )
        try:
            names.add(re.search(r"name=(\S+)", process.stdout.readline()).group(1))
        finally:
            process.kill()
            process.wait()
    assert len(names) == 2
