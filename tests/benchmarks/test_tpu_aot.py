"""Reading a TPU's compiled program, on a small made-up one."""

import pytest

from benchmarks.tpu_aot import (
    CHIPS,
    Operation,
    estimate_step,
    get_devices,
    parse_operations,
    place,
    shape_bytes,
)

PROGRAM = """\
HloModule jit_step, is_scheduled=true

%inner (a: bf16[8,128]) -> bf16[8,128] {
  %a = bf16[8,128]{1,0:T(8,128)(2,1)} parameter(0)
  ROOT %conv.1 = bf16[8,128]{1,0:T(8,128)(2,1)} convolution(%a, %a), dim_labels=bf_io->bf
}

%outer (b: bf16[8,128]) -> bf16[8,128] {
  %b = bf16[8,128]{1,0:T(8,128)(2,1)} parameter(0)
  ROOT %f = bf16[8,128]{1,0} fusion(%b), kind=kOutput, calls=%inner
}

%moved (c: bf16[8,128]) -> bf16[128,8] {
  %c = bf16[8,128]{1,0:T(8,128)(2,1)} parameter(0)
  ROOT %t = bf16[128,8]{1,0} transpose(%c), dimensions={1,0}
}

ENTRY %main (p: bf16[8,128]) -> (f32[], bf16[128,8]) {
  %p = bf16[8,128]{1,0:T(8,128)(2,1)} parameter(0)
  %fusion.1 = bf16[8,128]{1,0} fusion(%p), kind=kOutput, calls=%outer, \
metadata={op_name="jit(step)/transpose(jvp(Generator))/Conv_0/conv_general_dilated"}, \
backend_config={"window_config":{"estimated_cycles":"600","iteration_bounds":["1"]}}
  %fusion.2 = bf16[128,8]{1,0} fusion(%fusion.1), kind=kLoop, calls=%moved, \
backend_config={"window_config":{"estimated_cycles":"100"}}
  %reduce.1 = f32[8]{0:T(128)S(1)} reduce(%fusion.1), dimensions={1}, to_apply=%sum, \
metadata={op_name="jit(step)/jvp(Discriminator)/reduce_sum"}, \
backend_config={"window_config":{"estimated_cycles":"300"}}
  %copy-start = (bf16[8,128]{1,0:S(1)}, bf16[8,128]{1,0}, u32[]{:S(2)}) copy-start(%p)
  %all-reduce.1 = (f32[8]{0:T(128)S(1)}, /*index=1*/f32[2,2]{1,0}) all-reduce(%reduce.1, %p), \
replica_groups={{0,1}}, to_apply=%sum, metadata={op_name="jit(step)/psum"}
  %get-tuple-element.1 = f32[8]{0} get-tuple-element(%all-reduce.1), index=0
  ROOT %tuple.1 = (f32[8]{0}, bf16[128,8]{1,0}) tuple(%get-tuple-element.1, %fusion.2)
}
"""


def test_operations_that_cost_time_with_what_they_are():
    operations = {o.name: o for o in parse_operations(PROGRAM)}
    assert [(o.name, o.kind, o.cycles) for o in operations.values()] == [
        ("fusion.1", "convolution", 600),
        ("fusion.2", "copy", 100),
        ("reduce.1", "other", 300),
        ("all-reduce.1", "collective", 0),
    ]
    assert operations["all-reduce.1"].result_bytes == 4 * 8 + 4 * 4
    assert operations["fusion.2"].scope == ""
    assert place(operations["fusion.1"].scope) == "Generator backward"
    assert place(operations["reduce.1"].scope) == "Discriminator forward"
    assert place(operations["all-reduce.1"].scope) == "losses and optimizers"


LOOPS = """\
%below_four (p: (s32[], f32[8])) -> pred[] {
  %limit = s32[]{:T(128)} constant(4), metadata={op_name="jit(step)"}
  %p = (s32[]{:T(128)}, f32[8]{0}) parameter(0)
  %i = s32[]{:T(128)} get-tuple-element(%p), index=0
  ROOT %lt = pred[]{:T(512)} compare(%i, %limit), direction=LT
}

%inner_body (q: (s32[], f32[8])) -> (s32[], f32[8]) {
  %fusion.1 = f32[8]{0} fusion(%q), kind=kLoop, backend_config={"estimated_cycles":"10"}
  ROOT %tuple.1 = (s32[], f32[8]{0}) tuple(%fusion.1, %fusion.1)
}

%below_two (p: (s32[], f32[8])) -> pred[] {
  %limit.1 = s32[] constant(2)
  ROOT %lt.1 = pred[] compare(%p, %limit.1), direction=LT
}

%outer_body (q: (s32[], f32[8])) -> (s32[], f32[8]) {
  %fusion.2 = f32[8]{0} fusion(%q), kind=kLoop, backend_config={"estimated_cycles":"100"}
  %all-reduce.1 = f32[8]{0} all-reduce(%fusion.2), to_apply=%sum
  ROOT %while.1 = (s32[], f32[8]{0}) while(%q), condition=%below_four, body=%inner_body, \
metadata={op_name="jit(step)/while"}
}

ENTRY %main (p: f32[8]) -> (s32[], f32[8]) {
  %fusion.3 = f32[8]{0} fusion(%p), kind=kLoop, backend_config={"estimated_cycles":"1000"}
  ROOT %while.2 = (s32[], f32[8]{0}) while(%fusion.3), condition=%below_two, body=%outer_body
}
"""


def test_what_is_in_a_loop_counts_in_every_round():
    operations = parse_operations(LOOPS)
    assert {o.name: o.cycles for o in operations if o.cycles} == {
        "fusion.1": 2 * 4 * 10,
        "fusion.2": 2 * 100,
        "fusion.3": 1000,
    }
    assert [o.result_bytes for o in operations if o.kind == "collective"] == [2 * 8 * 4]


@pytest.mark.parametrize(
    ("shape", "expected"),
    [
        ("f32[]{:T(128)}", 4),
        ("bf16[3,5]{1,0:T(8,128)(2,1)S(1)}", 30),
        ("(u8[7]{0}, /*index=1*/pred[2]{0}, (s64[2]{0}, f8e4m3fn[3]{0}))", 7 + 2 + 16 + 3),
    ],
)
def test_bytes_of_a_type(shape, expected):
    assert shape_bytes(shape) == expected


def test_a_step_takes_its_cycles_and_then_its_exchange():
    chip = CHIPS["v5e"]
    assert chip.cycles_per_second == pytest.approx(1.503e9, rel=1e-3)
    cycles = round(chip.cycles_per_second * 1e-3)
    operations = [
        Operation("a", "convolution", "jvp(Generator)", 0, cycles),
        Operation("b", "collective", "psum", 50_000_000, 0),
    ]
    flop = 0.5 * 1.25e-3 * chip.flop_per_second
    estimate = estimate_step(operations, chip=chip, num_chips=2, flop=flop)
    assert estimate["collective_ms"] == pytest.approx(0.25)
    assert estimate["estimated_step_ms"] == pytest.approx(1.25)
    assert estimate["collective_share_of_step"] == pytest.approx(0.2)
    assert estimate["share_of_peak"] == pytest.approx(0.5)
    assert estimate["cycles_by_kind"] == {"convolution": 1.0, "collective": 0.0}
    alone = estimate_step(operations, chip=chip, num_chips=1, flop=flop)
    assert alone["collective_ms"] == 0


@pytest.mark.parametrize("topology", ["v9:2x2", "v5e", "v5e:16"])
def test_unknown_topologies_are_refused(topology):
    with pytest.raises(ValueError, match=topology):
        get_devices(topology)
