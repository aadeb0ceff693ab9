"""Attention in O(T) memory, block by block.

kernel  the forward pass, and a backward pass that recomputes the masks
tiles   one tile: which of its connections may be read, and which are kept
parts   the part of a batch that is computed at once
"""
