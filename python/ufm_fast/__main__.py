"""``python -m ufm_fast``: the same program as ``ufm-fast``."""

import sys

from ufm_fast.cli import main

sys.exit(main())
