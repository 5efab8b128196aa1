"""Source -> staged raw batch. Reads operational databases and object storage; publishes nothing itself."""
