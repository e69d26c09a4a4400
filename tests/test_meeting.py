"""How processes meet and notice one another's loss, by threads in their place."""

import concurrent.futures
import os
import socket
import threading
import time

import pytest

from jaxgan.run import ProcessError, meeting


@pytest.fixture
def address():
    with socket.create_server(("127.0.0.1", 0)) as server:
        return f"127.0.0.1:{server.getsockname()[1]}"


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(meeting, "PATIENCE", 3.0)
    monkeypatch.setattr(meeting, "SILENCE", 0.5)
    monkeypatch.setattr(meeting, "GRACE", 0.1)


def meet_all(address, *who):
    """What each of (how many there are, which one it is) comes to: its connections, or why not."""
    with concurrent.futures.ThreadPoolExecutor() as pool:
        found = [pool.submit(meeting.meet, address, *of) for of in who]
        return [of.exception() or of.result() for of in found]


def test_three_meet_and_the_port_is_free_for_jax(address):
    """Before them something else has come, which is passed over."""
    met = threading.Event()

    def stranger():
        for words in (b"GET / HTTP/1.1\r\n\r\n", b"[1]\n", b"x" * 2000, b""):
            while not met.is_set():
                try:
                    with socket.create_connection(address.split(":"), timeout=1) as connection:
                        connection.sendall(words)
                    break
                except OSError:
                    time.sleep(0.01)

    (other := threading.Thread(target=stranger)).start()
    time.sleep(0.05)
    leader, *others = meet_all(address, (3, 0), (3, 1), (3, 2))
    met.set()
    other.join()
    assert sorted(leader) == [1, 2]
    assert [[*of] for of in others] == [[0], [0]]
    leader[2].sendall(b"to two")
    assert others[1][0].recv(10) == b"to two"
    with socket.create_server(("127.0.0.1", int(address.split(":")[1]))):
        pass
    for connection in [*leader.values(), *(of[0] for of in others)]:
        connection.close()


@pytest.mark.parametrize(
    ("who", "said"),
    [
        ([(2, 0)], "process 1 has not come to {} within a minute"),
        ([(4, 0), (4, 2)], "process 1, 3 has not come to {} within a minute"),
        ([(3, 0), (3, 1), (3, 1)], "two processes say `process_id` 1; give each its own"),
        ([(3, 0), (2, 1)], "process 1 says `num_processes` 2, and process 0 3"),
        ([(2, 1)], r"`coordinator` {} cannot be reached \(.*refused\); is process 0 running there\?"),
    ],
)
def test_those_that_do_not_meet_are_all_told_why(address, who, said):
    for found in meet_all(address, *who):
        with pytest.raises(ProcessError, match=said.format(address)):
            raise found


def test_a_port_that_something_listens_at():
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"127.0.0.1:{server.getsockname()[1]}"
        with pytest.raises(ProcessError, match=f"`coordinator` {address} cannot be listened at"):
            meeting.meet(address, 2, 0)
        server.settimeout(5)
        with concurrent.futures.ThreadPoolExecutor() as pool:
            found = pool.submit(meeting.meet, address, 2, 1)
            server.accept()[0].close()
            with pytest.raises(ProcessError, match="has ended, or something else listens there"):
                found.result()


@pytest.fixture
def watched(monkeypatch, capfd):
    """The other end of the connection of process 0 to process 1, which it watches; and what it has said in the end."""
    ended, ends = threading.Event(), socket.socketpair()

    def leave(status):
        assert status == 1
        ended.set()
        threading.Event().wait()  # nothing comes after the end

    monkeypatch.setattr(os, "_exit", leave)
    monkeypatch.setattr(meeting.atexit, "register", lambda *of: None)
    meeting.watch({1: ends[0]}, 0)

    def said(seconds):
        ended.wait(seconds)
        return capfd.readouterr().err

    yield ends[1], said
    for end in ends:
        end.close()


def test_one_that_ends(watched):
    other, said = watched
    other.close()
    assert said(5).startswith("error: process 0 cannot go on: process 1 has ended; start all of them again")


def test_one_that_is_silent(watched):
    _, said = watched
    begin = time.monotonic()
    assert "process 1 has not been heard of for" in said(5)
    assert time.monotonic() - begin > 0.5


def test_one_that_lives_and_says_farewell(watched):
    other, said = watched
    for _ in range(20):
        other.sendall(meeting.ALIVE)
        time.sleep(0.05)
    assert not said(0)
    assert set(other.recv(1000)) == set(meeting.ALIVE)  # it says so, too
    other.sendall(meeting.ALIVE + meeting.FAREWELL)
    other.close()
    assert not said(1)
