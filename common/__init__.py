"""The words everyone uses: errors, intervals, settings, verdicts, logs. Imports nothing of Penstock."""
