"""Gates: suite files in, verdicts out. Judges staged batches and candidate warehouses; moves nothing."""
