"""A network of hosts on this machine: network namespaces that hang on one switch, which can be torn and healed."""

import contextlib
import ctypes
import itertools
import os
import pathlib
import shutil
import subprocess

_numbers = itertools.count(1)
_libc = ctypes.CDLL(None, use_errno=True)
# An Ethernet address that nobody has.
NOBODY = "02:00:00:00:00:01"

# Of <sched.h>.
_CLONE_NEWNET = 0x4000_0000


def namespaces_possible():
    """Whether this user may make network namespaces: root, with iproute2."""
    if os.geteuid() != 0 or shutil.which("ip") is None:
        return False
    name = f"dunlin-{os.getpid()}-try"
    if subprocess.run(["ip", "netns", "add", name], capture_output=True).returncode != 0:
        return False
    _ip("netns", "del", name)
    return True


@contextlib.contextmanager
def within_namespace(prefix):
    """What this thread does within, it does on the host that a command with this prefix runs on; a socket stays there."""
    if prefix[:3] != ["ip", "netns", "exec"]:
        yield
        return
    with open("/proc/thread-self/ns/net") as here, open(f"/run/netns/{prefix[-1]}") as there:
        _enter(there)
        try:
            yield
        finally:
            _enter(here)


def _enter(namespace):
    if ctypes.CDLL(None, use_errno=True).setns(namespace.fileno(), _CLONE_NEWNET) != 0:
        raise OSError(ctypes.get_errno(), "setns")


def _ip(*arguments, script=None):
    subprocess.run(["ip", *arguments], check=True, capture_output=True, text=True, input=script)


def _enter(namespace):
    if _libc.setns(namespace.fileno(), 0) != 0:
        raise OSError(ctypes.get_errno(), "setns")


class Host:
    """One namespace. What runs there is started with `prefix` in front of its command."""

    def __init__(self, namespace, number):
        self._namespace = namespace
        self.number = number
        self.address = f"10.89.0.{number}"
        self.prefix = ["ip", "netns", "exec", namespace]
        self._etc = pathlib.Path("/etc/netns") / namespace

    def ip(self, *arguments):
        """`ip` on this host."""
        _ip("-n", self._namespace, *arguments)

    @contextlib.contextmanager
    def inside(self):
        """Sockets that this thread makes meanwhile are on this host."""
        with open("/proc/thread-self/ns/net") as outside, open(f"/run/netns/{self._namespace}") as inside:
            _enter(inside)
            try:
                yield
            finally:
                _enter(outside)

    def write_names(self, **names):
        """What the host finds when it looks a name up: name=[address, …], `_` for a dot."""
        self._etc.mkdir(parents=True, exist_ok=True)
        lines = [f"{address} {name.replace('_', '.')}\n" for name, all in names.items() for address in all]
        # In place: a running process sees this very file in the place of /etc/hosts.
        (self._etc / "hosts").write_text("".join(lines))

    def forget_names(self):
        shutil.rmtree(self._etc, ignore_errors=True)


class Network:
    """Hosts 1 to `count`. Each port of the switch is in one of its bridges; hosts on different ones hear nothing of each
    other, and nobody is told, as when a cable is cut."""

    def __init__(self, count):
        stem = f"dunlin-{os.getpid()}-{next(_numbers)}"
        self._switch = f"{stem}-switch"
        self._namespaces = [f"{stem}-{number}" for number in range(1, count + 1)]
        self.hosts = [Host(namespace, number + 1) for number, namespace in enumerate(self._namespaces)]
        # Pairs of sender and receiver.
        self._cuts = []
        _ip("netns", "add", self._switch)
        for number in range(count):
            self._batch(f"link add br{number} type bridge stp_state 0 forward_delay 0", f"link set br{number} up")
        for host, namespace in zip(self.hosts, self._namespaces):
            port = f"p{host.number}"
            _ip("netns", "add", namespace)
            _ip("link", "add", "eth0", "netns", namespace, "type", "veth", "peer", "name", port, "netns", self._switch)
            self._batch(f"link set {port} master br0", f"link set {port} up")
            host.ip("addr", "add", f"{host.address}/24", "dev", "eth0")
            host.ip("link", "set", "lo", "up")
            host.ip("link", "set", "eth0", "up")

    def _batch(self, *commands):
        _ip("-n", self._switch, "-batch", "-", script="\n".join(commands) + "\n")

    def partition(self, *groups):
        """Tears the network: hosts reach those of their own group only."""
        self._batch(
            *(f"link set p{host.number} master br{number}" for number, group in enumerate(groups) for host in group)
        )

    def isolate(self, host):
        self.partition([other for other in self.hosts if other is not host], [host])

    def cut_one_way(self, sender, receiver):
        """What the sender has for the receiver gets lost without a word; the other way all goes on."""
        sender.ip("neigh", "replace", receiver.address, "lladdr", NOBODY, "dev", "eth0", "nud", "permanent")
        self._cuts.append((sender, receiver))

    def cut(self, first, second):
        self.cut_one_way(first, second)
        self.cut_one_way(second, first)

    def heal(self):
        self.partition(self.hosts)
        for sender, receiver in self._cuts:
            sender.ip("neigh", "del", receiver.address, "dev", "eth0")
        self._cuts = []

    def stop(self):
        for host in self.hosts:
            host.forget_names()
        for namespace in [*self._namespaces, self._switch]:
            subprocess.run(["ip", "netns", "del", namespace], capture_output=True)
