"""The review of near-duplicates: decisions, their journal, and the plan that they make."""
