"""How long each convolution takes in each of its forms: `python -m experiments.bench.convolutions [RECIPE …]`.

For every convolution of a recipe's networks, at its batch size, the milliseconds that each form in
`jaxgan.convolutions.cpu` takes for each pass, the fastest first; the one that is chosen has a star. In brackets, the
operations of a form's products, as a multiple of those that the definition asks for. The forms of a grouped convolution
are in `jaxgan.convolutions.grouped`.

Where the star is well behind the first, another form should be chosen. The constants by which forms are chosen have
the values at which the star is first most often:

NARROW  the values in a patch up to which patches are faster than native, on maps larger than the kernel
FEW     the features up to which native is faster than patches of more values
THIN    the channels and features up to which, with stride 1, a product of lines is faster than those of rows or of taps
WIDE    the channels from which a product for each tap is faster than one for each row, where a row has over three
CACHE   the values in all patches up to which they are best made at once; for transposes whose stride divides the
        kernel, three times the number from which phases are faster
0.4     the multiple of operations below which frequencies (with a stride, phases) are faster than the others
"""

import dataclasses
import functools
import math
import statistics
import time
from collections.abc import Callable
from typing import NamedTuple
from unittest import mock

import jax
import jax.numpy as jnp
from jax import lax

from jaxgan import recipes
from jaxgan.commands.cli import RecipeNames, check_names, parse, run_script
from jaxgan.convolutions import cpu, grouped, platforms
from jaxgan.convolutions.linear import Maps, Pads, Shape
from jaxgan.gan import GAN, image_shape
from jaxgan.networks import Context
from jaxgan.programs import hlo

TITLES = "conv", "transpose", "kernel"  # of the passes


@dataclasses.dataclass(frozen=True)
class Convolutions:
    """Times each form of each convolution, on this CPU."""

    recipes: RecipeNames = tuple(recipes.SYSTEMS)
    """Which ones."""


class Convolution(NamedTuple):
    """The shapes that decide everything: of y = conv(x, kernel), or where it is transposed, of x from y.

    In groups, the kernel has the channels of one of them: there are x[3] / kernel[2].
    """

    transposed: bool
    x: Shape
    kernel: Shape
    y: Shape
    stride: int
    pads: Pads


class Pass(NamedTuple):
    """One of the three: its forms, the one chosen, and what they are called with."""

    forms: tuple[Callable, ...]
    chosen: Callable
    shapes: tuple[Shape, Shape]
    settings: tuple


def main() -> None:
    """Prints a block for each convolution."""
    jax.config.update("jax_platforms", "cpu")
    flags = parse(Convolutions, "experiments.bench.convolutions")
    check_names(flags.recipes, recipes.RECIPES, "recipe")
    square = jnp.ones((1024, 1024))
    rate = 2 * 1024**3 / measure(jnp.matmul, (square, square), limit=math.inf)[0]
    print(f"a matrix product of 1024x1024 runs at {rate / 1e9:.0f} GFLOP/s")
    for name in flags.recipes:
        recipe = recipes.get(name)
        for convolution in calls(recipe.build(), recipe.batch_size):
            print(f"\n{name}: {describe(convolution, rate)}", flush=True)
            for title, one in passes(convolution).items():
                print(f"  {title:<10}{line(one, operations(convolution), rate)}", flush=True)


def calls(gan: GAN, batch_size: int) -> list[Convolution]:
    """The convolutions of both networks, each once.

    Recorded while the networks are traced, since only they know what their layers ask for. In place of a convolution
    there is then its shape, so that none of those that its form consists of is recorded too.
    """
    found = []

    def conv(x, kernel, stride, pads, native=cpu.native_conv):
        y = native(x, kernel, stride, pads)
        # Of arrays without an axis for their groups:
        shapes = ((*a.shape[:3], math.prod(a.shape[3:])) for a in (x, kernel, y))
        found.append(Convolution(False, *shapes, stride, pads))
        return y

    def conv_transpose(y, kernel, stride, pads, sizes):
        x = jnp.zeros((y.shape[0], *sizes, kernel.shape[2]), y.dtype)
        found.append(Convolution(True, x.shape, kernel.shape, y.shape, stride, pads))
        return x

    recorders = {"conv": conv, "conv_transpose": conv_transpose}
    recorders["grouped_conv"] = functools.partial(conv, native=grouped.native_conv)
    nets = ((gan.gen, (gan.z_size,)), (gan.disc, image_shape(gan)))
    with mock.patch.multiple(platforms, **recorders):
        for net, shape in nets:
            labels = jnp.zeros(batch_size, jnp.int32) if gan.classes else None
            trace = functools.partial(net.init_with_output, jax.random.key(0), labels=labels, context=Context())
            jax.eval_shape(trace, jax.ShapeDtypeStruct((batch_size, *shape), jnp.float32))
    return list(dict.fromkeys(found))


def passes(convolution: Convolution) -> dict[str, Pass]:
    """The three passes, with the forms that apply to these shapes. Forward is one of the first two."""
    _, x, kernel, y, stride, pads = convolution
    groups, sizes, taps = x[3] // kernel[2], x[1:3], kernel[:2]
    square = (x[1], kernel[0], pads[0]) == (x[2], kernel[1], pads[1])
    unfit = {"flipping", "patches_of_y", "lines"} if stride > 1 else {"phases"}
    unfit |= set() if square and stride == 1 else {"frequencies"}
    if groups > 1:
        x, kernel, y = ((*a[:3], groups, a[3] // groups) for a in (x, kernel, y))
    args = ((x, kernel), (stride, pads)), ((y, kernel), (stride, pads, sizes)), ((x, y), (stride, pads, taps))
    found = {}
    for i, (name, (shapes, settings)) in enumerate(zip(Maps._fields, args, strict=True)):
        if groups > 1:
            forms, chosen = (grouped.NATIVE[i], grouped.ON_CPU[i]), grouped.ON_CPU[i]
        else:
            forms = [f for n, f in vars(cpu).items() if n == f"native_{name}" or n.startswith(f"{name}_by_")]
            forms = tuple(form for form in forms if _short(form) not in unfit)
            arrays = (jax.ShapeDtypeStruct(shape, jnp.float32) for shape in shapes)
            chosen = getattr(cpu, f"{name}_form")(*arrays, *settings)
        found[TITLES[i]] = Pass(forms, chosen, shapes, settings)
    return found


def operations(convolution: Convolution) -> int:
    """What the definition asks for in each pass: an addition and a multiplication for each tap of each output."""
    return 2 * math.prod(convolution.y) * math.prod(convolution.kernel[:3])


def describe(convolution: Convolution, rate: float) -> str:
    """A line on a convolution; `rate` in operations a second."""
    transposed, x, kernel, y, stride, pads = convolution
    patch, ideal, groups = math.prod(kernel[:3]), operations(convolution) / rate, x[3] // kernel[2]
    kind, source, target = ("conv_transpose", y, x) if transposed else ("conv", x, y)
    divided = f"{groups} groups, " if groups > 1 else ""
    return (
        f"{kind} {_times(source)} -> {_times(target)}, kernel {_times(kernel)}, {divided}stride {stride}, pads {pads}\n"
        f"  {1e3 * ideal:.2f} ms at that rate; {patch:,} values in a patch, "
        f"{math.prod(y[:3]) * groups * patch:,} in all patches"
    )


def line(one: Pass, least: int, rate: float) -> str:
    """The forms of a pass with their times, the fastest first; `least` is the operations of the definition."""
    x, y = (jax.random.normal(jax.random.key(i), shape) for i, shape in enumerate(one.shapes))
    times = []
    for form in one.forms:
        # A form that is far too slow need not be timed exactly.
        taken, done = measure(lambda x, y, f=form: f(x, y, *one.settings), (x, y), limit=max(0.02, 20 * least / rate))
        times.append((taken, done / least, form))
    return "   ".join(
        f"{'*' if form is one.chosen else ''}{_short(form)} {1e3 * taken:.2f} ({multiple:.2g})"
        for taken, multiple, form in sorted(times, key=lambda time: time[0])
    )


def measure(function: Callable, args: tuple[jax.Array, ...], limit: float) -> tuple[float, float]:
    """How long a function takes inside a loop, as training runs it: XLA compiles some of it otherwise there.

    Args:
      function: args -> an array.
      args: what it is called with.
      limit: seconds; where one call takes longer, it is not repeated.

    Returns:
      Seconds, the median of a few rounds, and operations of its products, of one call.
    """

    @jax.jit
    def loop(n, args):
        def body(i, total):
            held, _ = lax.optimization_barrier((args, i))  # or it is computed once, before the loop
            value = lax.optimization_barrier(function(*held))  # or only the one element is
            return total + value.ravel()[0]

        return lax.fori_loop(0, n, body, jnp.float32(0))

    compiled = loop.lower(1, args).compile()

    def seconds(n):
        start = time.perf_counter()
        jax.block_until_ready(compiled(n, args))
        return (time.perf_counter() - start) / n

    seconds(1)
    once = seconds(1)
    if once <= limit:
        n = max(2, int(0.08 / once))
        once = statistics.median(seconds(n) for _ in range(3))
    program = hlo.read(compiled.as_text())
    return once, hlo.count_flops(program, hlo.update(program))


def _short(form: Callable) -> str:
    """`kernel_gradient_by_rows` is rows."""
    return form.__name__.partition("by_")[2] or "native"


def _times(shape: Shape) -> str:
    return "x".join(map(str, shape))


if __name__ == "__main__":
    run_script(main)
