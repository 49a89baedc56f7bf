"""releasegate: the required check of a GitOps config repo. A green verdict is evidence.

Data flows one way; a lower layer imports nothing from a higher one (tests/test_layers.py reads the imports):

    0  model, k8s, yamlio        the frozen values, and pure readings of text and objects
    1  config, process, git, tools/   what touches the machine: one module starts processes
    2  discover/, render, chartvalues, schemas/, sources   which releases exist, what they render to, what a kind must look like
    3  rules/                    small pure functions that yield findings
    4  evaluate, promotion/      (rule, subjects, waivers, base) -> Verdict; causes; exit code
    5  run, lint, report/        the order of the calls; verdicts -> terminal, JSON
    6  plugin, nodes, check, cli two fronts over the same calls; pytest is the runner
"""

__version__ = "0.1.0"
