"""Clients that break every rule there is. Each case says what the broker must do, and after each the others are served."""

import pytest

from dunlin import unique
from hostile_connect import OPENINGS
from hostile_packets import MISTAKES
from wire import CONNACK, DISCONNECT, PINGREQ, PINGRESP, Raw, Witness, connect, is_steady, packet, publish


@pytest.fixture(scope="module")
def node(shared_cluster):
    return shared_cluster.node()


@pytest.fixture(scope="module")
def witness(node):
    witness = Witness(node, unique("witness"))
    yield witness
    witness.close()


@pytest.fixture(scope="module", autouse=True)
def memory(node, witness):
    """What a case takes it gives back: after all of them the process is as large as before, within 8 MiB."""
    with is_steady(node, 8):
        yield


@pytest.mark.parametrize("case", OPENINGS, ids=lambda case: case.name)
def test_a_wrong_beginning_is_refused(node, witness, case):
    with Raw(node.mqtt) as raw:
        # What comes behind it is not acted on. [MQTT-3.1.4-6]
        raw.try_send(case.data + publish(witness.topic, b"behind a refused CONNECT"))
        if case.code is not None:
            assert raw.packet() == (CONNACK, case.connack)
        raw.expect_end()
    witness.check()


@pytest.mark.parametrize("version", [5, 4])
@pytest.mark.parametrize("case", MISTAKES, ids=lambda case: case.name)
def test_a_mistake_ends_the_connection(node, witness, case, version):
    data = case.new if version == 5 else case.old
    if data is None:
        pytest.skip("this version does not have the mistake")
    with Raw(node.mqtt) as raw:
        raw.connect(unique("hostile"), version=version)
        # What comes before it is answered; what comes behind it is not acted on.
        raw.try_send(packet(PINGREQ) + data + publish(witness.topic, b"behind a mistake", version=version))
        assert raw.packet() == (PINGRESP, b"")
        if version == 5:
            raw.expect_disconnect(case.code)
        raw.expect_end()
    witness.check()


@pytest.mark.parametrize("version", [3, 4, 5])
def test_a_second_connect_ends_the_connection(node, witness, version):
    with Raw(node.mqtt) as raw:
        raw.connect(unique("twice"), version=version)
        raw.send(connect("other", version))
        if version == 5:
            raw.expect_disconnect(0x82)
        raw.expect_end()
    witness.check()


@pytest.mark.parametrize("version", [3, 4, 5])
def test_nothing_behind_disconnect_is_acted_on(node, witness, version):
    with Raw(node.mqtt) as raw:
        raw.connect(unique("leaving"), version=version)
        raw.try_send(packet(DISCONNECT) + publish(witness.topic, b"behind DISCONNECT", version=version))
        raw.expect_end()
    witness.check()
