"""`node key`: keys of a running ring, real Serf agents in it, are listed and changed from either side."""

import base64
import json
import re
import signal
import threading

import pytest

from dunlin import ROOT, Client, settle, unique, until
from serf import SerfAgent
from test_members import command


def new_key(size=32):
    if size != 32:
        return base64.b64encode(bytes(range(size))).decode()
    done = command("key", "generate")
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout.strip()


def key_command(node, *arguments, text=None):
    return command("key", *arguments, "--node", node.name, folder=node.control, text=text)


def change(node, action, key, *flags):
    """By standard input, so that the key is on no command line; returns its fingerprint."""
    done = key_command(node, action, "-", "--json", *flags, text=f"{key}\n")
    assert (done.returncode, done.stderr) == (0, ""), done
    answer = json.loads(done.stdout)
    assert key not in done.stdout
    assert {member["outcome"] for member in answer["members"]} == {"done"}
    return answer["key"]


def lists(node):
    """Member → fingerprints of its keys, as the node gathers them."""
    done = key_command(node, "list", "--json")
    assert (done.returncode, done.stderr) == (0, ""), done
    return {member["name"]: member["keys"] for member in json.loads(done.stdout)["members"]}


class KeyFile:
    def __init__(self, path, form, *keys):
        self.path = path
        self.flags = ["--cluster-key-file", str(path)]
        self.path.write_text(form(keys))
        self.path.chmod(0o600)

    def keys(self):
        text = self.path.read_text()
        return json.loads(text) if text.startswith("[") else [line for line in text.split() if line]


@pytest.fixture
def key():
    return new_key()


@pytest.fixture
def files(tmp_path, key):
    """One with lines, one with a JSON array."""
    return [
        KeyFile(tmp_path / "lines.keys", lambda keys: "".join(f"{key}\n" for key in keys), key),
        KeyFile(tmp_path / "array.keys", json.dumps, key),
    ]


@pytest.fixture
def nodes(cluster, files):
    first = cluster.node(flags=files[0].flags)
    second = cluster.node(join=[first], flags=files[1].flags)
    for node, other in ((first, second), (second, first)):
        node.wait_for_log(rf"name={other.name}\b.*member joined")
    return [first, second]


@pytest.fixture
def agent(nodes, tmp_path, key):
    agent = SerfAgent("127.0.0.100", tmp_path / "serf.log", join=nodes[0].gossip, flags=[f"-encrypt={key}"])
    for node in nodes:
        agent.wait_for_status(node, "alive")
        node.wait_for_log(rf"name={agent.name}\b.*member joined")
    yield agent
    agent.kill()


def test_keys_change_from_either_side_under_traffic(nodes, agent, files, key):
    first, second = nodes
    topic = unique("rotation")
    names = {first.name, second.name, agent.name}

    def agreed(*keys):
        for node in nodes:
            listed = lists(node)
            assert set(listed) == names
            assert len({tuple(fingerprints) for fingerprints in listed.values()}) == 1, listed
            assert len(listed[agent.name]) == len(keys)
        status, text = agent.keys("-list")
        assert status == 0
        assert dict(re.findall(r"^(\S{24,})\s+\[(\d/\d)\]", text, re.MULTILINE)) == {key: "3/3" for key in keys}, text
        for file in files:
            assert file.keys() == list(keys)

    with Client(first) as publisher, Client(second) as subscriber:
        subscriber.subscribe(topic, 1)
        settle(subscriber, topic, [first])
        stopped = threading.Event()
        sent = []

        def publish():
            while not stopped.is_set():
                publisher.publish(topic, str(len(sent)), 1)
                sent.append(str(len(sent)))

        thread = threading.Thread(target=publish)
        thread.start()
        try:
            second_key, third_key = new_key(), new_key(16)
            # Ours adds, theirs uses, ours removes; then the other way round, with a key of another length.
            change(first, "add", second_key)
            agreed(key, second_key)
            assert agent.keys(f"-use={second_key}")[0] == 0
            agreed(second_key, key)
            change(second, "remove", key)
            agreed(second_key)
            assert agent.keys(f"-install={third_key}")[0] == 0
            agreed(second_key, third_key)
            fingerprint = change(second, "use", third_key)
            agreed(third_key, second_key)
            assert agent.keys(f"-remove={second_key}")[0] == 0
            agreed(third_key)
        finally:
            stopped.set()
            thread.join()
        assert len(sent) > 10
        assert subscriber.payloads(len(sent)) == sent
    for node in nodes:
        agent.wait_for_status(node, "alive")
        assert not re.search(r"failed|suspected|gossip: dropped", node.log()), node.log()
        for secret in (key, second_key, third_key):
            assert secret not in node.log()
        assert fingerprint in node.log()
    assert not [line for line in agent.log().splitlines() if re.search(r"\[(ERR|WARN)\].*memberlist", line)]


def test_changed_keys_outlive_a_restart(nodes, files):
    first, second = nodes
    new = new_key()
    change(first, "add", new)
    change(first, "use", new)
    assert [file.keys()[0] for file in files] == [new, new]
    second.kill()
    seen = first.log_length()
    second.start()
    first.wait_for_log(rf"name={second.name}\b.*member (joined|restarted)", start=seen)
    assert len(lists(second)) == 2
    # SIGHUP reads what the command has written, and changes nothing.
    first.process.send_signal(signal.SIGHUP)
    first.wait_for_log("read again: cluster keys", start=seen)
    assert lists(first) == lists(second)


def test_keys_are_named_by_fingerprints(nodes):
    first, second = nodes
    new = new_key()
    fingerprint = change(first, "add", new)
    assert re.fullmatch(r"[0-9a-f]{8}", fingerprint)
    done = key_command(second, "use", fingerprint)
    assert (done.returncode, done.stdout) == (0, f"{fingerprint} made the first at 2 of 2 members\n")
    done = key_command(second, "list")
    heading, *rows = done.stdout.splitlines()
    assert re.split(r"  +", heading) == ["key", "encrypts at", "members that have it"]
    assert re.split(r"  +", rows[0]) == [fingerprint, "2", "2 of 2"]
    old = rows[1].split()[0]
    done = key_command(first, "remove", old)
    assert (done.returncode, done.stdout) == (0, f"{old} removed at 2 of 2 members\n")


def test_what_makes_no_sense_is_refused_and_changes_nothing(nodes, files, key):
    first, second = nodes
    before = lists(first)
    unknown = new_key()
    for arguments, reason in [
        (["add", "AAAA"], "not the base64 of 16, 24 or 32 bytes"),
        (["add", key[:-2]], "not the base64"),
        (["use", unknown], "does not have it"),
        (["use", unknown, "--force"], "there is no such key"),
        (["use", "00000000"], "has no key 00000000"),
        (["use", "nothing"], "not the base64"),
        (["remove", key], "encrypts with it"),
        (["remove", key, "--force"], "the one that encrypts"),
    ]:
        done = key_command(first, *arguments)
        assert (done.returncode, done.stdout) == (1, ""), done
        assert reason in done.stderr
        assert key[:-2] not in done.stderr and unknown not in done.stderr
    assert lists(second) == before
    assert [file.keys() for file in files] == [[key], [key]]
    for number in range(15):
        change(first, "add", base64.b64encode(bytes([number]) * 16).decode())
    done = key_command(second, "add", unknown)
    assert done.returncode == 1
    assert "more than 16 keys" in done.stderr
    assert all(len(keys) == 16 for keys in lists(first).values())


def test_a_key_that_a_member_lacks_is_not_made_the_first(nodes, files, key):
    first, second = nodes
    new = new_key()
    files[0].path.write_text(f"{key}\n{new}\n")
    seen = first.log_length()
    first.process.send_signal(signal.SIGHUP)
    first.wait_for_log("read again: cluster keys", start=seen)
    done = key_command(first, "use", new)
    assert done.returncode == 1
    assert f"{second.name} does not have it" in done.stderr and "--force" in done.stderr
    assert files[0].keys()[0] == key
    change(second, "add", new)
    change(second, "use", new)
    assert all(keys[0] != keys[1] for keys in lists(first).values())


def test_a_file_that_cannot_be_written_is_told_and_nothing_changes_there(cluster, nodes, tmp_path, key):
    first, second = nodes
    # With six more letters, as the file that is to replace it, the name would be too long.
    stuck = KeyFile(tmp_path / ("k" * 252), "\n".join, key)
    third = cluster.node(join=[first], flags=stuck.flags)
    until(lambda: third.name in lists(first), "the third is in the ring")
    new = new_key()
    done = key_command(first, "add", new, "--json")
    assert done.returncode == 1
    outcomes = {member["name"]: member for member in json.loads(done.stdout)["members"]}
    assert outcomes[first.name]["outcome"] == outcomes[second.name]["outcome"] == "done"
    assert outcomes[third.name]["outcome"] == "refused"
    assert "cannot be changed: File name too long" in outcomes[third.name]["message"]
    assert f"{third.name}: its file" in done.stderr
    assert len(lists(first)[third.name]) == 1
    assert stuck.keys() == [key]
    done = key_command(third, "add", new)
    assert done.returncode == 1 and "nothing was changed" in done.stderr


def test_a_member_that_does_not_answer_is_named(cluster, nodes, key):
    first, second = nodes
    # By its path: which name the stopped node has cannot be asked.
    socket = str(first.control / f"{first.gossip}.sock")
    second.process.send_signal(signal.SIGSTOP)
    try:
        done = command("key", "add", new_key(), "--node", socket)
    finally:
        second.process.send_signal(signal.SIGCONT)
    assert done.returncode == 1
    assert "added at 1 of 2 members" in done.stdout
    assert f"{second.name}: it did not answer" in done.stderr


def test_without_keys_it_says_so(cluster):
    node = cluster.node()
    done = key_command(node, "list")
    assert done.returncode == 1
    assert "started without keys" in done.stderr


def test_the_schema_is_documented(nodes):
    answer = json.loads(key_command(nodes[0], "add", "-", "--json", text=new_key()).stdout)
    listed = json.loads(key_command(nodes[0], "list", "--json").stdout)
    page = (ROOT / "docs/operations.md").read_text().partition("## Keys")[2].partition("\n## ")[0]
    documented = re.findall(r"^\| `(members\[\]\.)?([a-z_]+)` \|", page, re.MULTILINE)
    assert {name for prefix, name in documented if not prefix} == set(answer) | set(listed)
    fields = {name for one in (answer, listed) for member in one["members"] for name in member} | {"message"}
    assert {name for prefix, name in documented if prefix} == fields
