"""A store in other formats."""
