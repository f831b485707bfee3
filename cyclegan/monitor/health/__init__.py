"""The health of a run: its curves, the alarms, and a summary in words."""
