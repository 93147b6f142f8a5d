"""Personalization on the device."""
