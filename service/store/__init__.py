"""The store: searches, trials, fronts, jobs, devices and artifacts in SQLite or PostgreSQL, behind one class."""
