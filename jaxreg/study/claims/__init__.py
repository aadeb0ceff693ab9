"""The ledger: every sentence of the essay as a claim, run by one command, judged as one family.

claim      what a claim file says, and what is wrong with it
measures   one number from a trained member, or from several
design     a claim's arms as whole configs, and the members they need
tuning     the equal-budget rule
probing    quantities that need the trained parameters, computed afterwards and kept
ledger     all members of all claims, trained once each; resumable
evidence   one number per seed for each question; preconditions and controls
judge      verdicts over the whole family
page       ledger.html
plan       can a design decide, and what will it cost
"""
