"""What a design will need, before it runs: of an experiment, a claim or a whole ledger.

seed_plan         how many seeds decide it, by the spread of a pilot, and how long they take
training_time     what is left to train and how long that takes
accelerator_plan  memory, FLOP and device-hours on an accelerator that need not be here
design_members    the members that a design's file trains
targets           the accelerators that can be compiled for
compile_process   the process that compiles for one, ahead of time
footprint         what a compiled program needs: memory, FLOP, operations
operations        what a device starts in a program, counted in its text
"""
