"""Checkpoints: what comes back is what was saved, or one clear error."""

import contextlib
import dataclasses
import glob
import os
import re
import shutil
import signal
import time
from unittest import mock

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from common import small_gan
from flax import struct
from hypothesis import given
from hypothesis import strategies as st

import jaxgan
from jaxgan.randomness import is_key
from jaxgan.run import CheckpointError, checkpoint, plain_paths
from jaxgan.run.arrays import state_sha256


@pytest.fixture
def state():
    params = {"kernel": jax.random.normal(jax.random.key(1), (300, 200)), "none": {}}
    return {
        "step": jnp.int32(7),
        "key": jax.random.key(3),
        "params": params,
        "opt_state": optax.adam(1e-3).init(params),
    }


@pytest.fixture
def like(state):
    return jax.tree.map(lambda x: jax.random.key(99) if is_key(x) else jnp.zeros_like(x), state)


def save(folder, states, keep=None):
    folder = checkpoint.open_folder(folder, keep)
    for step, state in states.items():
        checkpoint.save(folder, step, state)
    checkpoint.finish(folder, state)
    folder.close()


def test_reading_writes_nothing_out_and_leaves_signals_as_they_were(tmp_path, state, like):
    """Where SIGINT's handler is asyncio's, Python 3.11 makes a text of all that is read."""
    save(tmp_path, {5: state})
    written = []
    with contextlib.ExitStack() as stack:
        stack.callback(signal.signal, signal.SIGINT, signal.signal(signal.SIGINT, signal.default_int_handler))
        stack.enter_context(np.printoptions(override_repr=lambda array: written.append(array.shape) or "an array"))
        assert state_sha256(restore(tmp_path, like)) == state_sha256(state)
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    assert not written


def test_a_state_that_has_since_got_a_field_with_nothing_in_it_is_read(tmp_path):
    """As the memory, where a GAN has none; what it holds is compared with its digest still."""
    state = jaxgan.init(small_gan(), jax.random.key(0))
    fields = [field.name for field in dataclasses.fields(state) if field.name != "memory"]
    before = struct.dataclass(type("GANState", (), {"__annotations__": dict.fromkeys(fields, object)}))  # as it was
    save(tmp_path, {3: before(**{name: getattr(state, name) for name in fields})})
    assert state_sha256(restore(tmp_path, state)) == state_sha256(state)
    with (
        contextlib.closing(checkpoint.open_folder(tmp_path)) as checkpoints,
        mock.patch.object(checkpoint, "arranged", lambda arrays, like: jax.tree.map(np.zeros_like, like)),
        pytest.raises(CheckpointError, match="it is damaged or of another version"),
    ):
        checkpoint.restore(checkpoints, state)


def truncate(folder):
    """Damages the largest file of a checkpoint."""
    os.truncate(max(folder.rglob("*"), key=lambda p: p.stat().st_size), 100)


def restore(folder, like):
    with contextlib.closing(checkpoint.open_folder(folder)) as checkpoints:
        return checkpoint.restore(checkpoints, like)


def test_round_trip_of_every_array_and_the_typed_key(tmp_path, state, like):
    """Also of a key of another kind, and of a state on several devices, which comes back for any number."""
    everywhere = jax.sharding.NamedSharding(jax.sharding.Mesh(jax.devices(), ("batch",)), jax.sharding.PartitionSpec())
    rbg = {"key": jax.random.key(3, impl="rbg")}
    for i, (there, here) in enumerate(((state, like), (jax.device_put(state, everywhere), like), (rbg, rbg))):
        save(tmp_path / str(i), {5: there})
        got = restore(tmp_path / str(i), here)
        assert state_sha256(got) == state_sha256(there)
        assert jax.tree.structure(got) == jax.tree.structure(there)
        assert got["key"].dtype == there["key"].dtype
        np.testing.assert_array_equal(jax.random.uniform(got["key"]), jax.random.uniform(there["key"]))
        assert all(len(x.sharding.device_set) == 1 for x in jax.tree.leaves(got))


def test_saving_is_not_disturbed_by_what_happens_to_the_state_afterwards(tmp_path, state, like):
    """As in training: the next step overwrites the buffers while they are still being written."""
    expected = state_sha256(state)
    folder = checkpoint.open_folder(tmp_path)
    checkpoint.save(folder, 1, state)
    overwrite = jax.jit(lambda x: jax.tree.map(lambda a: a * 0, x), donate_argnums=0)
    overwrite({"params": state["params"], "opt_state": state["opt_state"]})
    folder.close()
    assert state_sha256(restore(tmp_path, like)) == expected


def test_a_checkpoint_of_a_newer_format_is_told_apart(tmp_path, state, like, monkeypatch):
    """And one from before there were numbers is of format 1."""
    monkeypatch.setattr(checkpoint, "FORMAT", 2)
    save(tmp_path, {5: state})
    monkeypatch.undo()
    with pytest.raises(CheckpointError, match=r"5 is of a newer version, whose format is 2; upgrade jaxgan"):
        restore(tmp_path, like)
    (digest,) = (tmp_path / "5" / "digest").glob("metadata")
    digest.write_text(digest.read_text().replace('"format": 2, ', ""))
    assert "format" not in digest.read_text()
    assert state_sha256(restore(tmp_path, like)) == state_sha256(state)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize(
    "damage", ["flipped", *(pytest.param(d, marks=pytest.mark.slow) for d in ("truncated", "emptied", "removed"))]
)
def test_every_damaged_file_is_either_harmless_or_found_out(tmp_path, state, like, damage):
    """Each file of a checkpoint in turn: never is anything else restored than what was saved."""
    save(tmp_path / "whole", {5: state, 6: state})
    found_out = {}
    files = sorted(p for p in (tmp_path / "whole" / "6").rglob("*") if p.is_file())
    assert len(files) > 5
    for i, file in enumerate(files):
        copy = tmp_path / f"copy{i}"
        shutil.copytree(tmp_path / "whole", copy)
        target = copy / file.relative_to(tmp_path / "whole")
        content = bytearray(target.read_bytes())
        if damage == "removed":
            target.unlink()
        elif damage == "flipped" and content:
            content[len(content) // 2] ^= 0x55
            target.write_bytes(content)
        else:
            target.write_bytes(content[: len(content) // 2 if damage == "truncated" else 0])
        try:
            assert state_sha256(restore(copy, like)) == state_sha256(state)
        except CheckpointError as error:
            found_out[file] = str(error).replace(str(copy), "COPY")
    largest = max(files, key=lambda f: f.stat().st_size)
    assert largest in found_out
    assert len(found_out) >= 3
    assert all(
        "COPY/6" in said and "goes on from the newest whole one" in said and "\n" not in said
        for said in found_out.values()
    )


class Gen(nn.Module):
    """A generator of so many layers of such a width; its arrays are of `param_dtype`."""

    width: int = 16
    layers: int = 1
    param_dtype: str = "float32"
    classes: int = 0

    @nn.compact
    def __call__(self, z, labels, context):
        if self.classes:
            z = z + nn.Embed(self.classes, z.shape[-1])(labels)
        for _ in range(self.layers):
            z = nn.Dense(self.width, param_dtype=self.param_dtype)(z)
        return nn.Dense(16)(z).reshape(-1, 4, 4, 1)


OTHERS = {
    "width": ({"gen": Gen(8)}, r"gen.params\['Dense_0'\]\['bias'\] is \[16\] there, \[8\] here \(the first of 12 that"),
    "depth": ({"gen": Gen(layers=2)}, r"gen.params\['Dense_1'\]\['kernel'\] is \[16, 16\] there|only here"),
    "optimiser": ({"disc_optimizer": optax.sgd(0.1)}, r": disc.opt_state\['0'\]\['count'\] is only there"),
    "type": (
        {"gen": Gen(param_dtype="bfloat16")},
        r": gen.params\['Dense_0'\]\['\w+'\] is float32 there, bfloat16",
    ),
    "classes": ({"gen": Gen(classes=3), "classes": 3}, r": gen.params\['Embed_0'\]\['embedding'\] is only here"),
}


@pytest.mark.parametrize("case", OTHERS)
@pytest.mark.parametrize("swapped", [False, True])
def test_a_checkpoint_of_another_gan_is_named_and_never_called_damaged(tmp_path, case, swapped):
    """Whichever of the two is there; whatever was advised about damage would put good checkpoints away."""
    changes, message = OTHERS[case]
    usual = small_gan(norm=False, gen=Gen(), gen_optimizer=optax.adam(0.1), disc_optimizer=optax.adam(0.1))
    gans = (usual, dataclasses.replace(usual, **changes))
    there, here = (jaxgan.init(gan, jax.random.key(0)) for gan in (gans[::-1] if swapped else gans))
    save(tmp_path, {4: there, 5: there})
    with pytest.raises(CheckpointError, match=f"checkpoint {tmp_path}/5 does not fit the recipe: ") as error:
        restore(tmp_path, here)
    text = str(error.value)
    assert text.endswith("use the recipe as it was, or name another `workdir`")
    assert not re.search("damaged|whole|\n", text)
    if not swapped:
        assert re.search(message, text)
    assert state_sha256(restore(tmp_path, there)) == state_sha256(there)


def test_advice_names_a_checkpoint_that_can_be_read_and_loses_nothing(tmp_path, state, like):
    with pytest.raises(CheckpointError, match="holds no checkpoint"):
        restore(tmp_path, like)
    save(tmp_path, dict.fromkeys((1, 2, 3), state))
    truncate(tmp_path / "2")
    truncate(tmp_path / "3")
    with pytest.raises(CheckpointError, match=r"/3 cannot be read.*a run goes on from the newest whole one"):
        restore(tmp_path, like)
    truncate(tmp_path / "1")
    with (
        contextlib.closing(checkpoint.open_folder(tmp_path)) as folder,
        pytest.raises(CheckpointError, match=r"no checkpoint can be read: damaged, or .*; put back a copy of it"),
    ):
        checkpoint.restore_whole(folder, like)
    for step in "12":
        shutil.rmtree(tmp_path / step)
    only = r"/3 cannot be read: it is damaged or of another version; put back a copy of it, or train in another"
    with pytest.raises(CheckpointError, match=only):
        restore(tmp_path, like)


def test_a_checkpoint_that_may_not_be_read_is_not_damaged(tmp_path, monkeypatch, state, like):
    save(tmp_path, {4: state, 5: state})

    for error, why in ((OSError(13, "Permission denied"), "Permission denied"), (MemoryError(), "not enough memory")):
        fail = mock.Mock(side_effect=error)
        monkeypatch.setattr(checkpoint.ocp.CheckpointManager, "restore", fail)
        with pytest.raises(CheckpointError, match=why) as raised:
            restore(tmp_path, like)
        assert "whole" not in str(raised.value)


def test_the_digest_sees_every_bit_and_every_name(state):
    digests = {state_sha256(state)}
    for change in (
        {"step": jnp.int32(8)},
        {"step": jnp.int16(7)},
        {"key": jax.random.key(4)},
        {"params": {**state["params"], "kernel": jnp.nextafter(state["params"]["kernel"], 1.0)}},
        {"params": {"renamed": state["params"]["kernel"], "none": {}}},
        {"params": {**state["params"], "kernel": state["params"]["kernel"].reshape(200, 300)}},
    ):
        digests.add(state_sha256({**state, **change}))
    assert len(digests) == 7


def test_reading_leaves_alone_what_a_run_is_writing(tmp_path, state, like):
    save(tmp_path, {5: state})
    shutil.copytree(tmp_path / "5", tmp_path / "6.orbax-checkpoint-tmp")  # half written
    assert state_sha256(checkpoint.read(tmp_path, like)) == state_sha256(state)
    assert (tmp_path / "6.orbax-checkpoint-tmp").is_dir()
    checkpoint.open_folder(tmp_path).close()  # the run's own clears it away, in the background
    deadline = time.monotonic() + 30
    while (tmp_path / "6.orbax-checkpoint-tmp").exists():
        assert time.monotonic() < deadline
        time.sleep(0.01)
    assert state_sha256(restore(tmp_path, like)) == state_sha256(state)


PATHS = ["run[1]", "[!a]/[b-c]", "a*b?", "{c},d", "e#f%20g&h=i", " s p ", "new\nline", "漢ü", "~", "back\\slash"]
PATHS += ["q'\"$HOME;|"]


@pytest.mark.parametrize("name", [*PATHS, b"\xff\xfe".decode(errors="surrogateescape")])
def test_any_path_will_do(tmp_path, monkeypatch, name):
    """Orbax takes a path for a glob pattern; the links that it is given instead are put away."""
    (tmp_path / "tmp").mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "tmp"))
    state = {"x": jnp.arange(3.0), "key": jax.random.key(1)}
    save(tmp_path / name / "checkpoints", dict.fromkeys((1, 2, 3), state), keep=2)
    assert sorted(p.name for p in (tmp_path / name / "checkpoints").iterdir()) == ["2", "3"]
    assert state_sha256(restore(tmp_path / name / "checkpoints", state)) == state_sha256(state)
    assert state_sha256(checkpoint.read(tmp_path / name / "checkpoints", state)) == state_sha256(state)
    assert list((tmp_path / "tmp").iterdir()) == []


@given(st.text(st.characters(exclude_characters="/\0"), min_size=1, max_size=20).filter(lambda s: s not in (".", "..")))
def test_only_plain_paths_are_handed_on_as_they_are(name):
    """No character of a glob, of a URL's escapes, or outside ASCII."""
    if plain_paths.PLAIN.fullmatch(name):
        assert name.isascii()
        assert glob.escape(name) == name
        assert not set(name) & set("\\#%~\n")


@pytest.mark.parametrize("when", ["the next save", "the end"])
def test_what_is_saved_is_read_before_an_older_one_goes(tmp_path, state, when):
    with contextlib.closing(checkpoint.open_folder(tmp_path, keep=1)) as folder:
        checkpoint.save(folder, 1, state)
        checkpoint.save(folder, 2, state)
        folder.manager.wait_until_finished()
        truncate(tmp_path / "2")
        with pytest.raises(CheckpointError, match=r"/2 cannot be read.*a run goes on from the newest whole one"):
            checkpoint.save(folder, 3, state) if when == "the next save" else checkpoint.finish(folder, state)
        assert sorted(p.name for p in tmp_path.iterdir()) == ["1", "2"]
