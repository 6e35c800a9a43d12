"""All routes of the API; its document is made of this table, and so are its handlers."""

from __future__ import annotations

from embedkit.server.routes import explore, items, review, search, selections, system

__all__ = ["ENDPOINTS"]

ENDPOINTS = (
    *system.ENDPOINTS,
    *search.ENDPOINTS,
    *items.ENDPOINTS,
    *review.ENDPOINTS,
    *explore.ENDPOINTS,
    *selections.ENDPOINTS,
)
