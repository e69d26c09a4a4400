"""The reader of compiled programs: on one written by hand, whose counts are known, and against XLA's own of FLOPs."""

import itertools
import math

import jax
import jax.numpy as jnp
import pytest
from common import QUICK
from jax import lax

from jaxgan.programs import hlo
from jaxgan.programs.hlo import Array

# Two updates' worth of everything that is counted. The inner loop turns 5 times, and the one in it 3 times. The branch
# of the condition that does more is its second.
PROGRAM = """HloModule jit_train_steps, is_scheduled=true

%fused (p.0: f32[4,8], p.1: f32[8,16]) -> f32[4,16] {
  %p.0 = f32[4,8]{1,0} parameter(0)
  %p.1 = f32[8,16]{1,0} parameter(1)
  ROOT %dot.1 = f32[4,16]{1,0} dot(%p.0, %p.1), lhs_contracting_dims={1}, rhs_contracting_dims={0}
}

%small (q.0: f32[4]) -> f32[4] {
  %q.0 = f32[4]{0} parameter(0)
  ROOT %neg = f32[4]{0} negate(%q.0)
}

%innermost (i: (s32[], f32[4])) -> (s32[], f32[4]) {
  %i = (s32[], f32[4]{0}) parameter(0)
  %i.1 = f32[4]{0} get-tuple-element(%i), index=1
  %run = f32[4]{0} fusion(%i.1), kind=kLoop, calls=%small
  %moved = f32[4]{0:S(5)} copy(%run)
  ROOT %i.2 = (s32[], f32[4]{0}) tuple(%i.1, %run)
}

%inner (j: (s32[], f32[4])) -> (s32[], f32[4]) {
  %j = (s32[], f32[4]{0}) parameter(0)
  %again = (s32[], f32[4]{0}) while(%j), condition=%less, body=%innermost, \
backend_config={"known_trip_count":{"n":"3"},"x":{}}
  ROOT %sum.0 = f32[4]{0} all-reduce(%j), to_apply=%add
}

%less (k: (s32[], f32[4])) -> pred[] {
  %k = (s32[], f32[4]{0}) parameter(0)
  ROOT %asked = pred[] fusion(%k), kind=kLoop, calls=%small
}

%nothing (l: f32[4]) -> f32[4] {
  ROOT %l = f32[4]{0} parameter(0)
}

%something (m: f32[4]) -> f32[4] {
  %m = f32[4]{0} parameter(0)
  ROOT %done = f32[4]{0} fusion(%m), kind=kLoop, calls=%small
}

%update (n: (s32[], f32[4])) -> (s32[], f32[4]) {
  %n = (s32[], f32[4]{0}) parameter(0)
  %one = s32[] constant(1)
  %scalar = s32[]{:T(128)} add(%one, %one)
  %a = f32[4,8]{1,0} broadcast(%n), dimensions={}
  %b = f32[8,16]{1,0} broadcast(%n), dimensions={}
  %product = f32[4,16]{1,0} fusion(%a, %b), kind=kCustom, calls=%fused
  %x = f32[2,8,8,3]{3,2,1,0} broadcast(%n), dimensions={}
  %w = f32[3,3,3,5]{3,2,1,0} broadcast(%n), dimensions={}
  %conv.0 = (f32[2,8,8,5]{3,2,1,0}, u8[0]{0}) custom-call(%x, %w), window={size=3x3 pad=1_1x1_1}, \
dim_labels=b01f_01io->b01f, custom_call_target="__cudnn$convForward", backend_config={"a":{"b":"c(d"}}
  %gemm = (f32[4,16]{1,0}, s8[64]{0}) custom-call(%a, %b), custom_call_target="__cublas$gemm", \
backend_config={"gemm_backend_config":{"dot_dimension_numbers":{"lhs_contracting_dimensions":["1"]}}}
  %loop = (s32[], f32[4]{0}) while(%n), condition=%less, body=%inner, backend_config={"known_trip_count":{"n":"5"}}
  %either = f32[4]{0} conditional(%scalar, %n, %n), branch_computations={%nothing, %something}
  %start = (f32[3]{0}, f32[5]{0}) all-reduce-start(%a, %b), to_apply=%add
  %end = (f32[3]{0}, f32[5]{0}) all-reduce-done(%start)
  %gather = (bf16[2,4]{1,0}, bf16[16,4]{1,0}) all-gather-start(%a), dimensions={0}
  %gathered = bf16[16,4]{1,0} all-gather-done(%gather)
  ROOT %next = (s32[], f32[4]{0}) tuple(%one, %gathered)
}

ENTRY %main (state: f32[4], data: u8[10,3], count: s32[]) -> f32[4] {
  %data = u8[10,3]{0,1:T(8,128)(4,1)} parameter(1)
  %state = f32[4]{0} parameter(0)
  %count = s32[] parameter(2)
  %before = f32[4]{0} copy(%state)
  %known = (s32[], f32[4]{0}) while(%before), condition=%less, body=%inner, \
backend_config={"known_trip_count":{"n":"2"}}
  %updates = (s32[], f32[4]{0}) while(%before), condition=%less, body=%update
  ROOT %out = f32[4]{0} get-tuple-element(%updates), index=1
}
"""
# Of each update: the question whether there is another; four broadcasts, the fused product, cuDNN and cuBLAS; in the
# loop an all-reduce, and in the one in it a fusion and a copy; the larger branch; two collectives.
LAUNCHES = 1 + (4 + 1 + 1 + 1) + 5 * (1 + 3 * 2) + 1 + 2


def test_a_program_by_hand():
    program = hlo.read(PROGRAM)
    steps = hlo.update(program)
    assert hlo.launches(steps) == LAUNCHES == 46  # each as often as its loop turns
    assert hlo.host_transfers(steps) == 5 * 3
    # The bytes that are reduced or gathered.
    assert hlo.collectives(steps) == {"all-gather": (1, 2 * 16 * 4), "all-reduce": (6, 4 * (3 + 5) + 5 * 4 * 4)}
    # A fusion is one launch, and its parts are seen.
    inner = list(hlo.within_fusions(program, steps))
    assert sum(times for times, step in inner if step.opcode == "dot") == 1
    assert sum(times for times, step in inner if step.opcode == "negate") == 5 * 3 + 1 + 1
    assert [step.operands[0] for _, step in inner if hlo.is_convolution(step)] == [(2, 8, 8, 3)]
    # The window of a 3x3 convolution of 8 pixels with a pixel of padding meets 3 * 8 - 2 values along an axis.
    assert hlo.count_flops(program, steps) == 2 * (2 * 4 * 16 * 8) + 2 * 2 * 5 * 3 * 22 * 22
    # Parameters in their order. Of [10, 3] with the first axis last, a TPU pads 3 rows to 8, and 10 columns to 128.
    assert [array.bytes_in_memory for array in hlo.parameters(program)] == [16, 8 * 128, 4]
    assert [array.bytes for array in hlo.parameters(program)] == [16, 30, 4]
    two_loops = PROGRAM.replace("body=%update", 'body=%update, "known_trip_count":{"n":"9"}')
    for text in ("", "HloModule m\n", two_loops):
        with pytest.raises(ValueError, match=r"entry|updates"):
            hlo.update(hlo.read(text))


def test_arrays_and_their_bytes():
    for text, array, memory in (
        ("f32[2,3]{1,0}", Array("f32", 32, (2, 3), "1,0"), 24),
        ("bf16[100,300]{1,0:T(8,128)(2,1)}", Array("bf16", 16, (100, 300), "1,0:T(8,128)(2,1)"), 2 * 104 * 384),
        ("f32[]{:T(128)}", Array("f32", 32, (), ":T(128)"), 4 * 128),
        ("pred[7]", Array("pred", 8, (7,)), 7),
        ("f8e4m3fn[5]{0}", Array("f8e4m3fn", 8, (5,), "0"), 5),
        ("s4[3]{0}", Array("s4", 4, (3,), "0"), 2),
    ):
        assert hlo.arrays_in(text) == (array,)
        assert array.bytes_in_memory == memory


SETTINGS = [
    {"window_strides": (1, 1), "padding": "SAME"},
    {"window_strides": (2, 2), "padding": "SAME"},
    {"window_strides": (1, 2), "padding": ((0, 3), (2, 1))},
    {"window_strides": (1, 1), "padding": ((2, 2), (2, 3)), "lhs_dilation": (2, 3)},
    {"window_strides": (2, 1), "padding": "VALID", "rhs_dilation": (2, 1)},
    {"window_strides": (1, 1), "padding": "SAME", "feature_group_count": 2},
    {"window_strides": (1, 1), "padding": "SAME", "batch_group_count": 2},
]


@pytest.mark.parametrize("settings", SETTINGS)
def test_flops_of_a_convolution_are_those_that_xla_counts(settings):
    x = jax.ShapeDtypeStruct((4, 9, 10, 6), jnp.float32)
    w = jax.ShapeDtypeStruct((3, 4, 6 // settings.get("feature_group_count", 1), 8), jnp.float32)
    conv = lambda x, w: lax.conv_general_dilated(x, w, dimension_numbers=("NHWC", "HWIO", "NHWC"), **settings)  # noqa: E731
    compiled = jax.jit(conv).lower(x, w).compile(QUICK)
    program = hlo.read(compiled.as_text())
    assert hlo.count_flops(program, hlo.whole(program)) == compiled.cost_analysis()["flops"] > 0


def test_the_gradients_that_cudnn_is_called_for_take_as_many():
    """Each product of a value and a tap in a convolution is one in either of its gradients."""
    x, w, y = "f32[2,9,9,3]{3,2,1,0}", "f32[5,5,3,7]{3,2,1,0}", "f32[2,5,5,7]{3,2,1,0}"
    window = "{size=5x5 stride=2x2 pad=2_2x2_2}"
    met = sum(0 <= 2 * out + tap - 2 < 9 for out, tap in itertools.product(range(5), range(5)))
    for target, result, given in (("Forward", y, (x, w)), ("BackwardInput", x, (y, w)), ("BackwardFilter", w, (x, y))):
        call = f'window={window}, dim_labels=b01f_01io->b01f, custom_call_target="__cudnn$conv{target}"'
        text = f"""ENTRY %main (a: f32[], b: f32[]) -> f32[] {{
  %a = {given[0]} parameter(0)
  %b = {given[1]} parameter(1)
  ROOT %c = ({result}, u8[0]{{0}}) custom-call(%a, %b), {call}
}}
"""
        program = hlo.read(text)
        assert hlo.count_flops(program, hlo.whole(program)) == 2 * 2 * 7 * 3 * met**2, target


def test_a_matrix_product_of_a_compiled_program_with_batches():
    a, b = jax.ShapeDtypeStruct((3, 40, 50), jnp.float32), jax.ShapeDtypeStruct((3, 50, 60), jnp.float32)
    text = jax.jit(lambda a, b: jnp.einsum("gij,gjk->gik", a, b)).lower(a, b).compile(QUICK).as_text()
    program = hlo.read(text)
    assert hlo.count_flops(program, hlo.whole(program)) == 2 * math.prod((3, 40, 50, 60))
