"""Models of the Hugging Face hub: their files fetched into its cache, and what is wrong told in words. No torch."""
