"""`python -m releasegate`.

Python puts the working directory in front of the path for `-m`, and inside a config repo that is hostile input: a
`yaml.py` there would be imported instead of PyYAML (threat: module shadowing). It is taken out before anything is.
"""

import os
import sys

if sys.path and sys.path[0] in {"", os.getcwd()}:  # noqa: PTH109 - pathlib is not imported yet
    del sys.path[0]

from releasegate.cli import main

main()
