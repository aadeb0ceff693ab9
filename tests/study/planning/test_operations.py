"""The count of operations in a compiled program's text."""

import pytest

from jaxreg.study.planning.operations import operations

HLO = """HloModule made_up

%fused (p: f32[4]) -> f32[4] {
  %p = f32[4]{0} parameter(0)
  ROOT %sine = f32[4]{0} sine(%p)
}

%inner.body (p: (s32[], f32[4])) -> (s32[], f32[4]) {
  %p.1 = (s32[], f32[4]{0}) parameter(0)
  %x.1 = f32[4]{0:T(128)} get-tuple-element(%p.1), index=1
  %f.1 = f32[4]{0:T(128)} fusion(%x.1), kind=kLoop, calls=%fused
  ROOT %t.1 = (s32[], f32[4]{0}) tuple(%p.1, %f.1)
}

%cond (p: (s32[], f32[4])) -> pred[] {
  %p.2 = (s32[], f32[4]{0}) parameter(0)
  ROOT %less = pred[] compare(%p.2, %p.2), direction=LT
}

%steps.body (p: (s32[], f32[4])) -> (s32[], f32[4]) {
  %p.3 = (s32[], f32[4]{0}) parameter(0)
  %w.3 = (s32[], f32[4]{0}) while(%p.3), condition=%cond, body=%inner.body
  %one = s32[] add(%p.3, %p.3)
  %f.3 = f32[4]{0} fusion(%w.3), kind=kLoop, calls=%fused
  %c.3 = (f32[4]{0}, u32[]{:S(2)}) copy-start(%f.3)
  %d.3 = f32[4]{0} copy-done(%c.3)
  ROOT %t.3 = (s32[], f32[4]{0}) tuple(%one, %d.3)
}

%small.body (p: f32[4]) -> f32[4] {
  %p.4 = f32[4]{0} parameter(0)
  ROOT %copy.4 = f32[4]{0} copy(%p.4)
}

%called (p: f32[4]) -> f32[4] {
  %p.6 = f32[4]{0} parameter(0)
  ROOT %dot.6 = f32[4]{0} dot(%p.6, %p.6), lhs_contracting_dims={}
}

ENTRY %main (p: f32[4]) -> f32[4] {
  %p.5 = f32[4]{0} parameter(0)
  %s.5 = f32[4]{0} while(%p.5), condition=%cond, body=%small.body
  %w.5 = (s32[], f32[4]{0}) while(%s.5), condition=%cond, body=%steps.body
  %k.5 = f32[4]{0} call(%w.5), to_apply=%called
  ROOT %f.5 = f32[] fusion(%k.5), kind=kLoop, calls=%fused
}
"""


@pytest.mark.parametrize(
    "depth, expected",
    [
        # the fusion, what is called, the small loop's copy, and all of the larger loop
        (0, 1 + 1 + 1 + 3),
        # of two loops the larger: fusion, copy, and its inner fusion; the addition of two numbers
        # and a copy's end are nothing
        (1, 3),
        (2, 1),
        (3, 1),  # there is none: the last one that there is
    ],
)
def test_a_loop_s_operations(depth, expected):
    assert operations(HLO, depth) == expected
