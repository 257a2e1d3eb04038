import os
import random
import shutil
import subprocess

import pytest

from dunlin import BINARY, ROOT, Load, Node, require
from network import Network, namespaces_possible


def pytest_configure(config):
    if shutil.which(BINARY) is None:
        raise pytest.UsageError(f"no broker at {BINARY}: build it with `swift build -c release` or set DUNLIN_NODE")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item, call):
    """A failed test shows the logs of its nodes."""
    report = yield
    if report.failed and call.excinfo is not None:
        for node in getattr(item.session, "dunlin_nodes", []):
            if node.log_path.exists():
                report.sections.append((f"log of {node.name}", "\n".join(node.log().splitlines()[-60:])))
    return report


class Cluster:
    """Starts nodes on 127.0.0.1, 127.0.0.2, … and stops them at the end."""

    def __init__(self, directory, nodes):
        self._directory = directory
        self.nodes = nodes

    def node(self, name=None, join=(), flags=(), address=None, ports=None, environment=None, prefix=()):
        number = len(self.nodes) + 1
        address = address or f"127.0.0.{number}"
        node = Node(self._directory, name or f"n{number}", address, join, flags, ports, environment, prefix)
        self.nodes.append(node)
        return node.start()

    def grow(self, count):
        """Nodes that all join the first one."""
        first = self.node()
        return [first] + [self.node(join=[first]) for _ in range(count - 1)]

    def stop(self):
        for node in self.nodes:
            node.stop()
        self.nodes.clear()


@pytest.fixture
def cluster(request, tmp_path):
    nodes = request.session.dunlin_nodes = []
    cluster = Cluster(tmp_path, nodes)
    yield cluster
    cluster.stop()


@pytest.fixture
def network(request):
    """As many hosts as the test's parameter says, on a network of their own."""
    require(namespaces_possible(), "network namespaces need root and iproute2")
    network = Network(request.param)
    yield network
    network.stop()


@pytest.fixture
def seed():
    """For what is left to chance. A failure shows it."""
    seed = int(os.environ.get("DUNLIN_CRASH_SEED") or random.randrange(1 << 32))
    print(f"seed {seed}")
    return seed


@pytest.fixture(scope="module")
def shared_cluster(request, tmp_path_factory):
    """For tests that only use nodes: one cluster for the whole file."""
    nodes = request.session.dunlin_nodes = []
    cluster = Cluster(tmp_path_factory.mktemp("cluster"), nodes)
    yield cluster
    cluster.stop()


@pytest.fixture(scope="module")
def one(shared_cluster):
    return shared_cluster.grow(1)[0]


@pytest.fixture(scope="module")
def two(shared_cluster):
    return shared_cluster.grow(2)


@pytest.fixture(scope="module")
def three(shared_cluster):
    return shared_cluster.grow(3)


@pytest.fixture(scope="session")
def mqload_binary():
    source = ROOT / "Benchmarks/mqload/mqload.c"
    binary = ROOT / ".build/mqload"
    if not binary.exists() or binary.stat().st_mtime < source.stat().st_mtime:
        binary.parent.mkdir(exist_ok=True)
        subprocess.run(["cc", "-O2", "-o", binary, source, "-lpthread", "-lm"], check=True)
    return binary


@pytest.fixture
def mqload(mqload_binary):
    """Starts load generators; none outlives the test."""
    loads = []

    def start(*arguments):
        loads.append(Load(mqload_binary, *arguments))
        return loads[-1]

    yield start
    for load in loads:
        load.cancel()
