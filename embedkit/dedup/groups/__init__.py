"""From pairs to groups, and why images are in one."""
