"""The ledger: every sentence of the essay as a claim, run by one command, judged as one family.

claim         the content of a claim file, and its mistakes
candidates    what arms usually choose among
measures      one number from a trained member, or from several
design        a claim's arms as whole configs, and the members they need
declarations  what a claim said when its first verdict member trained
members       all members of several claims, each once, and which of them are trained
budget        what they cost, by claim
tuning        the equal-budget rule
probe_runner  quantities that need the trained parameters, computed afterwards and kept
measurements  one number per seed for each question; preconditions and controls
verdicts      the rows of ledger.json, over the whole family; the rules are analysis's
cautions      what is said beside a verdict, because it limits what it says
ledger        runs all of it; resumable
again         judges a stored ledger anew; nothing is trained
page          ledger.json and ledger.html
markdown      ledger.md

A grid (`jaxreg grid`) is a table of claims of one kind, run by the same engine:

grid_cells    its cells as claims
grid_run      runs it: one file, one picture, one page
grid_results  grid.json
grid_law      the law that is fitted on some cells and tested on the others
grid_budget   what it costs
"""
