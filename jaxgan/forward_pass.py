"""The forward pass of both players, and both losses. All else in a step differentiates it.

A game is a function of a `Pass` that gives `Losses`. `adversarial` is the usual one; a game of one's own says what it
feeds to which player, and what the losses are:

    def bigan(p):
        fake, code = p.gen(p.z), p.gen(p.images, method="encode")
        of_fake, of_real = p.disc(fake, p.z), p.disc(p.images, code)
        gen = jnp.mean(softplus(-of_fake) + softplus(of_real))
        return Losses(gen, disc=jnp.mean(softplus(of_fake) + softplus(-of_real)))
"""

import functools
import inspect
import zlib
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
from flax.core import DenyList
from jax.extend.core import get_opaque_trace_state

from jaxgan.networks.layers import Context
from jaxgan.randomness import Purpose, draw_labels, draw_z, example_keys, step_key
from jaxgan.transforms import Transform
from jaxgan.user_functions import joined, keys_named, place, scalar

if TYPE_CHECKING:
    from jaxgan.gan import GAN, Batch, GANState

Player = Literal["gen", "disc"]
Metrics = dict[str, jax.Array]


class Losses(NamedTuple):
    """What a game gives.

    Attributes:
      gen: the scalar that the first player descends: a mean over examples; or a pair of it and metrics of its own.
      disc: the same for the second player.
      metrics: scalars by name, to be logged.
      means: what else a `Memory` is to see: arrays that are means over examples.
      examples: the same for arrays with a row for each example, [B, ...].
    """

    gen: Any
    disc: Any
    metrics: Mapping[str, jax.Array] = {}
    means: Mapping[str, Any] = {}
    examples: Mapping[str, Any] = {}


class Aux(NamedTuple):
    """What a pass gives beside its losses.

    Attributes:
      stats: the batch statistics of both players after it.
      metrics: the scalars of each player's own: they are logged from the pass that its gradient is taken from.
      means: as in `Losses`.
      examples: as in `Losses`.
      images: how many real images it saw, over devices and microbatches.
    """

    stats: dict[str, Any]
    metrics: dict[str, Metrics]
    means: dict[str, Any]
    examples: dict[str, Any]
    images: jax.Array | int


class Pass:
    """What a game may use: a batch, draws for it, and both players in training mode.

    Running averages of batch normalisation move with each call of a player, in the order of the calls. A call inside of
    a transformation, such as `jax.grad` of a function that calls `disc`, leaves them as they are, and makes no
    parameters when a state is initialised: what it calls has to be called outside of one, too.

    Attributes:
      gan: the static description.
      images: the real images, [B, H, W, C] in the GAN's `image_range`, after its `augmentations`.
      labels: their classes, int32 [B]; or what `GAN.condition` names; or None.
      others: what else the batch has of each example, by name; pictures after the augmentations, with the same draws.
      z: latents, [B, z_size].
      generated_labels: the classes for generated images, int32 [B], as `GAN.generated_labels` says; or the condition.
      step: int32 scalar, the updates done.
      indices: int [B], which example of the step each one is.
      reuse_gradient: whether `gen`'s loss is differentiated in its own parameters alone, never in those of `disc`.
    """

    def __init__(
        self,
        gan: "GAN",
        state: "GANState",
        params: dict[str, Any],
        batch: "Batch",
        indices: jax.Array,
        reuse_gradient: bool = False,
        initialising: bool = False,
    ):
        """A pass over a batch at `params`; if it is `initialising`, players get the parameters that they lack."""
        self.gan, self.step, self.indices, self.reuse_gradient = gan, state.step, indices, reuse_gradient
        self.params, self.stats = params, {"gen": state.gen.batch_stats, "disc": state.disc.batch_stats}
        self._state, self._initialising = state, initialising
        self._trace = _trace()
        self.is_adversarial = False  # whether penalties and regularisers were asked
        augmented = functools.partial(self._passed, gan.augmentations, Purpose.AUGMENTATION)
        self.images = augmented(batch.images)
        self.others = {name: augmented(x) if x.ndim == 4 else x for name, x in (batch.others or {}).items()}
        self.labels = self.others[gan.condition] if gan.condition else batch.labels
        self.z = draw_z(gan, step_key(state, Purpose.Z), indices)
        self.generated_labels = self.labels
        if gan.generated_labels == "uniform" and not gan.condition:
            self.generated_labels = draw_labels(gan, step_key(state, Purpose.LABELS), indices)

    @property
    def memory(self) -> Any:
        """What the GAN's `Memory` keeps, or None."""
        if not self._initialising:
            return self._state.memory
        try:
            return self.gan.memory and jax.tree.map(jnp.asarray, self.gan.memory.start(self.gan, self.params))
        except (KeyError, AttributeError) as error:
            raise ValueError("a game must call its players before it asks for a memory of their parameters") from error

    def keys(self, purpose: str | int) -> jax.Array:
        """A key for each example, [B], for draws of a purpose: a name of one's own, or one of `Purpose`."""
        key = step_key(self._state, Purpose.OWN if isinstance(purpose, str) else purpose)
        if isinstance(purpose, str):
            key = jax.random.fold_in(key, zlib.crc32(purpose.encode()))
        return example_keys(key, self.indices)

    def gen(self, *args: Any, method: str | None = None, keys: jax.Array | None = None) -> Any:
        """Calls the first player at the parameters that are differentiated, in training mode.

        Args:
          args: arrays, each with the batch as its first axis, which its module gets before the context. `__call__`
            gets None for its labels where they are left out.
          method: the name of one of its methods; by default `__call__`.
          keys: [B], what dropout draws from; by default the same in each call of a player.

        Returns:
          What the module gives, in float32 at least.

        Raises:
          ValueError: the module has no such method.
        """
        return self._call("gen", args, method, self.keys(Purpose.DROPOUT_GEN) if keys is None else keys)

    def disc(self, *args: Any, method: str | None = None, keys: jax.Array | None = None) -> Any:
        """Calls the second player, as `gen`."""
        return self._call("disc", args, method, self.keys(Purpose.DROPOUT_REAL) if keys is None else keys)

    def transform(self, images: jax.Array, real: bool) -> jax.Array:
        """Images [B, H, W, C] after the GAN's transforms, with the draws of real images or of generated ones."""
        return self._passed(self.gan.transforms, Purpose.TRANSFORM_REAL if real else Purpose.TRANSFORM_FAKE, images)

    def vjp(
        self, function: Callable[[jax.Array], tuple[Any, Any]], x: jax.Array
    ) -> tuple[Any, Any, Callable[..., Any]]:
        """What `jax.vjp(function, x, has_aux=True)` gives: a value, its pullback to x, and what comes beside it.

        One forward pass, in which running averages move as they do outside of it.

        Args:
          function: x -> (value, what else), which may call the players.
          x: an array.

        Returns:
          The value; what else; and its pullback: a cotangent of the value -> the gradient in x.
        """

        def pair(x: jax.Array) -> tuple[Any, Any]:
            found = function(x)
            if not (isinstance(found, tuple) and len(found) == 2):
                raise ValueError(f"{place(function)} must give a pair: a value, and what else, or None")
            return found

        def with_stats(x: jax.Array) -> tuple[Any, Any]:
            outside, self._trace = (self._trace, self.stats), _trace()
            try:
                value, aux = pair(x)
                return value, (aux, self.stats)
            finally:
                self._trace, self.stats = outside

        if self._initialising:  # parameters that are made in a transformation could not leave it
            return *pair(x), lambda cotangent: jnp.zeros_like(x)
        value, pull, (aux, stats) = jax.vjp(with_stats, x, has_aux=True)
        if _trace() == self._trace:
            self.stats = stats
        return value, aux, lambda cotangent: pull(cotangent)[0]

    def _call(self, player: Player, args: tuple[Any, ...], method: str | None, keys: jax.Array) -> Any:
        net, gan = getattr(self.gan, player), self.gan
        if method is None and len(args) == 1:
            args = (*args, None)
        if method is not None and not callable(getattr(net, method, None)):
            raise ValueError(f"{player} has no method {method!r}: it is a {type(net).__name__}")
        variables = {"params": self.params[player], "batch_stats": self.stats[player]}
        if self._initialising:
            rngs = {"params": jax.random.fold_in(self._state.key, Purpose[f"INIT_{player.upper()}"])}
            mutable, context = DenyList("intermediates"), Context(step=self.step)
            out, variables = net.apply(variables, *args, context, rngs=rngs, mutable=mutable, method=method)
            check_collections(player, variables)
            if _trace() == self._trace:
                self.params[player], self.stats[player] = variables.get("params", {}), variables.get("batch_stats", {})
            return out
        if gan.precision == "bf16":
            variables["params"], args = jax.tree.map(_to_bf16, (variables["params"], args))
        context = Context(train=True, keys=keys, axis_name=gan.axis_name, step=self.step)
        out, updated = net.apply(variables, *args, context, mutable=["batch_stats"], method=method)
        if _trace() == self._trace:
            self.stats = self.stats | {player: updated.get("batch_stats", {})}
        return jax.tree.map(_to_float32, out)

    def _passed(self, transforms: tuple[Transform, ...], purpose: int, images: jax.Array) -> jax.Array:
        """Images after some transforms, each with draws of its own."""
        for i, transform in enumerate(transforms):
            images = transformed(transform, images, self.keys(purpose + 1000 * i), self.step, lambda: self.memory)
        return images


def losses(
    gan: "GAN",
    state: "GANState",
    gen_params: Any,
    disc_params: Any,
    batch: "Batch",
    indices: jax.Array,
    reuse_gradient: bool = False,
) -> tuple[tuple[jax.Array, jax.Array], Aux]:
    """One pass of the GAN's game.

    Args:
      gan: the static description.
      state: gives batch statistics, the step, the key and the memory.
      gen_params: the generator's parameters.
      disc_params: the discriminator's parameters.
      batch: real images, [B, H, W, C] in `gan.image_range`, and their labels.
      indices: int [B], which example of the step each one is; decides its noise.
      reuse_gradient: as in `Pass`.

    Returns:
      (loss_gen, loss_disc), aux. What the caller does not use the compiler does not compute.

    Raises:
      ValueError: a function of the user's gives another shape than it must, or two metrics have one name.
    """
    p = Pass(gan, state, {"gen": gen_params, "disc": disc_params}, batch, indices, reuse_gradient)
    found = play(p)
    if not isinstance(found, Losses):
        raise ValueError(f"{place(gan.game)} must give Losses, not {type(found).__name__}")
    if (gan.penalties or gan.regularizers) and not p.is_adversarial:
        raise ValueError(
            f"penalties and regularizers belong to the game `adversarial`; {place(gan.game)} has to add them"
        )
    loss_gen, of_gen = scalar(f"{place(gan.game)}: gen", found.gen)
    loss_disc, of_disc = scalar(f"{place(gan.game)}: disc", found.disc)
    metrics = {
        "gen": joined({"loss_gen": loss_gen}, of_gen),
        "disc": joined({"loss_disc": loss_disc}, of_disc, found.metrics),
    }
    joined(*metrics.values())
    return (loss_gen, loss_disc), Aux(p.stats, metrics, dict(found.means), dict(found.examples), len(batch.images))


def play(p: Pass) -> Losses:
    """What the pass's game gives.

    Raises:
      ValueError: it asks for a name that its memory, or what else the data have, does not hold.
    """
    with keys_named(lambda: {"p.memory": p.memory, "p.others": p.others}):
        return p.gan.game(p)


def transformed(
    transform: Transform, images: jax.Array, keys: jax.Array, step: jax.Array, memory: Callable[[], Any]
) -> jax.Array:
    """The images after a transform, which gets the memory where it has an argument of that name."""
    more = {"memory": memory()} if "memory" in inspect.signature(transform).parameters else {}
    return transform(images, keys, step, **more)


def and_extra(out: Any) -> tuple[jax.Array, Any]:
    """What a player gives, and what it gives beside that: None where it is one array."""
    return out if isinstance(out, tuple) else (out, None)


def check_collections(player: Player, variables: Mapping[str, Any]) -> None:
    """Refuses a module whose variables are not kept from step to step.

    Raises:
      ValueError: it has a collection beside "params" and "batch_stats".
    """
    if others := sorted(set(variables) - {"params", "batch_stats"}):
        raise ValueError(
            f"{player} has variables of the collection {others[0]!r}, which no step keeps; use 'batch_stats', or memory"
        )


def _to_bf16(x: jax.Array) -> jax.Array:
    return x.astype(jnp.bfloat16) if jnp.issubdtype(x.dtype, jnp.floating) else x


def _to_float32(x: jax.Array) -> jax.Array:
    floats = jnp.issubdtype(x.dtype, jnp.floating)
    return x.astype(jnp.promote_types(x.dtype, jnp.float32)) if floats else x


def _trace() -> Any:
    """Which transformation of JAX is being traced."""
    return get_opaque_trace_state(convention="flax")
