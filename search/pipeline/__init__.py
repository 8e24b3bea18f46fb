"""The pipeline: prepare, train, model, search, verify, export; each stage resumable and skipped when already stored."""
