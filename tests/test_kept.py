"""A run of version 0.1.0 that is kept beside the tests: every later version goes on with it, and samples it."""

import shutil
from pathlib import Path

import jax
import numpy as np
import pytest
from small_run import metrics_of

import jaxgan
from jaxgan import recipes
from jaxgan.run import Options, run

KEPT = Path(__file__).parent / "kept"
# What the version that wrote it came to at step 30: to rounding, as other versions of JAX and other CPUs add otherwise.
AT_30 = {"loss_gen": 0.918775, "loss_disc": 0.586857, "logit_real": 0.182437, "logit_fake": -0.17148}


@pytest.mark.slow
def test_a_kept_run_is_read_and_sampled():
    """What is read is compared with its digest."""
    gan, state = jaxgan.load(KEPT / "run", recipe=KEPT / "tiny.py")
    assert int(state.step) == 20
    images = jaxgan.sample(gan, state, jax.random.key(0), 20)
    assert (images.shape, images.dtype) == ((20, 8, 8, 1), np.uint8)
    assert images.std() > 10


@pytest.mark.slow
def test_a_kept_run_goes_on(tmp_path):
    shutil.copytree(KEPT / "run", workdir := tmp_path / "run")
    summary = run(recipes.get(str(KEPT / "tiny.py")).replace(steps=30), workdir, 0, Options(devices=1, log_every=5))
    assert summary["steps_resumed_from"] == 20
    lines = metrics_of(workdir)
    assert [line["step"] for line in lines] == [1, 5, 10, 15, 20, 25, 30]
    assert {name: lines[-1][name] for name in AT_30} == pytest.approx(AT_30, rel=1e-3)
