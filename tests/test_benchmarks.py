"""What the benchmarks read out of compiled programs."""
# ruff: noqa: E501 - lines of a program are as long as XLA writes them

import jax
import jax.numpy as jnp
import pytest

from atomjax.ops import barrier_options, platform, stored, tracing_for
from benchmarks.hlo import Program, arrays, num_bytes

# As XLA writes it: a loop of four turns with a product, and a fusion that reads a slice.
TEXT = """HloModule jit_f

%fused (p0: f32[64,512], p1: f32[64,128]) -> f32[64,128] {
  %p0 = f32[64,512]{1,0} parameter(0)
  %p1 = f32[64,128]{1,0} parameter(1)
  %cut = f32[64,128]{1,0} slice(%p0), slice={[0:64], [128:256]}
  ROOT %sum = f32[64,128]{1,0} add(%cut, %p1)
}

%body (state: (s32[], bf16[32,32])) -> (s32[], bf16[32,32]) {
  %state = (s32[], bf16[32,32]{1,0}) parameter(0)
  %x = bf16[32,32]{1,0} get-tuple-element(%state), index=1
  %product = bf16[32,32]{1,0} dot(%x, %x), lhs_contracting_dims={1}, rhs_contracting_dims={0}
  ROOT %next = (s32[], bf16[32,32]{1,0}) tuple(%state, %product)
}

ENTRY %main (a: f32[64,512], b: f32[64,128]) -> f32[64,128] {
  %a = f32[64,512]{1,0} parameter(0)
  %b = f32[64,128]{1,0} parameter(1)
  %start = (s32[], bf16[32,32]{1,0}) tuple(%a, %b)
  %loop = (s32[], bf16[32,32]{1,0}) while(%start), body=%body, backend_config={"known_trip_count":{"n":"4"}}
  %near = f32[64,128]{1,0:T(8,128)S(1)} copy(%b)
  %gemm = (f32[64,8]{1,0}, s8[4194304]{0}) custom-call(%b, %b), custom_call_target="lt", backend_config={"dot_dimension_numbers":{"lhs_contracting_dimensions":["1"]}}
  ROOT %out = f32[64,128]{1,0} fusion(%a, %near), kind=kLoop, calls=%fused, metadata={op_name="jit(f)/backbone/add"}
}
"""


def test_kernels_of_a_program():
    loop, copy, gemm, fusion = Program(TEXT).kernels()
    assert (loop.opcode, loop.times) == ("dot", 4)
    assert loop.flops == 2 * 32**3
    assert loop.moved == 3 * 32 * 32 * 2
    # What lies on the chip is not read from memory, and workspace is not counted.
    assert copy.moved == 64 * 128 * 4
    assert gemm.flops == 2 * 64 * 8 * 128
    assert gemm.moved == (2 * 64 * 128 + 64 * 8) * 4
    # Of the first argument a fourth is read.
    assert fusion.moved == 2 * 64 * 128 * 4
    assert fusion.source == "jit(f)/backbone/add"


def test_types():
    assert arrays("(f32[2,3]{1,0}, pred[], u4[8])") == [(24, (2, 3)), (1, ()), (4, (8,))]
    assert num_bytes("bf16[4]{0:T(256)S(1)}") == 0


def test_flops_of_what_this_xla_writes():
    x = jnp.ones((128, 64))
    compiled = jax.jit(lambda x: jnp.tanh(x @ x.T) @ x).lower(x).compile()
    kernels = list(Program(compiled.as_text()).kernels())
    assert sum(k.flops for k in kernels) == 2 * (2 * 128 * 128 * 64)
    assert sum(k.moved for k in kernels) >= (2 * 128 * 64 + 2 * 128 * 128) * 4


def test_a_missing_attribute_says_that_the_text_has_changed():
    with pytest.raises(ValueError, match=r"no calls in .*XLA's text has changed"):
        list(Program(TEXT.replace("calls=%fused, ", "")).kernels())


def test_tracing_for_another_platform():
    assert platform() == jax.default_backend()
    with tracing_for("tpu"):
        assert platform() == "tpu"
        assert barrier_options() is None
        assert "barrier" not in jax.jit(lambda x: stored(x)).lower(1.0).as_text()
    assert platform() == jax.default_backend()
    assert "barrier" in jax.jit(lambda x: stored(x)).lower(1.0).as_text()
