"""From measured variants and a budget to the one that is deployed. Imports no runtime and no server."""
