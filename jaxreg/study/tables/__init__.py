"""From files of results, of any framework, to `analysis.runs.Runs`; no JAX."""
