"""Reports: a run, or several side by side, as one HTML page that needs no network."""
