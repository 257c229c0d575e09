"""Extraction by masks of short-time spectra."""
