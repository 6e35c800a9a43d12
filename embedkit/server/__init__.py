"""The search service: an HTTP API and a page over indexes, stores and near-duplicates.

``embedkit serve`` starts it. Everything that needs starlette or uvicorn is in this package.
"""
