"""The one package that talks HTTP to GitHub."""
