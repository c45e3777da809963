"""The command `emperor`: one module per group of verbs, all of them thin."""
