"""Settings: declared once, loaded from TOML, environment and flags."""
