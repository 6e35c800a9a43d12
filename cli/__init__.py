"""The command line of embedkit: one file a command, no logic of its own."""
