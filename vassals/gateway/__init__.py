"""The process that supervises one vassal's workers (`main`).

Decides, pure: `seats`, what becomes of each worker's place; `recycling`, who has served long enough; `sentence`, who
is stuck.
Does: `workers` and `leash`, by `forking` or a `template`; `recycler`, `harakiri`, `trace`. Beside the workers:
`control`, the emperor's connection; `output`, `lines` and `files`, what the app writes; `hooks` and `commands`, what
the operator has run; `rest`, memory that is given back.
"""
