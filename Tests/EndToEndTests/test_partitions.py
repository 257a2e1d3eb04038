"""Networks that are cut in part, in one direction, or right through, and heal: each node is on a host of its own."""

import collections
import threading
import time

import pytest

from dunlin import Client, unique, until
from test_gossip_keys import Keys, new_key
from test_node_status import peer, status, wait_for_links

# docs/clustering.md: how soon all is as before when the network is.
HEALED_SECONDS = 2.0
# How long a link may take that has to go through another node: until the silence is noticed, and the way is found.
RELAYED_SECONDS = 5.0
QOS = (0, 1, 2)

pytestmark = pytest.mark.timeout(120)


class Site:
    """A node, and clients on its host: they reach it whatever is cut."""

    def __init__(self, node, host):
        self.node = node
        self.host = host
        self.name = node.name

    def client(self, **options):
        with self.host.inside():
            return Client(self.node, **options)


@pytest.fixture
def sites(request, cluster, network, tmp_path):
    """Nodes that are all linked with each other; with a key, where the parameter says so."""
    flags = []
    if getattr(request, "param", None) == "keys":
        keys = Keys(tmp_path / "cluster.keys")
        keys.write(new_key())
        flags = keys.flags
    for host in network.hosts:
        join = [cluster.nodes[0]] if cluster.nodes else []
        cluster.node(address=host.address, prefix=host.prefix, join=join, flags=flags)
    wait_for_links(*cluster.nodes)
    return [Site(node, host) for node, host in zip(cluster.nodes, network.hosts)]


class Stream:
    """One publisher, which sends numbered messages of each QoS until it is stopped."""

    def __init__(self, site, topic):
        self.sent = collections.Counter()
        self._client = site.client()
        self._topic = topic
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self):
        while not self._stopped.wait(0.01):
            for qos in QOS:
                self._client._client.publish(f"{self._topic}/{qos}", str(self.sent[qos]), qos)
                self.sent[qos] += 1

    def stop(self):
        """Returns how many of each QoS were sent; the broker has acknowledged those that it acknowledges."""
        self._stopped.set()
        self._thread.join()
        # At the end all is well again, and one message after them is acknowledged as they were.
        self._client.publish(self._topic, "end", 2)
        self._client.close()
        return self.sent


class Receiver:
    """A subscriber with a session that is kept."""

    def __init__(self, site, topic):
        self.client = site.client(clean=False, expiry=300)
        self._topic = topic
        self.received = {qos: [] for qos in QOS}
        self.client._client.on_message = self._on_message
        for qos in QOS:
            self.client.subscribe(f"{topic}/{qos}", qos)

    def _on_message(self, _client, _userdata, message):
        self.received[int(message.topic.rsplit("/", 1)[1])].append(int(message.payload))

    def expect(self, sent):
        """All of QoS 1 and 2, each once and in order; of QoS 0 no message twice, and in order."""
        for qos in (1, 2):
            whole = list(range(sent[qos]))
            until(lambda: len(self.received[qos]) >= len(whole), f"{len(whole)} messages of QoS {qos} arrive")
            assert self.received[qos] == whole
        assert self.received[0] == sorted(set(self.received[0]))


def is_linked(site, other, via=None):
    link = peer(site.node, other.node)
    return link.get("in_step") and link["lanes"] == 1 and link.get("via") == via


def wait_for_way(site, other, via, seconds):
    until(lambda: is_linked(site, other, via), f"{site.name} is linked to {other.name} via {via}", seconds)


def tables_agree(sites):
    """Whether each has exactly the table of each other."""
    links = {site.name: status(site.node)["links"] for site in sites}
    return all(
        entry["table"]["digest"] == links[entry["name"]]["own_table"]["digest"]
        and entry["table"]["version"] == links[entry["name"]]["own_table"]["version"]
        for own in links.values()
        for entry in own["peers"]
    )


def wait_until_healed(network, sites):
    """Heals the network, and waits until it is as if it had never been cut; returns the seconds that took."""
    network.heal()
    begun = time.monotonic()
    pairs = [(site, other) for site in sites for other in sites if other is not site]
    until(lambda: all(is_linked(*pair) for pair in pairs) and tables_agree(sites), "all are linked directly again")
    seconds = time.monotonic() - begun
    print(f"\nhealed after {seconds:.2f} s")
    return seconds


@pytest.mark.parametrize("network", [3], indirect=True)
@pytest.mark.parametrize("ways", ["both", "there", "back"])
def test_two_nodes_that_do_not_reach_each_other_go_through_a_third(network, sites, ways):
    first, second, third = sites
    topic = unique("partial")
    receiver = Receiver(second, topic)
    stream = Stream(first, topic)
    until(lambda: all(receiver.received.values()), "messages arrive")
    if ways != "back":
        network.cut_one_way(first.host, second.host)
    if ways != "there":
        network.cut_one_way(second.host, first.host)
    wait_for_way(first, second, third.name, RELAYED_SECONDS)
    wait_for_way(second, first, third.name, RELAYED_SECONDS)
    assert peer(first.node, second.node)["incoming_via"] == third.name

    # What is subscribed to now is known on the other side when the SUBACK comes, at QoS 0 and at once.
    with second.client() as subscriber, first.client() as publisher:
        for number in range(20):
            subscriber.subscribe(f"{topic}/during/{number}")
            publisher.publish(f"{topic}/during/{number}", str(number))
        assert subscriber.payloads(20) == [str(number) for number in range(20)]
        # No message at QoS 0 is lost while the way stays the same.
        before = len(receiver.received[0])
        until(lambda: len(receiver.received[0]) > before + 50, "messages of QoS 0 arrive")
        tail = receiver.received[0][before:]
        assert tail == list(range(tail[0], tail[0] + len(tail)))

    assert wait_until_healed(network, sites) <= HEALED_SECONDS
    until(lambda: receiver.received[0][-1] > stream.sent[0] - 5, "messages of QoS 0 arrive over the direct link")
    receiver.expect(stream.stop())
    for site in (first, second):
        assert "member failed" not in site.node.log(), site.node.log()
        site.node.wait_for_log(rf"via={third.name} .*link up")


@pytest.mark.parametrize("sites", ["keys"], indirect=True)
@pytest.mark.parametrize("network", [4], indirect=True)
def test_when_the_third_node_dies_another_one_takes_its_place(network, sites):
    first, second, third, fourth = sites
    topic = unique("relay")
    receiver = Receiver(second, topic)
    stream = Stream(first, topic)
    network.cut(first.host, second.host)
    wait_for_way(first, second, third.name, RELAYED_SECONDS)
    third.node.kill()
    begun = time.monotonic()
    wait_for_way(first, second, fourth.name, HEALED_SECONDS)
    print(f"\nanother way after {time.monotonic() - begun:.2f} s")
    assert wait_until_healed(network, [first, second, fourth]) <= HEALED_SECONDS
    receiver.expect(stream.stop())


@pytest.mark.parametrize("network", [3], indirect=True)
def test_each_side_of_a_partition_serves_alone_and_both_are_one_again(network, sites):
    first, second, third = sites
    topic = unique("alone")
    receiver = Receiver(third, topic)
    with third.client() as early, first.client() as publisher:
        early.subscribe(f"{topic}/early", 1)
        publisher.publish(f"{topic}/early", "before", 1)
        assert early.payloads(1) == ["before"]
        network.isolate(third.host)
        for site, others in [(third, (first, second)), (first, (third,))]:
            for other in others:
                site.node.wait_for_log(rf"name={other.name}\b.*member failed", seconds=60)
        # Either side serves those it has, and takes new ones.
        for site, others in [(third, ()), (second, (first,))]:
            with site.client() as subscriber, (others[0] if others else site).client() as sender:
                subscriber.subscribe(f"{topic}/own", 2)
                sender.publish(f"{topic}/own", site.name, 2)
                assert subscriber.payloads(1) == [site.name]
        early.subscribe(f"{topic}/late", 1)
        # For the kept session on the other side this waits.
        for number in range(50):
            publisher.publish(f"{topic}/{1 + number % 2}", str(number // 2), 1 + number % 2)
        assert wait_until_healed(network, sites) <= HEALED_SECONDS
        receiver.expect({1: 25, 2: 25})
        publisher.publish(f"{topic}/late", "after", 1)
        assert early.payloads(1) == ["after"]


@pytest.mark.parametrize("network", [4], indirect=True)
@pytest.mark.parametrize("is_alone", [True, False], ids=["alone", "beside another"])
def test_what_a_lost_node_has_for_a_session_follows_it_to_where_it_has_moved(network, sites, is_alone):
    first, second, third, fourth = sites
    topic, name = unique("follow"), unique("mover")
    with third.client() as publisher, fourth.client(clean=False, expiry=300) as neighbour:
        if not is_alone:
            # The lost node keeps something for the node that the session ends up at as well.
            neighbour.subscribe(topic, 2)
        with first.client(client_id=name, clean=False, expiry=300) as mover:
            mover.subscribe(topic, 2)
            publisher.publish(topic, "0", 2)
            assert mover.payloads(1) == ["0"]
            network.isolate(third.host)
            for site, others in [(third, (first, second, fourth)), (first, (third,)), (second, (third,)), (fourth, (third,))]:
                for other in others:
                    site.node.wait_for_log(rf"name={other.name}\b.*member failed", seconds=60)
            for number in range(1, 20):
                publisher.publish(topic, str(number), 2)
        with second.client(client_id=name, clean=False, expiry=300) as mover:
            assert mover.session_present
            for number in range(20, 40):
                publisher.publish(topic, str(number), 2)
            # It goes on meanwhile, and once more to another node.
            with first.client() as sender:
                sender.publish(topic, "here", 2)
            assert mover.payloads(1) == ["here"]
        with fourth.client(client_id=name, clean=False, expiry=300) as mover:
            assert mover.session_present
            assert wait_until_healed(network, sites) <= HEALED_SECONDS
            publisher.publish(topic, "40", 2)
            assert mover.payloads(40) == [str(number) for number in range(1, 41)]
            publisher.publish(topic, "end", 2)
            assert mover.payloads(1) == ["end"]
