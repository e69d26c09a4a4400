"""XLA's own convolutions, which the package's are to equal, in value and in gradients of first and second order."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from common import QUICK
from jax import lax

from jaxgan import convolutions

NHWC = ("NHWC", "HWIO", "NHWC")


def conv(x, kernel, stride=1, padding="SAME", groups=1):
    return lax.conv_general_dilated(
        x, kernel, (stride, stride), padding, dimension_numbers=NHWC, feature_group_count=groups
    )


def conv_transpose(x, kernel, stride, padding="SAME"):
    return lax.conv_transpose(x, kernel, (stride, stride), padding)


def upsample_conv(x, kernel, factor):
    return conv(jnp.repeat(jnp.repeat(x, factor, 1), factor, 2), kernel)


# The package's and XLA's, of (x, kernel, stride, ...).
PAIRS = {name: (getattr(convolutions, name), globals()[name]) for name in ("conv", "conv_transpose", "upsample_conv")}
PAIRS["grouped_conv"] = tuple(
    lambda x, kernel, stride, padding="SAME", f=f: f(x, kernel, stride, padding, x.shape[3] // kernel.shape[2])
    for f in PAIRS["conv"]
)


def all_orders(function, x, kernel):
    """The value, both gradients, and those of the squared norm of both, as penalties on gradients have it."""

    def penalty(x, kernel):
        gradients = jax.grad(lambda x, kernel: jnp.tanh(0.1 * function(x, kernel)).sum(), (0, 1))(x, kernel)
        return sum((gradient**2).sum() for gradient in gradients)

    y, pullback = jax.vjp(function, x, kernel)
    return y, pullback(jnp.cos(y)), jax.grad(penalty, (0, 1))(x, kernel)


in_all_orders = jax.jit(all_orders, static_argnums=0, compiler_options=QUICK)


def assert_close(got, expected):
    scale = max(float(jnp.abs(e).max()) for e in jax.tree.leaves(expected))
    jax.tree.map(functools.partial(np.testing.assert_allclose, rtol=1e-9, atol=1e-11 * scale), got, expected)
