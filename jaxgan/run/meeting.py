"""How the processes of a run meet before JAX connects them, and notice that one of them is lost.

JAX would end a process with frames of C++ where another never comes, comes twice or falls silent. So each first
connects to process 0 by itself, at the address where JAX's own service will listen, and says who it is. The connections
are kept: over them each says, ten times in a `SILENCE`, that it is alive.
"""

import atexit
import contextlib
import json
import os
import select
import socket
import threading
import time
from collections.abc import Mapping
from typing import Any

from jaxgan.run.errors import ProcessError
from jaxgan.run.screen import say

PATIENCE = 60.0  # seconds, in which all have to come
SILENCE = 25.0  # seconds, which a network may be cut for; JAX waits for longer
GRACE = 5.0  # seconds that a process has to end by itself, with a better word, where it has noticed, too
ALIVE, FAREWELL = b".", b"!"


def meet(coordinator: str, count: int, me: int) -> dict[int, socket.socket]:
    """Waits until all processes of a run have come.

    Args:
      coordinator: HOST:PORT of process 0, where nothing listens yet.
      count: how many processes there are.
      me: which one this is, from 0.

    Returns:
      The connections: of process 0 one to each other, by its number; of the others one to process 0.

    Raises:
      ProcessError: they do not come in time, one comes twice, or they are said to be of other numbers.
    """
    host, _, port = coordinator.rpartition(":")
    address = host, int(port)
    return {0: _call(coordinator, address, count, me)} if me else _receive(coordinator, address, count)


def _receive(coordinator: str, address: tuple[str, int], count: int) -> dict[int, socket.socket]:
    """Process 0's part."""
    found: dict[int, socket.socket] = {}
    try:
        socket.getaddrinfo(*address)
        server = socket.create_server(("", address[1]))
    except OSError as error:
        raise ProcessError(f"`coordinator` {coordinator} cannot be listened at ({error}); choose another") from error
    say(f"waiting for {count - 1} more processes at {coordinator}")
    problem, deadline = None, time.monotonic() + PATIENCE
    with contextlib.ExitStack() as failed:  # which closes what was opened
        with server:
            while len(found) < count - 1 and not problem:
                server.settimeout(max(0.01, deadline - time.monotonic()))
                try:
                    connection = failed.enter_context(server.accept()[0])
                except TimeoutError:
                    missing = ", ".join(str(i) for i in range(1, count) if i not in found)
                    problem = f"process {missing} has not come to {coordinator} within a minute; start all again"
                    break
                try:
                    who = _read(connection)
                except (OSError, ValueError):  # somebody else, who does not know how to speak
                    connection.close()
                    continue
                if who.get("count") != count:
                    problem = f"process {who.get('me')} says `num_processes` {who.get('count')}, and process 0 {count}"
                elif who.get("me") in found:
                    problem = f"two processes say `process_id` {who['me']}; give each its own"
                if problem:
                    _write(connection, {"problem": problem})
                else:
                    found[who["me"]] = connection
        for connection in found.values():
            _write(connection, {"problem": problem})
        if problem:
            raise ProcessError(problem)
        failed.pop_all()
    return found


def _call(coordinator: str, address: tuple[str, int], count: int, me: int) -> socket.socket:
    """The part of the others."""
    deadline = time.monotonic() + PATIENCE
    while True:
        try:
            connection = socket.create_connection(address, timeout=5)
            break
        except OSError as error:
            if isinstance(error, socket.gaierror) or time.monotonic() > deadline:
                raise ProcessError(
                    f"`coordinator` {coordinator} cannot be reached ({error}); is process 0 running there?"
                ) from error
            time.sleep(0.2)
    with contextlib.ExitStack() as failed:
        failed.enter_context(connection).settimeout(PATIENCE + GRACE)
        try:
            _write(connection, {"me": me, "count": count})
            problem = _read(connection).get("problem")
        except (OSError, ValueError) as error:
            raise ProcessError(f"process 0 at {coordinator} has ended, or something else listens there") from error
        if problem:
            raise ProcessError(problem)
        failed.pop_all()
    return connection


def _write(connection: socket.socket, value: Mapping[str, Any]) -> None:
    with contextlib.suppress(OSError):  # it has ended; those who read will notice
        connection.sendall(json.dumps(value).encode() + b"\n")


def _read(connection: socket.socket) -> dict[str, Any]:
    """A short line, an object of JSON."""
    connection.settimeout(connection.gettimeout() or 5)
    text = b""
    while not text.endswith(b"\n"):
        if not (more := connection.recv(1)) or len(text) > 1000:
            raise ValueError("not one of a run's processes")
        text += more
    found = json.loads(text)
    if not isinstance(found, dict):
        raise ValueError("not one of a run's processes")
    return found


def watch(connections: Mapping[int, socket.socket], me: int) -> None:
    """Ends this process, from a thread, with one line and status 1 where another is lost; until it ends by itself."""
    for connection in connections.values():
        connection.setblocking(False)
    threading.Thread(target=_watch, args=(dict(connections), me), daemon=True).start()
    atexit.register(_say_to_all, connections, FAREWELL)


def _say_to_all(connections: Mapping[int, socket.socket], what: bytes) -> None:
    for connection in connections.values():
        with contextlib.suppress(OSError):
            connection.send(what)


def _watch(connections: dict[int, socket.socket], me: int) -> None:
    before = time.monotonic()
    heard = dict.fromkeys(connections, before)
    while connections:
        _say_to_all(connections, ALIVE)
        time.sleep(SILENCE / 10)
        now = time.monotonic()
        if now - before > SILENCE / 2:  # this process has been stopped itself, and cannot tell who was silent
            heard = dict.fromkeys(connections, now)
        before = now
        for connection in select.select(list(connections.values()), [], [], 0)[0]:
            process = next(i for i, other in connections.items() if other is connection)
            try:
                said = connection.recv(1000)
            except OSError:
                said = b""
            heard[process] = now
            if FAREWELL in said:
                del connections[process]
            elif not said:
                _end(process, me, "has ended")
        for process in connections:
            if now - heard[process] > SILENCE:
                _end(process, me, f"has not been heard of for {SILENCE:.0f} seconds")


def _end(process: int, me: int, what: str) -> None:
    time.sleep(GRACE)
    say(
        f"error: process {me} cannot go on: process {process} {what}; start all of them again, and they go on from the "
        "newest checkpoint",
        "stderr",
    )
    os._exit(1)
