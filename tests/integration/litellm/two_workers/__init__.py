"""Tests that share one gate of two workers; being a package tells pytest when the last of them is over."""
