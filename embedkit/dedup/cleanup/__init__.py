"""From groups to a plan, and the plan carried out and undone on files."""
