"""``python -m dsla``."""

import sys

from .cli import main

sys.exit(main())
