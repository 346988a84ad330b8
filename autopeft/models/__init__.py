"""Base models: loading them, and which of their modules plays which role."""
