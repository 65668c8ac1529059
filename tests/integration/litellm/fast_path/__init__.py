"""Tests that share one gate for each way; being a package tells pytest when the last of them is over."""
