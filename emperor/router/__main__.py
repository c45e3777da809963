"""``python -m emperor.router --seat N [--user NAME] [--head-timeout S] …``.

The emperor starts it with the bound control socket as descriptor 3.
"""

from emperor.router.main import main

main()
