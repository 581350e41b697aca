"""Pages and mail in a real browser."""
