"""Metrics: defined once, beside the models, and asked for by name in every door.

::

    semantic_models, metrics in transformations/ ─(dbt parses, validates)─▶ semantic_manifest.json
      ─(compiled: one aggregate expression each, bound once)─▶ "metrics" of the release's manifest
      ─(question: names, groups, grain, filters)─▶ one SELECT over what the role sees of the dataset

A release carries its definitions: who reads an old one gets the metrics of that day. A metric is one SQL expression
over the rows of one dataset, so a ratio is a ratio of sums at whatever grouping, never a mean of ratios.
"""

from warehouse.metrics_layer.compiled import compile_metrics
from warehouse.metrics_layer.questions import Dimension, Metric, everything, metrics, question

__all__ = ["Dimension", "Metric", "compile_metrics", "everything", "metrics", "question"]
