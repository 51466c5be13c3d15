"""`python -m framework.runs`: compare the runs below a directory."""

import sys

from framework.runs.compare_command import main

sys.exit(main())
