"""Which of several bundles tells anomalies best, from normal footage alone."""
