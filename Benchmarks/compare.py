#!/usr/bin/env python3
"""Compares a Dunlin node with Debian's mosquitto by processor time per delivered message, and prints a Markdown table.

Both brokers take every cell in turn (A B, A B, A B), each with a process of its own, and the table shows medians.
Only the Python standard library is needed, mosquitto, and a C compiler for mqload.

    Benchmarks/compare.py                      all cells, three rounds (about ten minutes)
    Benchmarks/compare.py --cells 'pair.*q1'   some of them
    Benchmarks/compare.py --pin                broker on core 0, load generator on core 1
"""

import argparse
import contextlib
import json
import pathlib
import re
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field

ROOT = pathlib.Path(__file__).resolve().parents[1]
MQLOAD = ROOT / ".build/mqload"

MOSQUITTO_CONFIGURATION = """\
listener {port} 127.0.0.1
allow_anonymous true
max_queued_messages 0
max_inflight_messages 100
set_tcp_nodelay true
"""


@dataclass
class Figure:
    """One line of the table: processor time (or memory) and the rate that belongs to it, by mqload's names."""

    cost: str = "cpu_us_per_unit"
    rate: str | None = "deliver_rate"
    title: str = ""


@dataclass
class Cell:
    name: str
    title: str
    arguments: str
    # At most this share of mosquitto's processor time; None where nothing is asked.
    target: float | None = None
    # Every message crosses a link between two nodes. mosquitto runs the cell on one broker for orientation.
    crosses_link: bool = False
    # Bytes of resident memory per idle connection are measured instead of messages.
    storm: bool = False
    figures: list[Figure] = field(default_factory=lambda: [Figure()])


def cells(seconds):
    many = f"-p 100 -d {seconds}"
    result = []
    for qos in (0, 1, 2):
        for size in (64, 256):
            target = 0.15 if qos < 2 else None
            tail = f"-q {qos} -s {size}"
            name = f"q{qos}-{size}"
            result.append(Cell(f"fanin-{name}", f"fanin, QoS {qos}, {size} B", f"fanin {many} -c 1 {tail}", target))
            result.append(Cell(f"pair-{name}", f"pair, QoS {qos}, {size} B", f"pair {many} {tail}", target))
    for qos in (0, 1, 2):
        arguments = f"fanout -p 1 -c 1000 -w 16 -d {seconds} -s 64 -q {qos}"
        result.append(Cell(f"fanout-q{qos}-64", f"fanout to 1000, QoS {qos}, 64 B", arguments, 0.2))
    result.append(
        Cell("open-q0", "open loop, pair, QoS 0, 256 B, 20 k/s", "pair -p 100 -q 0 -s 256 -r 20k -d 3 --warmup 50", 1.0)
    )
    result.append(
        Cell("open-q1", "open loop, pair, QoS 1, 256 B, 5 k/s", "pair -p 100 -q 1 -s 256 -r 5k -d 3 --warmup 10", 1.0)
    )
    for qos in (0, 1, 2):
        for scenario in ("pair -p 100", "fanin -p 100 -c 1"):
            kind = scenario.split()[0]
            arguments = f"{scenario} -q {qos} -s 176 --fill json -d {seconds} --settle 1000"
            title = f"{kind} across a link, QoS {qos}, 176 B JSON"
            result.append(Cell(f"link-{kind}-q{qos}", title, arguments, crosses_link=True))
    result.append(
        Cell("shared", "2 shared groups of 10, QoS 1, 64 B", "shared -p 10 -c 20 -g 2 -q 1 -s 64 -n 100k", 0.5)
    )
    result.append(
        Cell(
            "retained",
            "100,000 retained messages, QoS 1, 64 B",
            "retained -n 100k -q 1 -s 64",
            0.5,
            figures=[Figure(title="stored", rate="publish_rate"), Figure("retained_out_cpu_us", title="handed out")],
        )
    )
    result.append(
        Cell(
            "manysubs",
            "100,000 wildcard filters of 1000 clients",
            f"manysubs -c 1000 -m 100 -p 10 -s 64 -d {seconds}",
            0.5,
            figures=[Figure("subscribe_cpu_us", "subscribe_rate", "subscribe"), Figure(title="publish")],
        )
    )
    result.append(
        Cell("churn", "subscribe and unsubscribe in turn", "churn -c 100 -n 200k", 0.5, figures=[Figure(rate="ops_rate")])
    )
    idle = [Figure("rss_bytes_per_connection", "connect_rate")]
    result.append(Cell("storm", "10,000 idle connections", "storm -c 10k --hold 3", storm=True, figures=idle))
    return result


def free_port(address="127.0.0.1"):
    with socket.create_server((address, 0)) as server:
        return server.getsockname()[1]


def wait_for_listener(process, address, port):
    deadline = time.monotonic() + 10
    while True:
        if process.poll() is not None or time.monotonic() > deadline:
            sys.exit(f"the broker on {address}:{port} does not start")
        with contextlib.suppress(OSError), socket.create_connection((address, port), timeout=1):
            return
        time.sleep(0.01)


class Brokers:
    """One or two running brokers, as mqload is told of them."""

    def __init__(self, processes, hosts):
        self.processes = processes
        self.hosts = hosts

    def arguments(self, cell):
        pids = ["--pid", ",".join(str(process.pid) for process in self.processes)]
        if len(self.hosts) == 1:
            return ["-H", self.hosts[0], *pids]
        if "pair" not in cell.arguments:
            return ["--pub-host", self.hosts[0], "--sub-host", self.hosts[1], *pids]
        # Publishers and subscribers go through the lists by number: rotated lists force each message over a link.
        return ["--pub-host", ",".join(self.hosts), "--sub-host", ",".join(reversed(self.hosts)), *pids]

    def stop(self):
        for process in self.processes:
            process.terminate()
        for process in self.processes:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(10)
            process.kill()
            process.wait()


def start_mosquitto(options, _cell, directory):
    port = free_port()
    configuration = directory / "mosquitto.conf"
    configuration.write_text(MOSQUITTO_CONFIGURATION.format(port=port))
    command = [*options.pin_broker, options.mosquitto, "-c", str(configuration)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    wait_for_listener(process, "127.0.0.1", port)
    return Brokers([process], [f"127.0.0.1:{port}"])


def start_dunlin(options, cell, directory):
    processes, hosts, seed = [], [], []
    for number in range(1, 3 if cell.crosses_link else 2):
        command = [*options.pin_broker, options.node, "--bind", f"127.0.0.{number}", "--name", f"n{number}"]
        command += ["--mqtt-port", "0", "--gossip-port", "0", "--link-port", "0", *seed]
        with open(directory / f"n{number}.log", "wb") as log:
            process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, text=True)
        ready = dict(field.split("=", 1) for field in process.stdout.readline().split() if "=" in field)
        if "mqtt" not in ready:
            sys.exit(f"{options.node} does not start: {(directory / f'n{number}.log').read_text()}")
        processes.append(process)
        hosts.append(ready["mqtt"])
        seed = ["--join", ready.get("gossip", "")]
    return Brokers(processes, hosts)


def measure(options, start, cell):
    with tempfile.TemporaryDirectory() as directory:
        brokers = start(options, cell, pathlib.Path(directory))
        try:
            command = [*options.pin_load, str(MQLOAD), *cell.arguments.split(), *brokers.arguments(cell), "--json"]
            done = subprocess.run(command, capture_output=True, text=True)
            if done.returncode not in (0, 1):
                sys.exit(f"{' '.join(command)} failed:\n{done.stderr}")
            figures = json.loads(done.stdout)
        finally:
            brokers.stop()
    broken = [word for word in ("lost", "duplicates", "out_of_order", "closed") if figures.get(word)]
    if done.returncode != 0 or broken:
        options.failures.append(f"{' '.join(command)}\n{done.stderr}")
    return [(figures[figure.cost], figures[figure.rate] if figure.rate else None) for figure in cell.figures]


def verdict(cell, ours, theirs):
    if cell.target is None:
        return ""
    return f"≤ {cell.target:g}: {'met' if ours / theirs <= cell.target else '**missed**'}"


def rate(value):
    if value is None:
        return ""
    return f"{value / 1000:,.0f} k/s" if value >= 10_000 else f"{value / 1000:,.1f} k/s"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--node", default=str(ROOT / ".build/release/node"), help="the Dunlin binary")
    parser.add_argument("--mosquitto", default=shutil.which("mosquitto", path="/usr/sbin:/usr/local/sbin:/usr/bin"))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=1.5, help="publishing time of the closed loops")
    parser.add_argument("--cells", default="", metavar="REGEX", help="only the cells whose name matches")
    parser.add_argument("--pin", action="store_true", help="brokers on core 0, mqload on core 1")
    parser.add_argument("--list", action="store_true", help="names of the cells")
    options = parser.parse_args()
    options.failures = []
    options.pin_broker = ["taskset", "-c", "0"] if options.pin else []
    options.pin_load = ["taskset", "-c", "1"] if options.pin else []
    chosen = [cell for cell in cells(options.seconds) if re.search(options.cells, cell.name)]
    if options.list:
        print("\n".join(f"{cell.name:16} mqload {cell.arguments}" for cell in chosen))
        return
    if not options.mosquitto:
        sys.exit("no mosquitto: apt-get install mosquitto")
    MQLOAD.parent.mkdir(exist_ok=True)
    source = ROOT / "Benchmarks/mqload/mqload.c"
    subprocess.run(["cc", "-O2", "-o", MQLOAD, source, "-lpthread", "-lm"], check=True)

    peers = (start_dunlin, start_mosquitto)
    results = {(cell.name, start): [] for cell in chosen for start in peers}
    for number in range(options.rounds):
        for cell in chosen:
            for start in peers:
                print(f"round {number + 1}: {cell.name} {start.__name__.removeprefix('start_')}", file=sys.stderr)
                results[cell.name, start].append(measure(options, start, cell))

    def median(cell, start, line, column):
        values = [figures[line][column] for figures in results[cell.name, start]]
        return None if None in values else statistics.median(values)

    print("| cell | Dunlin, CPU µs | mosquitto, CPU µs | ratio | target | Dunlin, rate | mosquitto, rate |")
    print("|---|---|---|---|---|---|---|")
    for cell in chosen:
        for line, figure in enumerate(cell.figures):
            title = f"{cell.title}: {figure.title}" if figure.title else cell.title
            ours, theirs = (median(cell, start, line, 0) for start in peers)
            our_rate, their_rate = (rate(median(cell, start, line, 1)) for start in peers)
            if cell.storm:
                met = "met" if ours <= 10 * 1024 else "**missed**"
                print(
                    f"| {title} | {ours / 1024:.2f} KiB each | {theirs / 1024:.2f} KiB each | | ≤ 10 KiB: {met} "
                    f"| {our_rate} | {their_rate} |"
                )
            else:
                print(
                    f"| {title} | {ours:.2f} | {theirs:.2f} | {ours / theirs:.2f} | {verdict(cell, ours, theirs)} "
                    f"| {our_rate} | {their_rate} |"
                )
    if options.failures:
        print("These runs lost, doubled or reordered messages:", *options.failures, sep="\n\n", file=sys.stderr)
        sys.exit(1)


if __name__ == "__main__":
    main()
