"""Attention on TPUs as two Pallas kernels, forward and fused backward, with position-keyed dropout.

Compiled for v4, v5e, v5p, v6e and tpu7x by the TPU compiler (tests/attention/pallas_tpu), and run
in Pallas's interpreters; never run on a TPU.
"""
