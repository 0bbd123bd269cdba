"""What is shown: tables, figures and the page, from stored results only. No torch, no model."""
