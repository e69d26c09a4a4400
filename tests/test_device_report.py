"""The report of the accelerator at hand: its flags, what it reads in a trace, and the whole of it on the CPU."""

import json
import sys
from types import SimpleNamespace

import pytest

from experiments.bench import device_report, on_device
from jaxgan.benchmark import timing


@pytest.mark.parametrize(
    ("flags", "named"),
    [
        (["nonesuch"], "nonesuch"),
        (["--seconds", "0"], "--seconds"),
        (["--seconds", "nan"], "--seconds"),
        (["--rounds", "0"], "--rounds"),
        (["--json", "report.txt"], "report.txt"),
    ],
)
def test_wrong_input_is_one_line_before_anything_starts(monkeypatch, capfd, flags, named):
    monkeypatch.setattr("os._exit", sys.exit)
    monkeypatch.setattr(timing, "workers_at_once", lambda *_: pytest.fail("it starts"))
    monkeypatch.setattr(sys, "argv", ["device_report", *flags])
    with pytest.raises(SystemExit) as end:
        device_report.main()
    assert end.value.code == 2
    err = capfd.readouterr().err
    assert named in err
    assert len(err.splitlines()) == 1


def _line(name, *milliseconds):
    return SimpleNamespace(name=name, events=[SimpleNamespace(duration_ns=1e6 * ms) for ms in milliseconds])


def test_counts_the_launches_of_one_gpu():
    # As ProfileData has it: the streams of a GPU, lines derived from them, the host and a second GPU.
    planes = [
        SimpleNamespace(name="/host:CPU", lines=[_line("python", 9.0)]),
        SimpleNamespace(
            name="/device:GPU:0",
            lines=[
                _line("Stream #13(Compute)", 0.5, 0.25),
                _line("Stream #14(MemcpyD2D)", 0.25),
                _line("XLA Ops", 7.0),
            ],
        ),
        SimpleNamespace(name="/device:GPU:1", lines=[_line("Stream #13(Compute)", 5.0)]),
    ]
    assert on_device.launches_run(SimpleNamespace(planes=planes)) == {"launches_run": 3, "busy_ms": 1.0}
    assert on_device.launches_run(SimpleNamespace(planes=planes[:1])) == {}


def _ready(milliseconds):
    return lambda count: None, {"milliseconds": milliseconds}, lambda: 10 * milliseconds


def _broken():
    raise ValueError("no such device")


def test_workers_at_once_keep_their_order_and_say_what_failed():
    with timing.workers_at_once({"a": (_ready, 3), "b": (_broken,), "c": (_ready, 5)}) as found:
        assert list(found) == ["a", "b", "c"]
        assert found["a"].facts == {"milliseconds": 3}
        assert isinstance(found["b"], timing.Failed)
        assert "no such device" in str(found["b"])
        assert timing.end(found["c"]) == 50
        assert timing.end(found["a"]) == 30


@pytest.mark.slow
def test_reports_a_recipe_on_the_cpu(monkeypatch, capfd, tmp_path):
    path = tmp_path / "report.json"
    argv = ["device_report", "tf2_gan", "--rounds", "1", "--seconds", "0.1", "--json", str(path)]
    monkeypatch.setattr(sys, "argv", argv)
    device_report.main()
    (result,) = json.loads(path.read_text())
    assert result["failed"] == {}
    for variant in ("shared", "alternating", "same bits"):
        assert result[variant]["ms"] > 0
        assert result[variant]["peak_bytes"] > result[variant]["working_bytes"]
    assert result["alternating"]["launches"] > result["shared"]["launches"]
    row = capfd.readouterr().out.splitlines()[-1]
    assert row.startswith("| `tf2_gan` |")
