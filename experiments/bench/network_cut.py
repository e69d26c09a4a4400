"""Two processes of a run whose network is cut: `python -m experiments.bench.network_cut --seconds 10 45`.

Each process is in a network namespace of its own, and a pair of interfaces joins them. While they train it is taken
down for some seconds. Then they either go on, or have ended with a line each. As the superuser, on Linux.
"""

import contextlib
import dataclasses
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from jaxgan.commands.cli import fail, parse, run_script
from jaxgan.run.metrics import last_and_rate
from jaxgan.run.screen import say

NAMES, ADDRESSES = ("jaxgan-0", "jaxgan-1"), ("10.213.0.1", "10.213.0.2")
LATER = 40  # seconds after the network is there again, in which a process that lost the other ends


@dataclasses.dataclass(frozen=True)
class NetworkCut:
    """Cuts the network between two processes of a run, and says what becomes of them."""

    seconds: tuple[int, ...] = (10, 45)
    """For how long, each with processes of its own."""


def ip(*words: str) -> None:
    """Calls `ip`; a line says where that fails."""
    done = subprocess.run(["ip", *words], check=False, capture_output=True, text=True)
    if done.returncode:
        fail(f"ip {' '.join(words)}: {done.stderr.strip()}; this needs Linux and its superuser", 1)


@contextlib.contextmanager
def namespaces() -> Iterator[None]:
    """Makes both, joined."""
    with contextlib.ExitStack() as stack:
        for name in NAMES:
            ip("netns", "add", name)
            stack.callback(ip, "netns", "del", name)
        ip("link", "add", "end", "netns", NAMES[0], "type", "veth", "peer", "end", "netns", NAMES[1])
        for name, address in zip(NAMES, ADDRESSES, strict=True):
            hosts = Path("/etc/netns") / name / "hosts"  # which `ip netns exec` puts in the place of /etc/hosts
            hosts.parent.mkdir(parents=True)
            stack.callback(shutil.rmtree, hosts.parent)
            hosts.write_text(f"127.0.0.1 localhost\n{address} {socket.gethostname()}\n")  # where JAX will listen
            ip("-n", name, "addr", "add", f"{address}/24", "dev", "end")
            ip("-n", name, "link", "set", "lo", "up")
            ip("-n", name, "link", "set", "end", "up")
        yield


def cut(seconds: int, folder: Path) -> None:
    """Trains in both, cuts for so long, and says how it ended."""
    workdir = folder / f"run-{seconds}"
    train = ["experiments.train", "tf2_gan", "--data", "digits", "--steps", "1000000", "--evaluate-every", "0"]
    train += ["--log-every", "5", "--workdir", str(workdir), "--coordinator", f"{ADDRESSES[0]}:9999"]
    logs, processes = [folder / f"{seconds}-{i}" for i in (0, 1)], []
    try:
        for i, name in enumerate(NAMES):
            command = ["ip", "netns", "exec", name, sys.executable, "-m", *train, "--num-processes", "2"]
            with logs[i].open("w") as log:
                environment = {**os.environ, "JAX_NUM_CPU_DEVICES": "1"}
                command += ["--process-id", str(i)]
                processes.append(subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=log, env=environment))
        while _step(workdir) < 50:
            if any(process.poll() is not None for process in processes):
                fail(f"a process has ended: {' '.join(log.read_text() for log in logs)}", 1)
            time.sleep(0.5)
        ip("-n", NAMES[1], "link", "set", "end", "down")
        begin, ended = time.monotonic(), {}
        while (passed := time.monotonic() - begin) < seconds + LATER:
            if passed > seconds:
                ip("-n", NAMES[1], "link", "set", "end", "up")
            for i, process in enumerate(processes):
                if i not in ended and process.poll() is not None:
                    ended[i] = f"process {i} ended after {passed:.0f} s with status {process.returncode}: "
                    ended[i] += logs[i].read_text().strip()
            time.sleep(0.5)
        before = _step(workdir)
        time.sleep(5)
        go_on = f"both go on, at update {_step(workdir):,}" if _step(workdir) > before else "neither ended nor goes on"
        say("\n".join([f"cut for {seconds} s:", *(ended.values() or [go_on])]))
    finally:
        for process in processes:
            process.kill()
            process.wait()


def _step(workdir: Path) -> int:
    return last_and_rate(workdir)[0].get("step", 0)


def main(args: list[str] | None = None) -> None:
    """Cuts for each of the lengths in turn."""
    flags = parse(NetworkCut, "experiments.bench.network_cut", args)
    with namespaces(), tempfile.TemporaryDirectory() as folder:
        for seconds in flags.seconds:
            cut(seconds, Path(folder))


if __name__ == "__main__":
    run_script(main)
