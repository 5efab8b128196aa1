"""Candidate -> release: build beside the readers, publish by one pointer move, roll back by the same move."""
