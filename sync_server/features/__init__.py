"""Feature rows on their way in: checked row by row, then written under the subject's live grant."""
