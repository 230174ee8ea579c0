"""What bundles prove and cost, as one page that opens offline, and two of them side by side. Imports no runtime."""
