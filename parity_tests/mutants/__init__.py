"""Mutation testing of the references and of what compares: change one operator or one number, see red.

    python -m parity_tests.mutants [--modules refimpl/conv.py ...]

`mutate` makes the mutants with the operators of cosmic-ray, `reach` finds which tests run which function,
`apply` puts a mutant into the running process, `hunt` tries it in a forked child, `explained` holds the
mutants that no test can tell from the original, and `table` prints the score of every module.
"""
