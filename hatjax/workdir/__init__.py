"""The folder of a run: what it holds, written so that nothing is half written."""
