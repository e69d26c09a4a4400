"""The signals that ask a run to stop, and the end of processes whose parent is gone."""

import contextlib
import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterator
from multiprocessing import connection
from typing import Any

import jax
from jax.experimental import multihost_utils


@contextlib.contextmanager
def stop_signals() -> Iterator[Callable[[int], bool]]:
    """Within this block the first SIGINT, SIGTERM or SIGHUP asks to stop; a second one acts as usual.

    A signal that is ignored, as nohup ignores SIGHUP, stays so. Several processes must stop at one step: JAX's
    preemption service sees to that, and handles SIGTERM itself.

    Yields:
      A function that says whether to stop after a turn, given its number: several processes agree on the next turn that
      none of them has begun.
    """
    several = jax.process_count() > 1
    if threading.current_thread() is not threading.main_thread():
        yield lambda turn: False  # signals are the main thread's
        return
    stop = threading.Event()
    numbers = [signal.SIGINT, signal.SIGHUP] if several else [signal.SIGINT, signal.SIGHUP, signal.SIGTERM]
    usual = {number: signal.getsignal(number) for number in numbers}
    usual = {number: handler for number, handler in usual.items() if handler not in (signal.SIG_IGN, None)}

    def restore() -> None:
        for number, handler in usual.items():
            signal.signal(number, handler)

    def request(*_: Any) -> None:
        restore()
        stop.set()
        if several:
            os.kill(os.getpid(), signal.SIGTERM)

    for number in usual:
        signal.signal(number, request)
    try:
        yield multihost_utils.reached_preemption_sync_point if several else lambda turn: stop.is_set()
    finally:
        restore()


@contextlib.contextmanager
def interrupted_as_usual() -> Iterator[None]:
    """Within this block asyncio sets no handler of its own for SIGINT, which interrupts as it always does.

    To see that the handler is still its own, Python 3.11 writes out the task and all that it has read, which takes
    longer than to read a checkpoint.
    """
    of_main_thread = threading.current_thread() is threading.main_thread()
    if not of_main_thread or signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
        yield
        return
    signal.signal(signal.SIGINT, lambda *args: signal.default_int_handler(*args))  # which asyncio does not replace
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def end_with_parent() -> None:
    """In a process that another has started: it ends when that one is gone, however that was ended."""
    if parent := multiprocessing.parent_process():
        watch = [parent.sentinel]
        threading.Thread(target=lambda: (connection.wait(watch), os._exit(1)), daemon=True).start()
