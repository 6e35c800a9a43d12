"""One module a step, each with ``run(context)``."""
