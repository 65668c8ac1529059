"""What tests of every room share: free ports, waiting on conditions, process hygiene."""
