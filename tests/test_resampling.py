"""Resampling against a convolution of each channel with the filter written out."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from jaxgan.networks.resampling import downsample, upsample

pytestmark = pytest.mark.usefixtures("quick_programs")

FILTER = np.outer([1, 3, 3, 1], [1, 3, 3, 1]) / 64  # [1, 2, 1] convolved with [1, 1], both ways


def filtered(x, kernel, **settings):
    """A depth-wise convolution."""
    kernel = jnp.asarray(np.broadcast_to(kernel[:, :, None, None], (4, 4, 1, x.shape[3])), x.dtype)
    numbers = ("NHWC", "HWIO", "NHWC")
    return lax.conv_general_dilated(x, kernel, dimension_numbers=numbers, feature_group_count=x.shape[3], **settings)


def plain_upsample(x):
    """Zeros between pixels and after the last, padding of 2 before and 1 after, the filter times 4."""
    return filtered(x, 4 * FILTER, window_strides=(1, 1), padding=[(2, 2)] * 2, lhs_dilation=(2, 2))


def plain_downsample(x):
    return filtered(x, FILTER, window_strides=(2, 2), padding=[(1, 1)] * 2)


@pytest.mark.parametrize(("ours", "plain"), [(upsample, plain_upsample), (downsample, plain_downsample)])
@pytest.mark.parametrize("size", [(4, 6), (2, 2)])
def test_in_value_and_gradient(ours, plain, size, x64):
    rng = np.random.default_rng(0)
    x = jnp.asarray(rng.normal(size=(2, *size, 3)))

    @functools.partial(jax.jit, static_argnums=0)
    def pulled_back(function, x):
        y, pullback = jax.vjp(function, x)
        return y, pullback(jnp.cos(y))

    got, expected = pulled_back(ours, x), pulled_back(plain, x)
    jax.tree.map(functools.partial(np.testing.assert_allclose, rtol=1e-12, atol=1e-14), got, expected)


@pytest.mark.parametrize("function", [upsample, downsample])
def test_a_flat_map_stays_flat_in_its_precision_by_no_convolution_or_product(function):
    for dtype in (jnp.float32, jnp.bfloat16):
        inner = function(jnp.ones((1, 8, 8, 1), dtype))[:, 1:-1, 1:-1]
        assert inner.dtype == dtype
        np.testing.assert_allclose(inner, jnp.ones_like(inner), rtol=1e-6)
    program = jax.jit(lambda x: jax.vjp(function, x)[1](function(x))).lower(jnp.ones((2, 4, 4, 8))).as_text()
    assert "stablehlo.convolution" not in program
    assert "stablehlo.dot_general" not in program
