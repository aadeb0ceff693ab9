"""The `jaxreg` command.

main finds the subcommand; train, compare, report, inspect, sample and list check what they are
given and call the study; arguments reads flags and collects mistakes; devices starts JAX; display
and tables are what people see.
"""
