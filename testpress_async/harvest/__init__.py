"""Bulk export: a plan of shards, read concurrently, landed durably."""
