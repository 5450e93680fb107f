"""``python -m ebm3d``: the command where its script is not on the path."""

from ebm3d.commands import main

raise SystemExit(main())
