"""Losses: logits in, a scalar out. 1 is the label of a real image, 0 of a generated one.

Every loss is a mean over its logits, of any shape. Discriminators return logits; the losses
apply the sigmoid where the formula has one, in a form that neither overflows nor loses digits.
"""

from typing import Any

import jax
import jax.numpy as jnp


def cross_entropy(logits: jax.Array, label: float) -> jax.Array:
    """Mean of -label * log(sigmoid(logits)) - (1 - label) * log(1 - sigmoid(logits)), label in [0, 1].

    As softplus(-logits) and softplus(logits): their gradients, too, keep all digits at any logit.
    """
    return jnp.mean(label * jax.nn.softplus(-logits) + (1 - label) * jax.nn.softplus(logits))


def non_saturating_gen(fake_logits: jax.Array) -> jax.Array:
    """-mean log D(fake), the non-saturating loss of Goodfellow et al. 2014 (arXiv:1406.2661), section 3."""
    return cross_entropy(fake_logits, 1.0)


def non_saturating_disc(real_logits: jax.Array, fake_logits: jax.Array, real_label: float = 1.0) -> jax.Array:
    """-mean log D(real) - mean log(1 - D(fake)), with one-sided label smoothing.

    `real_label` < 1 replaces the label of the real images alone: 0.9 gives
    -mean(log(1 - D(fake)) + .1 log(1 - D(real)) + .9 log D(real)), as in "Fast DCGAN in Keras" and
    Salimans et al. 2016 (arXiv:1606.03498), section 3.4.
    """
    return cross_entropy(real_logits, real_label) + cross_entropy(fake_logits, 0.0)


def least_squares_gen(fake_logits: jax.Array) -> jax.Array:
    """Mean (D(fake) - 1)^2, for a D with no sigmoid (Mao et al. 2016, arXiv:1611.04076)."""
    return jnp.mean(jnp.square(fake_logits - 1))


def least_squares_disc(real_logits: jax.Array, fake_logits: jax.Array) -> jax.Array:
    """Mean (D(real) - 1)^2 + mean D(fake)^2, for a D with no sigmoid (Mao et al. 2016, arXiv:1611.04076)."""
    return jnp.mean(jnp.square(real_logits - 1)) + jnp.mean(jnp.square(fake_logits))


def squared_norm(params: Any) -> jax.Array:
    """The squared L2 norm of all arrays of a tree: the sum of the squares of all their values."""
    return sum(jnp.sum(jnp.square(x)) for x in jax.tree.leaves(params))
