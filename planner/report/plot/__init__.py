"""A call over time, predicted and measured: a page, a picture, a trace."""
