"""A real Serf agent."""

import json
import shutil
import socket
import subprocess

from dunlin import PATIENCE, require, unique, until


class SerfAgent:
    """On a host of a `Network` with that host's prefix, at the usual ports; else at free ones of this machine."""

    def __init__(self, address, log_path, join=None, flags=(), prefix=()):
        require(shutil.which("serf"), "no serf on this machine")
        self.name = unique("agent")
        self.log_path = log_path
        self._prefix = list(prefix)
        ports = {7373, 7946} if prefix else set()
        while len(ports) < 2:
            ports.add(_free_port(address))
        self._rpc, self.address = (f"{address}:{port}" for port in ports)
        command = [
            *self._prefix,
            "serf",
            "agent",
            "-profile=local",
            f"-node={self.name}",
            f"-bind={self.address}",
            f"-rpc-addr={self._rpc}",
            *flags,
        ]
        if join:
            command.append(f"-retry-join={join}")
        with open(log_path, "ab") as log:
            self._process = subprocess.Popen(command, stdout=log, stderr=log, stdin=subprocess.DEVNULL)
        until(lambda: self._ask("info").returncode == 0, f"the agent answers; see {log_path}")

    def keys(self, *arguments):
        """`serf keys`: its exit status, 0 if all members did it, and what it printed."""
        done = self._ask("keys", *arguments)
        return done.returncode, done.stdout + done.stderr

    def log(self):
        return self.log_path.read_text(errors="replace")

    def _ask(self, command, *arguments):
        words = [*self._prefix, "serf", command, f"-rpc-addr={self._rpc}", *arguments]
        return subprocess.run(words, capture_output=True, text=True, timeout=PATIENCE)

    def members(self):
        """Name → member, as `serf members` lists them."""
        answer = self._ask("members", "-format=json")
        return {member["name"]: member for member in json.loads(answer.stdout)["members"]}

    def wait_for_status(self, node, status):
        return until(
            lambda: (member := self.members().get(node.name)) and member["status"] == status and member,
            f"serf lists {node.name} as {status}: {self.members()}",
        )

    def leave(self):
        self._ask("leave")

    def kill(self):
        self._process.kill()
        self._process.wait()


def _free_port(address):
    """A port that is free for TCP and UDP alike."""
    with socket.create_server((address, 0)) as server:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as datagram:
            datagram.bind((address, server.getsockname()[1]))
            return server.getsockname()[1]
