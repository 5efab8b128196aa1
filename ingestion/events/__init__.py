"""What tells that a table has something new: its bucket, or a message on a queue.

::

    bucket  --look--> listing against the lake ─┐
    queue   --read--> messages, judged ─────────┴─> Arrival(source, table, partition key) -> whoever starts the ingest
"""
