"""mqload accounts for every message: none lost, doubled or out of order."""

import time

import pytest

from dunlin import Client, unique, until

PAIR = ("pair", "-p", 50, "-n", 20_000)
FAN_IN = ("fanin", "-p", 50, "-c", 1, "-n", 20_000)
FAN_OUT = ("fanout", "-p", 1, "-c", 100, "-n", 500, "-w", 16)
SCENARIOS = pytest.mark.parametrize("scenario", [PAIR, FAN_IN, FAN_OUT], ids=lambda scenario: scenario[0])
QUALITIES = pytest.mark.parametrize("qos", [0, 1, 2])


@SCENARIOS
@QUALITIES
def test_one_node_delivers_everything_once_and_in_order(one, mqload, scenario, qos):
    mqload(*scenario, "-q", qos, "-H", one.host).finish()


@SCENARIOS
@QUALITIES
def test_two_nodes_deliver_everything_once_and_in_order(two, mqload, scenario, qos):
    # Every message crosses a link. Pairs go both ways: clients go through the lists by their number.
    publishing, subscribing = [two[0].host], [two[1].host]
    if scenario is PAIR:
        publishing, subscribing = publishing + subscribing, subscribing + publishing
    mqload(
        *(*scenario, "-q", qos, "-V", 5, "--fill", "json", "-s", 176, "--settle", 1000),
        *("--pub-host", ",".join(publishing), "--sub-host", ",".join(subscribing)),
    ).finish()


def test_subscriptions_come_and_go_under_load(two, mqload):
    mqload("churn", "-c", 50, "-n", 10_000, "-H", f"{two[0].host},{two[1].host}").finish()


def test_subscriptions_that_change_without_end_do_not_hold_up_the_links(cluster, mqload):
    first, second = cluster.grow(2)
    load = mqload("churn", "-c", 30, "-w", 4, "-d", 12, "-H", second.host)
    slowest = 0
    while load.running():
        topic = unique("route")
        with Client(second) as subscriber, Client(first) as publisher:
            started = time.monotonic()
            subscriber.subscribe(topic, 1)
            until(lambda: publisher.publish(topic, "x", 1) or not subscriber.messages.empty(), "the route is known")
            slowest = max(slowest, time.monotonic() - started)
    load.finish()
    assert slowest < 2
    for node in (first, second):
        assert "silence" not in node.log()


def test_a_thousand_wildcard_filters_on_two_nodes_get_their_messages(two, mqload):
    mqload(
        *("manysubs", "-c", 100, "-m", 10, "-p", 5, "-n", 5_000, "-q", 1, "--settle", 1000),
        *("--pub-host", two[0].host, "--sub-host", two[1].host),
    ).finish()


def test_a_thousand_connections_are_taken_in(one, mqload):
    assert mqload("storm", "-c", 1000, "--hold", 1, "-H", one.host).finish()["connected"] == 1000


def test_retained_messages_are_handed_out_completely(one, mqload):
    mqload("retained", "-n", 5_000, "-q", 1, "--cleanup", "-H", one.host).finish()
