"""Target-speech extraction and speech emotion recognition with ESPnet."""
