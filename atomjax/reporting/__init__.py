"""Tables and figures that all reports share."""
