"""Worker processes that label structures."""
