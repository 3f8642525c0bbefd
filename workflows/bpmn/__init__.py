"""BPMN 2.0, executed: a pure interpreter. No clock, no I/O, no Temporal.

`deploy` turns a file into graphs, `step` lets one event happen to an instance's state, `simulate` runs
a process on a virtual clock. `docs/bpmn.md` has the coverage table and the validation rules.
"""
