"""HTML that stands for itself: cards, pages of hits, reports."""
