"""What the benchmarks read out of compiled programs."""
# ruff: noqa: E501 - lines of a program are as long as XLA writes them

import argparse
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from atomjax.ops import compiler_options, platform, stored, tracing_for
from benchmarks import all as everything
from benchmarks.documents import with_tables
from benchmarks.hlo import Program, arrays, num_bytes
from benchmarks.profile import shortest_durations
from benchmarks.rows import show
from benchmarks.workloads import structures_of

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
        assert compiler_options() is None
        assert "barrier" not in jax.jit(lambda x: stored(x)).lower(1.0).as_text()
    assert platform() == jax.default_backend()
    assert "barrier" in jax.jit(lambda x: stored(x)).lower(1.0).as_text()


def test_products_of_a_gpu_are_library_calls_unless_the_environment_says_otherwise(monkeypatch):
    monkeypatch.delenv("XLA_FLAGS", raising=False)
    with tracing_for("gpu"):
        assert compiler_options() == {"xla_gpu_enable_triton_gemm": False}
        monkeypatch.setenv("XLA_FLAGS", "--xla_gpu_enable_triton_gemm=true")
        assert compiler_options() == {}


def options(**changes):
    return argparse.Namespace(device="cpu", original=None, quick=False, oracle=None, **changes)


def test_rows_become_a_table(tmp_path):
    path = tmp_path / "rows"
    show(path, "step of a", step_s=0.1234, structures=8, original_s=None)
    show(path, "step of b", step_s=1234.5, structures=2)
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    assert rows[0] == {"title": "step of a", "step_s": 0.1234, "structures": 8}

    results = tmp_path / "docs" / "results"
    results.mkdir(parents=True)
    (results / "toy.json").write_text(json.dumps({"parts": {"step": {"rows": rows}}}))
    begin = "<!-- benchmark toy: step; structures, step_s -->\n"
    table = with_tables(f"{begin}<!-- end -->", tmp_path).splitlines()
    assert [line.split("|")[1:-1] for line in table if "step of" in line] == [
        [" step of a ", " 8 ", " 0.123 "],
        [" step of b ", " 2 ", " 1,234 "],
    ]
    with pytest.raises(ValueError, match="no row that begins with 'extraction'"):
        with_tables("<!-- benchmark toy: extraction; s -->\n<!-- end -->", tmp_path)
    with pytest.raises(ValueError, match="benchmrk"):
        with_tables("<!-- benchmrk toy: step; s -->\n<!-- end -->", tmp_path)


def test_a_part_runs_in_a_process_of_its_own():
    part = everything.Part("x", "timeit --number 1 --repeat 1 pass", rows=False)
    ((name, result),) = everything.one_after_the_other([part], options(), None)
    assert name == "x"
    assert "failed" not in result
    assert "loop" in result["text"][-1]
    assert result["page_faults"] > 0
    assert result["process_gib"] > 0


def test_a_part_ends_with_the_time_limit():
    part = everything.Part("x", "http.server 0", rows=False)
    running = everything.start(part, options())
    assert everything.finish(running, 0.0, 0.5)["failed"] == "out of time"


def test_a_part_that_is_killed_did_not_run_out_of_time(tmp_path, monkeypatch):
    (tmp_path / "ending_part.py").write_text("import os\nos.abort()\n")
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}:{everything.ROOT}")
    running = everything.start(everything.Part("x", "ending_part", rows=False), options())
    assert everything.finish(running, 0.0, None)["failed"][-1] == "killed by SIGABRT"


def test_kernels_of_a_loop_count_as_often_as_they_run():
    def products(x):
        return jax.lax.fori_loop(0, 200, lambda _, y: jnp.tanh(y @ x), x)

    x = jnp.ones((128, 128))
    compiled = jax.jit(products).lower(x).compile()
    compiled(x)
    took = shortest_durations(lambda: compiled(x), 3, None)
    assert not any(name.startswith("while") for name in took)
    # A single product takes some microseconds.
    assert sum(took.values()) > 2e-4


def test_parts_are_compiled_together_and_measured_in_turn(tmp_path, monkeypatch):
    log = tmp_path / "log"
    (tmp_path / "waiting_part.py").write_text(
        "import pathlib, sys, time\n"
        "from benchmarks.turns import wait_for_turn\n"
        f"log = pathlib.Path({str(log)!r})\n"
        "def say(word):\n"
        "    with log.open('a') as file: file.write(f'{word}{sys.argv[1]}\\n')\n"
        "say('compiled ')\n"
        "wait_for_turn()\n"
        "wait_for_turn()\n"
        "say('begins ')\n"
        "time.sleep(0.3)\n"
        "say('ends ')\n"
    )
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}:{everything.ROOT}")
    monkeypatch.setattr(everything, "foreign_load", lambda: 0.0)
    parts = [everything.Part(n, f"waiting_part {n}", rows=False) for n in ("a", "b")]
    parts.append(everything.Part("c", "nothing_of_that_name", rows=False))
    results = dict(everything.together(parts, options(), None))
    assert [name for name, result in results.items() if "failed" in result] == ["c"]
    lines = log.read_text().splitlines()
    assert sorted(lines[:2]) == ["compiled a", "compiled b"]
    assert lines[2:] == ["begins a", "ends a", "begins b", "ends b"]


def test_parts_of_a_device_are_known_commands():
    for device in ("cpu", "gpu"):
        parts = list(
            everything.parts_of(argparse.Namespace(device=device, quick=False, oracle="o"))
        )
        assert len({part.name for part in parts}) == len(parts)
        assert parts[0].name.startswith("step" if device == "cpu" else "parity")


def test_aspirin_is_a_molecule():
    for structure in structures_of("dynamics"):
        gaps = np.linalg.norm(structure.positions[:, None] - structure.positions[None], axis=-1)
        assert np.sort(gaps, axis=1)[:, 1].min() > 0.7
        assert np.sort(gaps, axis=1)[:, 1].max() < 1.7
