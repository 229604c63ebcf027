"""zkcert: zero-knowledge certificates of directional sharpness."""
