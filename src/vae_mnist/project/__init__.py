"""What happens around a run: checks, locks, record, closing words."""
