"""``python -m emperor.router --seat N [--user NAME]``: the emperor starts it with the bound control socket as descriptor 3."""

from emperor.router.main import main

main()
