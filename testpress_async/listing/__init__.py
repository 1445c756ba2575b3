"""Lists that arrive page by page: lazily, in order, with concurrent prefetch, resumable."""
