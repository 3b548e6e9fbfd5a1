"""A provider's usage export against our own attempts: reading it, comparing, explaining."""
