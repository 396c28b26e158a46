"""Published numbers, runs over seeds, claims and their statistics, figures and pages."""
