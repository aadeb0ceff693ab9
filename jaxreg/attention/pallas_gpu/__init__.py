"""Attention for GPUs by Pallas kernels (Triton), with position-keyed dropout, in O(T) memory.

kernel    the attention function, what it cannot do, and its gradient
plan      what is known before tracing: sizes, settings, the tiles
tile      one tile: its logits, which connections may be read, which are kept
forward   the forward kernel
backward  the backward kernels: queries, keys and values, bias

These kernels are compiled for H100 in the tests, never run on a GPU: no device was at hand. On CPU
they run interpreted, which checks every bit of the masks and all results, not the speed.

Layout. One Threefry call serves the four queries 4g ... 4g + 3 of a group g (`masks.py`). A tile is
therefore four products, one for each lane: lane i holds the queries 4g + i of the block's groups,
read with a stride of four rows. All four then meet the bits of a connection in the same thread; no
shuffle, no transposition, and no copy of the inputs is needed.

Why Triton. JAX warns since 0.11 that Pallas's Triton backend will go. Its successor, Mosaic GPU
(compute capability 9.0 and later), compiles our bits beside its matrix products for an H100; but
the interpreter of JAX 0.12 has no product whose first operand lies in registers, as the weights do,
so that such a kernel could not be checked without a GPU.
"""
