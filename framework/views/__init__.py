"""Views: pictures and pages of runs, models, formulas and data."""
